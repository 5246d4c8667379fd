"""Running one program of a run, watched by one that is always awake."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from unittest.mock import Mock

import pytest

from tests.remote.fake_pod import REMOTE


class Process(Protocol):
    """What training_process.TrainingProcess has for its caller."""

    def run(self, command: list[str], environ: dict[str, str], directory: str) -> int:
        """Run a program to its end."""


@pytest.fixture
def stall() -> Mock:
    """A watch for stalls that sees none."""
    stall = Mock()
    stall.next_check_at.return_value = None
    stall.ends_run.return_value = False
    return stall


@pytest.fixture
def link() -> Mock:
    """A guard that says nothing."""
    link = Mock()
    link.next_try_at.return_value = None
    link.descriptors.return_value = link.end_reasons.return_value = []
    return link


@pytest.fixture
def process(stall: Mock, link: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    """What runs a program, always awake."""
    monkeypatch.syspath_prepend(str(REMOTE))
    reader, writer = os.pipe()
    end = importlib.import_module("end_request").EndRequest(30)
    end.heed_signals = Mock(return_value=False)
    os.close(writer)  # always ready, so that nothing is waited for
    yield importlib.import_module("training_process").TrainingProcess(str(tmp_path / "log"), link, end, reader, stall)
    os.close(reader)


def test_the_time_begins_with_each_program_that_is_run(process: Process, stall: Mock) -> None:
    assert process.run(["true"], dict(os.environ), "/") == 0
    stall.begin.assert_called_once_with()


def test_a_training_that_has_ended_stalls_no_more_while_what_it_left_running_ends(
    process: Process, stall: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODTASKS_LEFTOVER_GRACE_S", "1.5")
    later = time.monotonic() + 1
    stall.ends_run.side_effect = lambda end: time.monotonic() > later and end.ask("stalled")
    assert process.run(["sh", "-c", "trap '' TERM; sleep 1000 & exit 0"], dict(os.environ), "/") == 0
    assert time.monotonic() > later
    assert not [call for call in stall.ends_run.call_args_list if call.args[0].reason]


def test_what_no_signal_kills_is_not_waited_for_when_the_training_has_ended(
    process: Process, link: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PODTASKS_LEFTOVER_GRACE_S", "0.1")
    run_record = importlib.import_module("run_record")
    monkeypatch.setattr(run_record, "group_members", lambda _: [999_999_999])
    monkeypatch.setattr(run_record, "kill_group", Mock())
    until = time.monotonic() + 10

    def look() -> None:
        assert time.monotonic() < until, "it waits for ever"

    link.look_if_due.side_effect = look
    assert process.run(["true"], dict(os.environ), "/") == 0
    run_record.kill_group.assert_called_once()
