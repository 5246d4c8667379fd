"""rsync: the parts of a transfer, the command lines, what its output says."""

from __future__ import annotations

from pathlib import Path

import pytest

from podtasks.pure.rsync_command import build_download_words, build_upload_words, join_remote_shell
from podtasks.pure.rsync_output import (
    BytesMoved,
    FileMoved,
    find_general_reason,
    is_missing_there,
    last_words,
    parse_complaints,
    parse_line,
)
from podtasks.pure.rsync_parts import FILE_COST_BYTES, RsyncPart, split_download, split_mapping, split_upload
from podtasks.pure.transfer import LocalFile, VolumeFile

MB = 1 << 20


def local(path: str, place: str, size_bytes: int = 10) -> LocalFile:
    return LocalFile(Path(path), place, size_bytes, 0)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"file <f+++++++++ 30000000 30003703 big", FileMoved("big", 30_000_000)),
        (b"file >f.st...... 3 46 sub/two words", FileMoved("sub/two words", 3)),
        (b"file <f+++++++++ 1 44 we\\#012ird \\#001", FileMoved("we\nird \x01", 1)),
        (b"file <f+++++++++ 1 44 not utf \xff", FileMoved("not utf \udcff", 1)),
        (b"file <f+++++++++ 1 44  file <f", FileMoved(" file <f", 1)),
        (b"file cd+++++++++ 4096 0 sub/", None),
        (b"file .f..t...... 3 0 only/its/time", None),
        (b"       32768   0%    0.00kB/s    0:00:00  ", BytesMoved(32768)),
        (b"    30000004 100%   19.71MB/s    0:00:01 (xfr#3, to-chk=0/4)", BytesMoved(30_000_004)),
        (b"created directory b", None),
        (b"", None),
    ],
)
def test_line_says(line: bytes, said: object) -> None:
    assert parse_line(line) == said


@pytest.mark.parametrize(
    ("name", "stderr", "why"),
    [
        ("a/b", 'rsync: [sender] send_files failed to open "/x/a/b": Permission denied (13)', "Permission denied"),
        ("a/b", 'file has vanished: "/x/a/b"', "it vanished meanwhile"),
        ("b", 'rsync: [sender] link_stat "/x/b" failed: No such file or directory (2)', "No such file or directory"),
        (
            "a/b",
            'rsync: [receiver] mkstemp "/w/a/.b.Zk81aQ" failed: No space left on device (28)',
            "No space left on device",
        ),
        ("b", 'rsync: [receiver] write failed on "/w/b": No space left on device (28)', "No space left on device"),
        ("b", 'rsync: [receiver] rename "/w/.b.Zk81aQ" -> "b": Not a directory (20)', "Not a directory"),
        ("a/b", 'rsync: [receiver] open "/w/a/.rsync-partial/b" failed: Full (122)', "Full"),
        ("a/b", "could not make way for new regular file: a/b", "a folder with files is in its place"),
        ("two\nlines", 'rsync: [sender] send_files failed to open "/x/two\\#012lines": Bad (5)', "Bad"),
    ],
)
def test_reason_of_a_file_that_stayed_behind(name: str, stderr: str, why: str) -> None:
    stderr += "\nrsync error: some files/attrs were not transferred (see previous errors) (code 23) at main.c(1394)\n"
    assert parse_complaints(stderr.encode(), ("/x", "/w")) == {name: why}


def test_files_of_which_rsync_says_nothing_have_the_last_reason_it_gave() -> None:
    stderr = b'rsync: [receiver] write failed on "/w/b": No space left on device (28)\nrsync error: error in file IO\n'
    assert find_general_reason(stderr) == "No space left on device"
    assert find_general_reason(b"") == "rsync gave no reason"


def test_last_words_are_those_that_tell_something() -> None:
    stderr = (
        b"root@127.0.0.1: Permission denied (publickey).\n"
        b"rsync: connection unexpectedly closed (0 bytes received so far) [sender]\n"
        b"rsync error: unexplained error (code 255) at io.c(231)\n"
    )
    assert last_words(stderr) == "root@127.0.0.1: Permission denied (publickey)."
    assert last_words(b"") == "no reason given"


@pytest.mark.parametrize(
    ("exit_code", "stderr", "missing"),
    [
        (127, b"", True),
        (12, b"bash: line 1: rsync: command not found\n", True),
        (12, b"sh: 1: rsync: not found\n", True),
        (12, b"rsync: connection unexpectedly closed\n", False),
    ],
)
def test_other_side_without_rsync(exit_code: int, stderr: bytes, missing: bool) -> None:
    assert is_missing_there(exit_code, stderr) == missing


