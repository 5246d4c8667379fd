"""Copies of runs' logs on this machine."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import run_copies
from podtasks.flows.run_copies import RunCopy
from podtasks.pure.run import Run

RUN = Run("digits-1", "/workspace/runs/digits-1", "/workspace/logs/current.log", 170, "stop", "/workspace/demo/out")


@pytest.fixture
def files(tmp_path: Path) -> ProjectFiles:
    return ProjectFiles(tmp_path)


def find(files: ProjectFiles, run_id: str | None = None, volume: Path | None = None) -> RunCopy | None:
    return run_copies.find(files, run_id, volume)


def test_copy_of_a_run_whose_end_was_seen(files: ProjectFiles) -> None:
    log_path = run_copies.begin(files, RUN)
    log_path.write_bytes(b"step 1\r\xff\n")
    run_copies.finish(files, RUN, 3, "max_hours")
    source = f"what was streamed here, {log_path}"
    copied_at = log_path.stat().st_mtime
    assert find(files, "digits-1") == RunCopy(
        "digits-1", source, b"step 1\r\xff\n", 3, "max_hours", is_whole=True, copied_at=copied_at
    )
    assert find(files) == find(files, "digits-1")


def test_copy_of_a_run_whose_end_was_not_seen_is_not_whole(files: ProjectFiles) -> None:
    run_copies.begin(files, RUN)
    copy = find(files)
    assert copy is not None
    assert (copy.exit_code, copy.reason, copy.is_whole) == (None, "", False)


def make_volume(folder: Path, log: bytes, **record: object) -> Path:
    (folder / "runs/digits-2").mkdir(parents=True)
    (folder / "runs/newest").write_text("digits-2\n")
    (folder / "runs/digits-2/run.json").write_text(json.dumps({"run_id": "digits-2", **record}))
    (folder / "logs").mkdir()
    (folder / "logs/current.log").write_bytes(log)
    return folder


def test_local_clouds_volume_has_the_newest_run_whether_watched_or_not(files: ProjectFiles, tmp_path: Path) -> None:
    run_copies.begin(files, RUN)
    ended = {"log_start": 4, "log_end": 8, "exit_code": 7, "reason": "failed"}
    volume = make_volume(tmp_path / "volume", b"old newlater", **ended)
    copy = find(files, None, volume)
    assert copy is not None
    assert (copy.run_id, copy.log, copy.exit_code, copy.is_whole) == ("digits-2", b"newl", 7, True)
    assert find(files, "digits-1", volume) == find(files, "digits-1")


@pytest.mark.parametrize("run_id", ["../digits-2", "a/b", ".."])
def test_run_id_that_is_a_path_finds_nothing(files: ProjectFiles, tmp_path: Path, run_id: str) -> None:
    volume = make_volume(tmp_path / "volume", b"log", log_start=0, log_end=3)
    assert find(files, run_id, volume) is None


def test_copy_begun_again_keeps_what_it_has(files: ProjectFiles) -> None:
    run_copies.begin(files, RUN).write_bytes(b"shown")
    assert run_copies.begin(files, RUN).read_bytes() == b"shown"


def test_copy_without_an_id_is_that_of_the_run_followed_last(files: ProjectFiles) -> None:
    for number in (2, 1):
        run_copies.begin(files, replace(RUN, run_id=f"digits-{number}"))
    for number, when in ((2, 100), (1, 200)):
        os.utime(files.run_folder(f"digits-{number}") / "run.json", (when, when))
    found = find(files)
    assert found is not None
    assert found.run_id == "digits-1"


def test_no_copy_is_found_where_there_is_none(files: ProjectFiles) -> None:
    assert find(files) is None
    assert find(files, "digits-1") is None
    assert not files.state_folder.exists(), "looking makes nothing"
    files.run_folder("empty")
    assert find(files, "empty") is None


@pytest.mark.parametrize("record", ["", "{half"])
def test_copy_with_a_broken_record_still_shows_its_log(files: ProjectFiles, record: str) -> None:
    log_path = run_copies.begin(files, RUN)
    (log_path.parent / "run.json").write_text(record)
    copy = find(files, "digits-1")
    assert copy is not None
    assert (copy.log, copy.exit_code) == (b"", None)
