"""The end of a run, written by programs that are killed at any call to the system, and written again by others."""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import run_record
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.properties.profile import examples

CALLS = ("open", "write", "fsync", "close", "replace", "unlink")
RUN_ID = "r-1"
LAUNCHED = {"run_id": RUN_ID, "log_start": 0, "launched_at": 5.0, "config": "configs/a.yaml", "command": ["python"]}
OUTPUTS = st.sampled_from([b"", b"step 1\n", b"50%\r60%\r", b"no end", b"\xff\0\n", b"Traceback\nRuntimeError: x\n"])
ENDS = st.sampled_from([(0, "finished"), (1, "failed"), (137, "supervisor killed"), (143, "user")])
NEVER = 10_000


class Killed(BaseException):
    """SIGKILL: nothing of the program runs any more."""


@contextlib.contextmanager
def killed_at(call: int, torn_bytes: int) -> Iterator[None]:
    """Kill what runs at a call to the system, counted from 0; a write that is hit leaves some bytes behind."""
    left = [call]

    def dying(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **more: Any) -> Any:  # noqa: ANN401
            if left[0] < 0:
                raise Killed
            left[0] -= 1
            if left[0] >= 0:
                return function(*arguments, **more)
            if function is write:
                write(arguments[0], bytes(arguments[1])[:torn_bytes])
            raise Killed

        return run

    write = os.write
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(os, "fsync", lambda _: None))
        for name in CALLS:
            stack.enter_context(mock.patch.object(os, name, dying(getattr(os, name))))
        stack.enter_context(mock.patch.object(run_record, "open", dying(builtins.open), create=True))
        with contextlib.suppress(Killed):
            yield


class EndOfARun(RuleBasedStateMachine):
    """A run that supervisor, guard and later launches try to end, each killed somewhere on the way."""

    volume: Path

    @initialize(before=st.sampled_from([b"", b"an earlier run\n"]), output=OUTPUTS)
    def launch(self, before: bytes, output: bytes) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="volume-")
        self.volume = Path(self.folder.name)
        self.log = self.volume / "logs" / "current.log"
        self.log.parent.mkdir()
        self.log.write_bytes(before + output)
        self.before, self.output = before, output
        self.run_dir = str(self.volume / "runs" / RUN_ID)
        self.is_torn = self.was_lost = False
        unknown = dict.fromkeys(("log_end", "ended_at", "exit_code", "reason", "failure"))
        self.launched = {**LAUNCHED, "log": str(self.log), "log_start": len(before), **unknown}
        with mock.patch.object(os, "fsync"):
            run_record.create(self.run_dir, self.launched)

    @rule(end=ENDS, call=st.integers(0, 40), torn_bytes=st.integers(0, 60))
    def finish(self, end: tuple[int, str], call: int, torn_bytes: int) -> None:
        size = self.log.stat().st_size
        with killed_at(call, torn_bytes):
            run_record.finish(self.run_dir, *end)
        grown = self.log.read_bytes()[size:]
        self.is_torn |= bool(grown) and not grown.endswith(b"\n")

    @rule(call=st.integers(0, 30), torn_bytes=st.integers(0, 60))
    def find_it_lost(self, call: int, torn_bytes: int) -> None:
        with killed_at(call, torn_bytes):
            run_record.finish_lost(str(self.volume))
        self.was_lost = True

    @invariant()
    def nothing_is_lost(self) -> None:
        if not hasattr(self, "folder"):
            return
        assert self.log.read_bytes().startswith(self.before + self.output)
        record = run_record.read(self.run_dir)
        assert {name: record[name] for name in LAUNCHED} == {name: self.launched[name] for name in LAUNCHED}
        assert run_record.newest(str(self.volume)) == self.run_dir

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            try:
                self.end_it()
            finally:
                self.folder.cleanup()

    def end_it(self) -> None:
        with mock.patch.object(os, "fsync"):
            run_record.finish(self.run_dir, 137, "supervisor killed")
            whole = self.log.read_bytes()
            again = run_record.finish(self.run_dir, 1, "failed")
        record = run_record.read(self.run_dir)
        assert again == record
        assert self.log.read_bytes() == whole
        footers = whole[len(self.before) + len(self.output) :].splitlines().count(b"EXIT_CODE=%d" % record["exit_code"])
        assert footers <= 1 or self.is_torn
        if not self.was_lost:
            assert whole.endswith(b"\nEXIT_CODE=%d\n" % record["exit_code"]) or whole == b"EXIT_CODE=0\n"
            part = whole[len(self.before) : record["log_end"]]
            assert (Path(self.run_dir) / "output.log").read_bytes() == part == whole[len(self.before) :]


EndOfARun.TestCase.settings = examples(40, steps=6)
TestEndOfARun = EndOfARun.TestCase


@examples(60)
@given(st.integers(0, 12), st.integers(0, 200), st.text(max_size=200))
def test_a_record_is_the_old_one_or_the_new_one_wherever_its_writer_is_killed(
    call: int, torn_bytes: int, reason: str
) -> None:
    with tempfile.TemporaryDirectory() as run_dir:
        with mock.patch.object(os, "fsync"):
            run_record.write(run_dir, {**LAUNCHED, "log": "/l"})
        with killed_at(call, torn_bytes):
            run_record.update(run_dir, reason=reason)
        record = json.loads((Path(run_dir) / "run.json").read_text())
        assert "reason" not in record or record["reason"] == reason
        assert record["command"] == LAUNCHED["command"]


@examples(5)
@given(st.binary(max_size=40))
def test_a_record_cut_at_any_byte_tells_what_its_place_tells(output: bytes) -> None:
    with tempfile.TemporaryDirectory() as root, mock.patch.object(os, "fsync"):
        run_dir = os.path.join(root, "runs", RUN_ID)
        log = os.path.join(root, "logs", "current.log")
        os.makedirs(os.path.dirname(log))
        Path(log).write_bytes(output)
        run_record.create(run_dir, {**LAUNCHED, "log": log})
        path = Path(run_dir) / "run.json"
        whole = path.read_bytes()
        for length in range(len(whole) - 2):
            path.write_bytes(whole[:length])
            assert run_record.read(run_dir) == {"run_id": RUN_ID, "log": log, "log_start": None}
