"""list_files.py, read_file.py, delete_files.py: what is on the volume, and nothing outside of it."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from tests.remote.fake_pod import FakePod, as_object

HOSTILE = ["plain", "two words", "-rf", "$(touch x)", "a;b'c\"d", "new\nline", "umläut", "\udcff\udcfe", "t\ta", "*"]


def list_place(pod: FakePod, place: str, *, deep: bool = True) -> dict[str, Any]:
    code, answer = pod.run_program("list_files.py", {"place": place, "deep": deep})
    assert code == 0, answer
    return answer


def names(answer: dict[str, Any]) -> list[str]:
    return [name for name, _, _ in answer["files"]]


def delete(pod: FakePod, *places: str) -> dict[str, Any]:
    process = pod.start_program("delete_files.py", {})
    out, err = process.communicate(b"".join(os.fsencode(place) + b"\0" for place in places), timeout=30)
    assert process.returncode == 0, err
    return as_object(out)


@pytest.fixture
def data(pod: FakePod) -> Path:
    """Files below data/, their names hostile."""
    folder = pod.volume / "data"
    (folder / "inner").mkdir(parents=True)
    for name in HOSTILE:
        (folder / "inner" / name).write_bytes(b"x" * len(name))
    (folder / "top").write_bytes(b"1234")
    os.utime(folder / "top", (1000, 2000.5))
    return folder


@pytest.mark.usefixtures("data")
def test_all_files_are_listed_with_size_and_time(pod: FakePod) -> None:
    answer = list_place(pod, "data")
    assert sorted(names(answer)) == sorted(["data/top", *(f"data/inner/{name}" for name in HOSTILE)])
    assert ["data/top", 4, 2000.5] in answer["files"]


@pytest.mark.usefixtures("data")
def test_one_level_has_files_and_the_names_of_folders(pod: FakePod) -> None:
    answer = list_place(pod, "data", deep=False)
    assert (names(answer), answer["folders"]) == (["data/top"], ["inner"])
    assert "data" in list_place(pod, "", deep=False)["folders"]


@pytest.mark.usefixtures("data")
def test_a_file_is_listed_by_its_own_place_and_nothing_where_nothing_is(pod: FakePod) -> None:
    assert names(list_place(pod, "data/top")) == ["data/top"]
    assert list_place(pod, "data/none") == {"files": [], "folders": []}
    assert list_place(pod, "data/top/below") == {"files": [], "folders": []}


def test_links_count_only_where_they_lead_to_a_file_of_the_volume(pod: FakePod, data: Path) -> None:
    secret = pod.root / "secret"
    secret.write_text("s")
    (data / "inside").symlink_to(data / "top")
    (data / "outside").symlink_to(secret)
    (data / "broken").symlink_to(data / "nothing")
    (data / "loop").symlink_to(data)
    os.mkfifo(data / "pipe")
    assert [name for name in names(list_place(pod, "data")) if "/inner/" not in name] == ["data/inside", "data/top"]
    assert list_place(pod, "data/outside")["files"] == []


def test_unfinished_files_are_listed_only_where_they_are_asked_for(pod: FakePod, data: Path) -> None:
    (data / ".rsync-partial").mkdir()
    (data / ".rsync-partial" / "half").write_bytes(b"x")
    assert not [name for name in names(list_place(pod, "data")) if "partial" in name]
    _, answer = pod.run_program("list_files.py", {"place": "data", "deep": True, "unfinished": True})
    assert "data/.rsync-partial/half" in names(answer)


def test_a_folder_that_cannot_be_listed_is_not_passed_over(pod: FakePod, data: Path) -> None:
    folder = os.open(data, os.O_RDONLY)
    for _ in range(20):  # 20 times 250 letters are more than a path may have
        os.mkdir("d" * 250, dir_fd=folder)
        inner = os.open("d" * 250, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    code, answer = pod.run_program("list_files.py", {"place": "data", "deep": True})
    assert (code, answer["detail"]) == (20, "File name too long")


@pytest.mark.parametrize("place", ["..", "data/../../secret", "/etc", "out/x", "a/./b"])
def test_a_place_outside_is_refused(pod: FakePod, place: str) -> None:
    (pod.volume / "out").symlink_to(pod.root)
    (pod.root / "x").mkdir()
    for program in ("list_files.py", "read_file.py"):
        code, answer = pod.run_program(program, {"place": place, "deep": True})
        assert code == 20, answer


@pytest.mark.usefixtures("data")
def test_a_small_file_is_read_whole(pod: FakePod) -> None:
    _, answer = pod.run_program("read_file.py", {"place": "data/top"})
    assert base64.b64decode(answer["data"]) == b"1234"
    for nothing in ("data/none", "data/inner", "data/top/x"):
        assert pod.run_program("read_file.py", {"place": nothing}) == (0, {"data": None})


def test_a_link_that_leads_out_is_not_read(pod: FakePod, data: Path) -> None:
    (data / "outside").symlink_to("/etc/passwd")
    code, answer = pod.run_program("read_file.py", {"place": "data/outside"})
    assert (code, "leads out" in answer["detail"]) == (20, True)


def test_files_are_deleted_and_folders_that_are_left_empty(pod: FakePod, data: Path) -> None:
    answer = delete(pod, *(f"data/inner/{name}" for name in HOSTILE), "data/none")
    assert answer == {"deleted": len(HOSTILE) + 1, "failed": []}
    assert sorted(path.name for path in data.iterdir()) == ["top"]
    delete(pod, "data/top")
    assert data.is_dir(), "a folder at the volume's top stays"


def test_nothing_outside_is_deleted(pod: FakePod, data: Path) -> None:
    keep = pod.root / "keep"
    keep.write_text("x")
    (pod.volume / "out").symlink_to(pod.root)
    (data / "link").symlink_to(keep)
    refused = ["../keep", str(keep), "out/keep", "data/../../keep", "data/inner"]
    answer = delete(pod, *refused, "data/link")
    assert keep.exists()
    assert not (data / "link").is_symlink()
    assert [place for place, _ in answer["failed"]] == refused


def test_many_files_are_listed_quickly(pod: FakePod) -> None:
    folder = pod.volume / "many"
    folder.mkdir()
    for number in range(5000):
        os.mknod(folder / str(number))
    began_s = os.times().children_user + os.times().children_system
    assert len(list_place(pod, "many")["files"]) == 5000
    # Time on the processor, since this machine may be busy with other tests.
    assert os.times().children_user + os.times().children_system - began_s < 1
