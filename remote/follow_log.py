#!/usr/bin/env python3
"""Stream the log of one run to standard output, from a byte on, until the run has ended.

    echo '{"run_dir": ..., "log": ..., "offset": ...}' | python3 follow_log.py

The contract:

 1. The bytes of the log from `offset` on are written to standard output once, in order and unchanged:
    carriage returns, bytes that are not UTF-8 and lines of any length alike.
 2. New bytes are written within 20 ms of their being in the file. The file is watched by its size, because
    network file systems have no inotify.
 3. Of a run that has ended, nothing beyond its `log_end` is written, whatever other runs appended since.
 4. Once the run has ended and every byte up to `log_end` has been written, and never before, one line
    {"event": "ended", "exit_code", "reason", "log_end"} goes to standard error.
 5. After that line the program waits up to 2 s for a line on standard input, by which the client says that
    it has everything, and exits with 0. The end of standard input ends this wait, and only this wait.
 6. From start to end there is an {"event": "alive"} line on standard error at least every 5 s, so that a
    client can tell a quiet training from a broken link.
 7. The guard counts this program as a follower until it exits; a guard that is restarted is found again.
 8. A run that no guard knows and whose record has no end was lost with its pod: what there is of the log
    is delivered, and the end has exit code null and the reason "pod lost".
 9. A log that is not there yet is waited for. One that is shorter than what was delivered has been
    truncated: {"event": "truncated"} is said, and following goes on from its new start.
10. When the reader has gone, the program ends quietly; it never writes to the log or to the record.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from typing import Any

import guard_link
import run_record
from answer import EXIT_REFUSED, Refused, read_request
from guard_link import GuardGone, GuardLink
from pod_environ import read_setting

INTERVAL_S = 0.02
RETRY_S = 1.0
ACKNOWLEDGEMENT_S = 2.0
BLOCK = 1 << 16


class Follower:
    """How far the log was delivered, and what is known of the end of the run."""

    def __init__(self, run_dir: str, log: str, offset: int) -> None:
        self.run_dir = run_dir
        self.run_id = os.path.basename(os.path.abspath(run_dir))
        self.log = log
        self.position = offset
        self.descriptor: int | None = None
        self.link: GuardLink | None = None
        self.ask_again_at = 0.0
        self.alive_s = float(read_setting("PODTASKS_ALIVE_S", "5"))
        self.alive_at = 0.0

    def follow(self) -> None:
        """Deliver the log until the run has ended, then say so."""
        end = None
        while end is None:
            end = self.find_end()
            self.deliver(None if end is None else end["log_end"])
            self.say_alive()
            if end is None:
                self.wait()
        tell({"event": "ended", **end})

    def find_end(self) -> dict[str, Any] | None:
        """Return how the run ended, None while it runs; ask the guard at most once a second."""
        if self.link is None and time.monotonic() < self.ask_again_at:
            return None
        try:
            if self.link is None:
                self.ask_again_at = time.monotonic() + RETRY_S
                return self.ask_guard()
            return self.end_in(self.link.take_events())
        except GuardGone:
            self.link = None
            return None

    def ask_guard(self) -> dict[str, Any] | None:
        """Register with the guard; when it does not know the run, return its end from the record."""
        try:
            link = guard_link.connect()
        except GuardGone:
            return self.end_on_record()
        self.link = link
        reply = link.request("follow", run_id=self.run_id)
        return None if reply["running"] else self.end_on_record() or self.end_told(reply.get("end")) or self.lost()

    def end_in(self, events: list[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the end of the run if the guard tells of it."""
        for event in events:
            if event["event"] == "ended" and event["run_id"] == self.run_id:
                return self.end_on_record() or self.end_told(event)
        return None

    def end_told(self, told: dict[str, Any] | None) -> dict[str, Any] | None:
        """Return the end as the guard has it: a full volume may have kept it off the record."""
        if told is None:
            return None
        return {"exit_code": told["exit_code"], "reason": told["reason"], "log_end": self.size()}

    def end_on_record(self) -> dict[str, Any] | None:
        """Return the end of the run as its record has it, None while it has none."""
        record = run_record.read(self.run_dir)
        if not run_record.has_ended(record):
            return None
        return {name: record.get(name) for name in ("exit_code", "reason", "log_end")}

    def lost(self) -> dict[str, Any]:
        """Return the end of a run that went down with its pod."""
        return {"exit_code": None, "reason": run_record.POD_LOST, "log_end": self.size()}

    def deliver(self, limit: int | None) -> None:
        """Write what the log has beyond the last position, up to `limit`."""
        size = self.size()
        if size is None or self.descriptor is None:
            return
        if size < self.position:
            tell({"event": "truncated", "size": size, "position": self.position})
            self.position = 0
        end = size if limit is None else min(size, limit)
        while self.position < end:
            block = os.pread(self.descriptor, min(BLOCK, end - self.position), self.position)
            if not block:
                return
            run_record.write_all(1, block)
            self.position += len(block)
            self.say_alive()

    def size(self) -> int | None:
        """Return the size of the log, None while there is none."""
        if self.descriptor is None:
            with contextlib.suppress(FileNotFoundError):
                self.descriptor = os.open(self.log, os.O_RDONLY)
        return None if self.descriptor is None else os.fstat(self.descriptor).st_size

    def say_alive(self) -> None:
        """Say that this program lives, every few seconds."""
        if time.monotonic() >= self.alive_at:
            self.alive_at = time.monotonic() + self.alive_s
            tell({"event": "alive"})

    def wait(self) -> None:
        """Wait for the next look at the file; news from the guard cuts the wait short."""
        select.select([] if self.link is None else [self.link], [], [], INTERVAL_S)


def tell(event: dict[str, Any]) -> None:
    """Write one event to standard error."""
    run_record.write_all(2, json.dumps(event).encode() + b"\n")


def wait_for_acknowledgement() -> None:
    """Wait until the client has said that it has everything, at most 2 s."""
    select.select([0], [], [], ACKNOWLEDGEMENT_S)


def main() -> int:
    """Run the program."""
    try:
        request = read_request()
    except Refused as refusal:
        tell({"event": "refused", **refusal.answer})
        return EXIT_REFUSED
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        Follower(request["run_dir"], request["log"], int(request["offset"])).follow()
        wait_for_acknowledgement()
    return 0


if __name__ == "__main__":
    sys.exit(main())
