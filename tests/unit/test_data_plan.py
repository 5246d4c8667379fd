"""Which entries a user means, and which files an earlier sync leaves to be sent."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from podtasks.pure.data_plan import build_entries, choose_entries, choose_sample, split_files
from podtasks.pure.errors import UsageError
from podtasks.pure.transfer import LocalFile

DATA = {"data/audio_0": "data/audio_0", "data/audio_1": "data/audio_1", "/else/words.jsonl": "words.jsonl"}
ENTRIES = build_entries(DATA, Path("/project"))


def files(count: int) -> list[LocalFile]:
    return [LocalFile(Path("x"), f"p{number}", 1, number) for number in range(count)]


def test_local_paths_count_from_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    paths = [entry.path for entry in build_entries({**DATA, "~/x": "x"}, Path("/project"))]
    assert paths == [
        Path("/project/data/audio_0"),
        Path("/project/data/audio_1"),
        Path("/else/words.jsonl"),
        Path("/home/me/x"),
    ]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], [0, 1, 2]),
        (["audio_1"], [1]),
        (["./data/audio_0/"], [0]),
        (["words.jsonl", "data/audio_0"], [0, 2]),
        (["/else/words.jsonl"], [2]),
    ],
)
def test_entries_are_chosen_by_path_or_last_part(names: list[str], chosen: list[int]) -> None:
    assert choose_entries(ENTRIES, names) == [ENTRIES[number] for number in chosen]


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"'audio_2'; did you mean audio_\d\?, 'zzz'") as caught:
        choose_entries(ENTRIES, ["audio_0", "audio_2", "zzz"])
    assert all(name in caught.value.next_step for name in DATA)


def test_an_empty_setting_is_explained() -> None:
    with pytest.raises(UsageError, match="names nothing"):
        choose_entries([], [])


def test_files_are_told_apart_by_what_was_confirmed() -> None:
    a, b, c, d = files(4)
    split = split_files([a, b, c, d], {"p0": (1, 0), "p1": (2, 1), "p2": (1, 99), "gone": (1, 1)})
    assert (split.unchanged, split.changed, split.unknown) == ((a,), (b, c), (d,))


def test_the_sample_is_small_and_holds_the_newest() -> None:
    many = files(1000)
    sample = choose_sample(many, random.Random(1))
    assert len(sample) == 21 and many[-1] in sample
    assert choose_sample(many[:3], random.Random(1)) and len(choose_sample(many[:3], random.Random(1))) == 3
    assert choose_sample([], random.Random(1)) == []
