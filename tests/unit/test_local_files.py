"""Walking over local data: what is taken, what is named, and in what order."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from podtasks.flows.local_files import walk


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def test_files_come_in_the_order_of_their_names_with_their_places(tmp_path: Path) -> None:
    make(tmp_path, "b/2", "b/1", "a", "c d/é\n")
    tree = walk(tmp_path, "data/x")
    assert [file.place for file in tree.files] == ["data/x/a", "data/x/b/1", "data/x/b/2", "data/x/c d/é\n"]
    first = tree.files[0]
    assert (first.path, first.size_bytes, first.modified_ns) == (tmp_path / "a", 1, (tmp_path / "a").stat().st_mtime_ns)
    assert tree.size_bytes == sum(file.size_bytes for file in tree.files)


def test_a_single_file_has_the_place_itself(tmp_path: Path) -> None:
    make(tmp_path, "words.jsonl")
    assert [file.place for file in walk(tmp_path / "words.jsonl", "data/words.jsonl").files] == ["data/words.jsonl"]
    assert walk(tmp_path / "none", "x").files == []


def test_links_are_followed_but_not_in_circles_and_not_to_nothing(tmp_path: Path) -> None:
    make(tmp_path, "elsewhere/x", "top/real")
    (tmp_path / "top/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "top/twice").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(tmp_path / "top")
    (tmp_path / "top/dangling").symlink_to(tmp_path / "none")
    tree = walk(tmp_path / "top", "t")
    assert [file.place for file in tree.files] == ["t/link/x", "t/real", "t/twice/x"]
    assert tree.failures == [(str(tmp_path / "top/dangling"), "it is a link to nothing")]
    assert [path for path, _ in tree.skipped] == [str(tmp_path / f"top/{name}/back") for name in ("link", "twice")]


def test_what_is_no_file_is_skipped_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("socket")
    make(tmp_path, "file")
    tree = walk(tmp_path, "t")
    assert [file.place for file in tree.files] == ["t/file"]
    assert [Path(path).name for path, _ in tree.skipped] == ["pipe", "socket"]


def test_a_folder_that_cannot_be_read_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "good/x", "shut/y")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    tree = walk(tmp_path, "t")
    assert [file.place for file in tree.files] == ["t/good/x"]
    assert tree.failures == [(str(tmp_path / "shut"), "the folder cannot be read: Permission denied")]
