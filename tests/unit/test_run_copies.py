"""Copies of runs' logs on this machine."""

from __future__ import annotations

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


def test_copy_of_a_run_whose_end_was_seen(files: ProjectFiles) -> None:
    log_path = run_copies.begin(files, RUN)
    log_path.write_bytes(b"step 1\r\xff\n")
    run_copies.finish(files, RUN, 3, "max_hours")
    assert run_copies.find(files, "digits-1") == RunCopy("digits-1", log_path, 3, "max_hours")
    assert run_copies.find(files, None) == RunCopy("digits-1", log_path, 3, "max_hours")
    assert log_path.read_bytes() == b"step 1\r\xff\n"


def test_copy_of_a_run_whose_end_was_not_seen_has_no_exit_code(files: ProjectFiles) -> None:
    log_path = run_copies.begin(files, RUN)
    assert run_copies.find(files, None) == RunCopy("digits-1", log_path, None, "")


def test_copy_begun_again_keeps_what_it_has(files: ProjectFiles) -> None:
    run_copies.begin(files, RUN).write_bytes(b"shown")
    assert run_copies.begin(files, RUN).read_bytes() == b"shown"


def test_copy_without_an_id_is_that_of_the_run_followed_last(files: ProjectFiles) -> None:
    for number in (2, 1):
        run_copies.begin(files, replace(RUN, run_id=f"digits-{number}"))
    for number, when in ((2, 100), (1, 200)):
        os.utime(files.run_folder(f"digits-{number}"), (when, when))
    found = run_copies.find(files, None)
    assert found is not None
    assert found.run_id == "digits-1"


def test_no_copy_is_found_where_there_is_none(files: ProjectFiles) -> None:
    assert run_copies.find(files, None) is None
    assert run_copies.find(files, "digits-1") is None
    assert not files.state_folder.exists(), "looking makes nothing"
    files.run_folder("empty")
    assert run_copies.find(files, "empty") is None


@pytest.mark.parametrize("record", ["", "{half"])
def test_copy_with_a_broken_record_still_shows_its_log(files: ProjectFiles, record: str) -> None:
    log_path = run_copies.begin(files, RUN)
    (log_path.parent / "run.json").write_text(record)
    assert run_copies.find(files, "digits-1") == RunCopy("digits-1", log_path, None, "")
