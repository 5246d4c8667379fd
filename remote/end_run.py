#!/usr/bin/env python3
"""Ask the running training to end, and wait until it has.

In: {"reason", "timeout_s"}. Out: {"ok", "run_id", "ended", "noted"}; refused when no run holds the pod. With
`timeout_s` 0 nothing waits for the end, but for 2 s at most for the reason to be on the run's record ("noted"):
whoever finds the run without an end, its pod gone, then knows that it was to end.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import answer
import guard_link
import run_record
import time_limit
from answer import Refused
from guard_link import GuardGone, GuardLink
from pod_environ import volume_directory

NOTE_TIMEOUT_S = 2.0


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    timeout_s = float(request.get("timeout_s") or 0)
    deadline = time.monotonic() + timeout_s
    try:
        link = guard_link.connect()
        reply = link.request("end", reason=request.get("reason") or "user")
        if not reply["ok"]:
            raise Refused("No run holds the pod.", "There is nothing to end.", ok=False, run_id=None, ended=False)
    except GuardGone as error:
        raise Refused("The pod has no guard.", str(error), ok=False, run_id=None, ended=False) from None
    run_id = str(reply["run_id"])
    ended = wait_for_end(link, run_id, deadline)
    answer.give({"ok": True, "run_id": run_id, "ended": ended, "noted": ended or wait_for_note(run_id)})


def wait_for_note(run_id: str) -> bool:
    """Wait until the run's record says that it is to end; say whether it does. A volume that hangs says nothing."""
    run_dir = os.path.join(volume_directory(), "runs", run_id)
    try:
        with time_limit.limit(NOTE_TIMEOUT_S):
            while True:
                record = run_record.read(run_dir)
                if record.get("ending") or run_record.has_ended(record):
                    return True
                time.sleep(0.02)
    except time_limit.TimeUp:
        return False


def wait_for_end(link: GuardLink, run_id: str, deadline: float) -> bool:
    """Wait until the guard says that the run has ended; return whether it has by the deadline."""
    while time.monotonic() < deadline:
        try:
            if not link.request("follow", run_id=run_id)["running"]:
                return True
            while time.monotonic() < deadline:
                if link.take_events(max(0.0, deadline - time.monotonic())):
                    return True
        except GuardGone:
            link = find_guard(deadline) or link
    return False


def find_guard(deadline: float) -> GuardLink | None:
    """Return a link to the guard that took the place of one that died, None when there is none in time."""
    while time.monotonic() < deadline:
        try:
            return guard_link.connect()
        except GuardGone:
            time.sleep(0.1)
    return None


if __name__ == "__main__":
    sys.exit(answer.run(main))
