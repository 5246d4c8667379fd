"""event_files.py: where a training's event files are, whatever its folders are called."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.remote.fake_pod import REMOTE

HOSTILE = ["a b", "-rf", "it's; $(touch x)", 'q"uote', "new\nline", "größe-日本", "per%cent,comma:colon", "~"]


@pytest.fixture
def event_files(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.syspath_prepend(str(REMOTE))
    monkeypatch.delitem(sys.modules, "event_files", raising=False)
    import event_files

    return event_files


def put_event_file(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "events.out.tfevents.1795435200.pod.123.0").touch()


def choose(event_files: object, root: Path, logging_dir: str | None, output_dir: str | None) -> tuple[str, bool]:
    found = event_files.choose_folder(str(root / "clone"), str(root), logging_dir, output_dir)  # type: ignore[attr-defined]
    return os.path.relpath(found.path, root), found.has_event_files


@pytest.mark.parametrize(
    ("there", "logging_dir", "output_dir", "expected"),
    [
        (["clone/logs/a", "clone/out/runs/x"], "logs/a", "out", "clone/logs/a"),
        (["clone/out/runs/x", "clone/logs/b"], "logs/a", "out", "clone/out/runs"),
        (["clone/out/tb/version_0", "clone/logs/b"], None, "out", "clone/out"),
        (["clone/logs/a-debug"], "logs/a", "out", "clone/logs"),
        (["logs/other"], "logs/a", "out", "logs"),
        (["clone/lightning_logs/version_3"], None, "out", "clone/lightning_logs"),
        (["clone/runs/Nov23"], None, None, "clone/runs"),
    ],
)
def test_folder_is_the_first_likely_one_with_event_files(
    event_files: object,
    tmp_path: Path,
    there: list[str],
    logging_dir: str | None,
    output_dir: str | None,
    expected: str,
) -> None:
    for folder in there:
        put_event_file(tmp_path / folder)
    assert choose(event_files, tmp_path, logging_dir, output_dir) == (expected, True)


@pytest.mark.parametrize(
    ("logging_dir", "output_dir", "expected"),
    [("logs/a", "out", "clone/logs/a"), (None, "out", "clone/out/runs"), (None, None, "clone/logs")],
)
def test_folder_without_event_files_is_the_likeliest(
    event_files: object, tmp_path: Path, logging_dir: str | None, output_dir: str | None, expected: str
) -> None:
    (tmp_path / "clone/out/checkpoint-1").mkdir(parents=True)
    (tmp_path / "clone/out/trainer_state.json").touch()
    assert choose(event_files, tmp_path, logging_dir, output_dir) == (expected, False)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_names(event_files: object, tmp_path: Path, name: str) -> None:
    put_event_file(tmp_path / "clone" / "out" / name / "runs" / name)
    assert choose(event_files, tmp_path, f"logs/{name}", f"out/{name}") == (f"clone/out/{name}/runs", True)


def test_links_are_followed_and_loops_end(event_files: object, tmp_path: Path) -> None:
    put_event_file(tmp_path / "elsewhere")
    (tmp_path / "clone/logs").mkdir(parents=True)
    deep = tmp_path / "clone/logs" / "/".join("d" * 20)
    deep.mkdir(parents=True)
    # Without an eye on where it has been, a search would meet half a million folders before the last one.
    for name in ("again", "more"):
        (tmp_path / "clone/logs" / name).symlink_to(tmp_path / "clone/logs")
    assert choose(event_files, tmp_path, "logs", None) == ("clone/logs", False)
    (deep / "there").symlink_to(tmp_path / "elsewhere")
    assert choose(event_files, tmp_path, "logs", None) == ("clone/logs", True)


def test_absolute_folders_stand_as_they_are(event_files: object, tmp_path: Path) -> None:
    put_event_file(tmp_path / "tb")
    assert choose(event_files, tmp_path, str(tmp_path / "tb"), None) == ("tb", True)
