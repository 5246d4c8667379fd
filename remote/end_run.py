#!/usr/bin/env python3
"""Ask the running training to end, and wait until it has.

In: {"reason", "timeout_s"}. Out: {"ok", "run_id", "ended"}; refused when no run holds the pod.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import answer
import guard_link
from answer import Refused
from guard_link import GuardGone, GuardLink


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    deadline = time.monotonic() + float(request.get("timeout_s") or 0)
    try:
        link = guard_link.connect()
        reply = link.request("end", reason=request.get("reason") or "user")
        if not reply["ok"]:
            raise Refused("No run holds the pod.", "There is nothing to end.", ok=False, run_id=None, ended=False)
    except GuardGone as error:
        raise Refused("The pod has no guard.", str(error), ok=False, run_id=None, ended=False) from None
    answer.give({"ok": True, "run_id": reply["run_id"], "ended": wait_for_end(link, reply["run_id"], deadline)})


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