@pytest.mark.parametrize(
    ("path", "place", "expected"),
    [
        ("/p/data/a/x.wav", "data/a/x.wav", ("/p", "", "data/a/x.wav")),
        ("/mnt/d/a/x.wav", "data/audio/a/x.wav", ("/mnt/d", "data/audio", "a/x.wav")),
        ("/p/words.jsonl", "data/words.jsonl", ("/p", "data", "words.jsonl")),
        ("/p/old.jsonl", "data/new.jsonl", ("/p/old.jsonl", "data/new.jsonl", "")),
        ("/x.wav", "x.wav", ("/", "", "x.wav")),
    ],
)
def test_common_end_of_path_and_place(path: str, place: str, expected: tuple[str, str, str]) -> None:
    assert split_mapping(Path(path), place) == expected


def test_files_of_one_mapping_share_a_part_and_a_renamed_one_has_its_own() -> None:
    files = [local("/p/data/a/1.wav", "data/a/1.wav"), local("/m/b/2.wav", "data/c/2.wav"), local("/p/x.mp3", "y.mp3")]
    parts = split_upload(files, "/workspace", 4)
    assert parts == [
        RsyncPart("/p", "/workspace", {"data/a/1.wav": 10}),
        RsyncPart("/m/b", "/workspace/data/c", {"2.wav": 10}),
        RsyncPart("/p/x.mp3", "/workspace/y.mp3", {"y.mp3": 10}, is_renamed=True),
    ]


def test_few_files_are_one_part() -> None:
    assert len(split_upload([local(f"/p/{n}", str(n)) for n in range(100)], "/w", 4)) == 1


def test_many_files_are_cut_into_runs_of_neighbours_with_about_the_same_work() -> None:
    files = [local(f"/p/d/{number:05}", f"d/{number:05}", 1000) for number in range(20_000)]
    parts = split_upload(files, "/w", 4)
    assert [len(part.sizes) for part in parts] == [5000] * 4
    assert sorted(name for part in parts for name in part.sizes) == sorted(file.place for file in files)
    assert next(iter(parts[1].sizes)) == "d/05000"


def test_one_big_file_leaves_the_small_ones_to_the_other_parts() -> None:
    files = [local("/p/big", "big", 1000 * MB), *(local(f"/p/s/{n}", f"s/{n}", MB) for n in range(1000))]
    parts = split_upload(files, "/w", 4)
    assert len(parts) >= 3
    with_big = next(part for part in parts if "big" in part.sizes)
    assert len(with_big.sizes) < 60
    works = [sum(part.sizes.values()) + FILE_COST_BYTES * len(part.sizes) for part in parts if part is not with_big]
    assert max(works) < 0.6 * sum(works)


def test_only_texts_worth_it_are_compressed() -> None:
    texts = [local("/p/a.jsonl", "a.jsonl", 3 * MB), local("/p/b.CSV", "b.CSV", MB)]
    sounds = [local("/p/a.wav", "a.wav", 30 * MB), local("/p/m.tar.gz", "m.tar.gz", 30 * MB)]
    parts = split_upload([*texts, *sounds], "/w", 4)
    assert {name: part.compresses for part in parts for name in part.sizes} == {
        "a.jsonl": True,
        "b.CSV": True,
        "a.wav": False,
        "m.tar.gz": False,
    }
    few = split_upload([local("/p/a.json", "a.json"), *sounds], "/w", 1)
    assert [part.compresses for part in few] == [False], "a stream of its own would cost more than it saves"


def test_download_goes_from_the_volume_to_the_same_places_below_the_target() -> None:
    parts = split_download([VolumeFile("runs/1/x", 5, 0.0)], "/workspace", "/home/me/fetched", 4)
    assert parts == [RsyncPart("/workspace", "/home/me/fetched", {"runs/1/x": 5})]


def test_upload_words() -> None:
    part = RsyncPart("/my data", "/workspace/a b", {"x": 1}, compresses=True)
    words = build_upload_words(part, ["ssh", "-i", "/a key"], "root@203.0.113.7")
    assert words[0] == "rsync"
    assert {"--files-from=-", "--from0", "--compress", "--copy-links", "--no-owner", "--times"} <= set(words)
    assert words[-4:] == ["--rsh=ssh -i '/a key'", "--", "/my data/", "root@203.0.113.7:/workspace/a b/"]
    assert "--dry-run" not in words
    assert "--dry-run" in build_upload_words(part, ["ssh"], "root@h", dry_run=True)


def test_a_renamed_file_is_named_by_itself() -> None:
    part = RsyncPart("/p/a.json", "/workspace/b.json", {"b.json": 1}, is_renamed=True)
    words = build_upload_words(part, ["ssh"], "root@2001:db8::1")
    assert words[-2:] == ["/p/a.json", "root@[2001:db8::1]:/workspace/b.json"]
    assert "--files-from=-" not in words


def test_download_words() -> None:
    words = build_download_words(RsyncPart("/workspace", "/t", {"x": 1}), ["ssh"], "root@h")
    assert words[-2:] == ["root@h:/workspace/", "/t/"]
    assert "--compress" not in words


def test_remote_shell_is_quoted_as_rsync_reads_it() -> None:
    assert join_remote_shell(["ssh", "it's here", 'a"b', "plain"]) == "ssh 'it''s here' 'a\"b' plain"
