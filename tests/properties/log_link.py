"""A run's log with the real remote/follow_log.py at its end, and a link that carries what it writes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import follow_log
import guard_link
import run_record

RUN_ID = "r-20261123-120000-abc"


class Paused(BaseException):
    """The follower has looked at the log and would now wait."""


class FollowedRun:
    """A run on a volume, from its first byte in the log to its end; `with` removes it.

    Args:
        before: what earlier runs left in the log.
        block_bytes: how much of the log the follower reads at a time.
        has_guard: whether a guard tells of the end; else the record does.
    """

    def __init__(self, before: bytes, block_bytes: int, *, has_guard: bool) -> None:
        self._stack = contextlib.ExitStack()
        self.volume = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="volume-")))
        self.log = self.volume / "logs" / "current.log"
        self.run_dir = str(self.volume / "runs" / RUN_ID)
        self.start = len(before)
        self.log_end: int | None = None
        self.is_recorded = False
        self.growth: list[bytes] = []
        self._sink: Following | None = None
        self._has_guard = has_guard
        self._events: list[dict[str, Any]] = []
        self._patch(block_bytes)
        self.log.parent.mkdir()
        self.log.write_bytes(before)
        unknown = dict.fromkeys(("log_end", "ended_at", "exit_code", "reason"))
        record = {"run_id": RUN_ID, "log": str(self.log), "log_start": self.start, "launched_at": 1, **unknown}
        run_record.create(self.run_dir, record)

    def __enter__(self) -> FollowedRun:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def written(self) -> bytes:
        """The run's part of the log."""
        return self.log.read_bytes()[self.start : self.log_end]

    def append(self, data: bytes) -> None:
        """Write to the log, as the training does, or another run after its end is on record."""
        if self.log_end is not None and not self.is_recorded:
            return
        with open(self.log, "ab") as file:
            file.write(data)

    def end(self, exit_code: int, *, is_recorded: bool = True) -> None:
        """End the run as the supervisor does; a full volume keeps the end off the record, and the guard tells it."""
        self.is_recorded = is_recorded or not self._has_guard
        if self.is_recorded:
            record = run_record.finish(self.run_dir, exit_code, "finished" if exit_code == 0 else "user")
            self.log_end = record["log_end"]
        else:
            run_record.append(str(self.log), b"EXIT_CODE=%d\n" % exit_code)
            self.log_end = self.log.stat().st_size
        self._events.append({"event": "ended", "run_id": RUN_ID, "exit_code": exit_code, "reason": "finished"})

    def follow(self, offset: int) -> Following:
        """Start to follow from a byte of the log on."""
        return Following(self, offset)

    @contextlib.contextmanager
    def written_to(self, following: Following) -> Iterator[None]:
        """Let a following have what its program writes."""
        self._sink = following
        try:
            yield
        finally:
            self._sink = None

    def connect(self) -> GuardStandIn:
        """Stand where guard_link.connect is."""
        if not self._has_guard:
            raise guard_link.GuardGone("no guard answers")
        return GuardStandIn(self._events, self.log_end is None)

    def _patch(self, block_bytes: int) -> None:
        write_all = run_record.write_all

        def write(descriptor: int, data: bytes) -> None:
            if descriptor > 2 or self._sink is None:
                write_all(descriptor, data)
                return
            (self._sink.stdout if descriptor == 1 else self._sink.stderr).extend(data)
            if descriptor == 1 and self.growth:
                self.append(self.growth.pop())

        for target, name, value in (
            (run_record, "write_all", write),
            (os, "fsync", lambda _: None),
            (guard_link, "connect", self.connect),
            (follow_log, "BLOCK", block_bytes),
            (follow_log, "RETRY_S", -1.0),
        ):
            self._stack.enter_context(mock.patch.object(target, name, value))


class GuardStandIn:
    """The guard as a follower hears of it."""

    def __init__(self, events: list[dict[str, Any]], is_running: bool) -> None:
        self._events = events
        self._is_running = is_running

    def request(self, op: str, run_id: str) -> dict[str, Any]:
        """Answer whether the run still runs."""
        assert (op, run_id) == ("follow", RUN_ID)
        return {"ok": True, "running": self._is_running, "end": self._events[-1] if self._events else None}

    def take_events(self) -> list[dict[str, Any]]:
        """Return what has happened."""
        return list(self._events)


class Following:
    """One follow_log.py, run look by look: what it has written and the link has not carried yet."""

    def __init__(self, run: FollowedRun, offset: int) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.has_ended = False
        self._run = run
        self._follower = follow_log.Follower(run.run_dir, str(run.log), offset)
        self._follower.wait = _pause  # type: ignore[method-assign]

    def look(self) -> None:
        """Let the program look at the log, and tell what is new."""
        if self.has_ended:
            return
        with contextlib.suppress(Paused), self._run.written_to(self):
            self._follower.follow()
            self.has_ended = True
            assert self._run.log_end is not None, "an end was told of a run that runs"
            assert self._follower.position == self._run.log_end, "the end was told before the last byte"

    def carry(self, stdout_bytes: int, stderr_bytes: int) -> tuple[bytes, bytes]:
        """Return the next bytes that arrive at the other end of the link."""
        pieces = bytes(self.stdout[:stdout_bytes]), bytes(self.stderr[:stderr_bytes])
        del self.stdout[:stdout_bytes], self.stderr[:stderr_bytes]
        return pieces

    def close(self) -> None:
        """Cut the link; what is on its way is lost."""
        if self._follower.descriptor is not None:
            os.close(self._follower.descriptor)
            self._follower.descriptor = None


def _pause() -> None:
    raise Paused
