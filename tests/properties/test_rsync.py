"""Transfers by rsync: files cut into parts, names through rsync's own words, its output read back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path, PurePath

from hypothesis import example, given
from hypothesis import strategies as st

from podtasks.pure.rsync_command import build_upload_words, join_remote_shell, list_names
from podtasks.pure.rsync_output import BytesMoved, FileMoved, last_words, parse_complaints, parse_line
from podtasks.pure.rsync_parts import RsyncPart, split_download, split_mapping, split_upload
from podtasks.pure.transfer import LocalFile, VolumeFile
from tests.properties.hostile import NAMES, WORDS
from tests.properties.profile import examples

SIZES = st.one_of(st.integers(0, 10), st.integers(0, 10**10))
PLACES = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
# rsync ends a name at NUL, and tells control characters and bytes that are no UTF-8 as \#ooo.
FILE_NAMES = st.one_of(NAMES, st.sampled_from(["#a", ";a", "-a", " a", "a ", "\\#012", "*", "a\nb", "~", "--x", "a:b"]))
RECORDER = r"""
import os, sys
with open(sys.argv[1], "wb") as file:
    file.write(b"".join(os.fsencode(word) + b"\0" for word in sys.argv[2:]))
sys.exit(1)
"""


@examples(100)
@given(st.dictionaries(PLACES, SIZES, max_size=12), st.integers(1, 8))
def test_parts_of_a_download_hold_each_file_once(sizes: dict[str, int], streams: int) -> None:
    files = [VolumeFile(place, size, 0.0) for place, size in sizes.items()]
    parts = split_download(files, "/workspace", "/here", streams)
    assert [name for part in parts for name in part.sizes if sizes[name] != part.sizes[name]] == []
    assert sorted(name for part in parts for name in part.sizes) == sorted(sizes)
    assert len(parts) <= streams + 2
    assert all(part.sizes for part in parts)


@examples(100)
@given(st.dictionaries(PLACES, SIZES, max_size=12), PLACES, st.integers(1, 8), st.booleans())
def test_parts_of_an_upload_take_each_file_to_its_place(
    sizes: dict[str, int], target: str, streams: int, is_renamed: bool
) -> None:
    def path_of(place: str) -> str:
        return f"/home/me/{place}{' 2' if is_renamed else ''}"

    files = [LocalFile(Path(path_of(place)), f"{target}/{place}", size, 0) for place, size in sizes.items()]
    arrived = {}
    for part in split_upload(files, "/workspace", streams):
        for name in part.sizes:
            source = part.source if part.is_renamed else f"{part.source}/{name}"
            arrived[part.target if part.is_renamed else f"{part.target}/{name}"] = source.replace("//", "/")
    assert arrived == {f"/workspace/{target}/{place}": path_of(place) for place in sizes}


@examples(200)
@given(st.lists(NAMES, min_size=1, max_size=5), st.lists(NAMES, min_size=1, max_size=5))
def test_a_mapping_is_put_together_again(here: list[str], there: list[str]) -> None:
    path, place = PurePath("/", *here), "/".join(there)
    source, target, name = split_mapping(path, place)
    assert str(PurePath(source, name)) == str(path)
    assert "/".join(part for part in (target, name) if part) == place


@examples(12)
@given(st.lists(WORDS.filter(lambda word: word.strip() == word and word), min_size=1, max_size=5))
@example(["-o", "UserKnownHostsFile=/a b/it's \"here\"", "''", "-p", "22"])
def test_rsync_gives_the_remote_shell_its_words(words: list[str]) -> None:
    words = [word for word in words if "\n" not in word and "\r" not in word] or ["x"]
    with tempfile.TemporaryDirectory() as folder:
        seen, program = Path(folder) / "seen", Path(folder) / "recorder.py"
        program.write_text(RECORDER)
        shell = join_remote_shell([sys.executable, "-S", str(program), str(seen), *words])
        subprocess.run(["rsync", f"--rsh={shell}", "host:/x", folder], capture_output=True, check=False, timeout=20)
        given_words = seen.read_bytes().split(b"\0")[: len(words)]
    assert [os.fsdecode(word) for word in given_words] == words


@examples(10)
@example({"#a": b"1", ";a": b"", "-a": b"22", "\\#012": b"333", "a\nb": b"4", "a:b": b"5"})
@given(st.dictionaries(FILE_NAMES, st.binary(max_size=20), min_size=1, max_size=5))
def test_files_of_any_name_arrive_by_a_real_rsync_and_are_told_by_their_names(files: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as source, tempfile.TemporaryDirectory() as target:
        for name, content in files.items():
            (Path(source) / name).write_bytes(content)
        part = RsyncPart(source, target, {name: len(content) for name, content in files.items()})
        words = build_upload_words(part, ["ssh"], "root@host")
        words = [*(word for word in words[:-1] if not word.startswith("--rsh=")), f"{target}/"]
        listed = b"".join(os.fsencode(name) + b"\0" for name in list_names(part))
        done = subprocess.run(words, input=listed, capture_output=True, check=True, timeout=20)
        assert {path.name: path.read_bytes() for path in Path(target).iterdir()} == files
        told = [moved for line in re.split(rb"[\r\n]", done.stdout) if (moved := parse_line(line)) is not None]
    arrived = {event.name.removeprefix("./"): event.size_bytes for event in told if isinstance(event, FileMoved)}
    assert arrived == {name: len(content) for name, content in files.items()}


@examples(300)
@given(st.one_of(st.binary(max_size=40), st.binary(max_size=20).map(b"file <f+++++++++ 3 4 ".__add__)))
def test_any_output_of_rsync_is_read_without_an_error(data: bytes) -> None:
    assert isinstance(parse_line(data), FileMoved | BytesMoved | None)
    assert isinstance(parse_complaints(data, ["/workspace"]), dict)
    assert last_words(data)
