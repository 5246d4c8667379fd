"""The supervisor's link to the guard: the lease of its run, held over restarts of the guard."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import guard_link
from guard_link import GuardGone, GuardLink
from pod_environ import read_setting

START_GUARD_AFTER_S = 3.0


class SupervisorLink:
    """A link that is looked for again when the guard has gone."""

    def __init__(self, run_dir: str, record: dict[str, Any]) -> None:
        self._run_dir = run_dir
        self._record = record
        self._link: GuardLink | None = None
        self._lost_at: float | None = None
        self._next_try_at = 0.0
        self._guard_started = False
        self._launched_at = time.monotonic()
        self._pgid = 0
        self._ending: str | None = None

    def take_lease(self) -> bool:
        """Take the lease over from the launch; say on standard error why not."""
        try:
            self._link = guard_link.connect()
            reply = self._link.request("run", **self._lease_request())
        except GuardGone as error:
            reply = {"ok": False, "holder": None, "error": str(error)}
        if not reply["ok"]:
            print(f"the guard refused the run: {reply}", file=sys.stderr, flush=True)
        return bool(reply["ok"])

    def tell_group(self, pgid: int) -> None:
        """Tell the guard, and each that comes after it, which process group is to be killed with the run."""
        self._pgid = pgid
        self._tell("training", pgid=pgid)

    def tell_ending(self, reason: str) -> None:
        """Tell the guard, and each that comes after it, why the run is to end: it ends what does not end."""
        self._ending = reason
        self._tell("end", reason=reason)

    def tell_finishing(self, exit_code: int, reason: str) -> None:
        """Tell the guard how the run ended before that is written down, so that what hangs there keeps no pod."""
        self._tell("finishing", exit_code=exit_code, reason=reason)

    def tell_end(self, exit_code: int, reason: str) -> bool:
        """Tell the guard of the run's end, once there is one; return whether it knows."""
        if self._tell("ended", exit_code=exit_code, reason=reason):
            return True
        self._wait_for_guard()
        return self._tell("ended", exit_code=exit_code, reason=reason)

    def descriptors(self) -> list[int]:
        """Return what to select on for news from the guard; nothing while it is gone."""
        return [] if self._link is None else [self._link.fileno()]

    def next_try_at(self) -> float | None:
        """Return when to look for the guard again (monotonic), at once for what it has said; None for never."""
        if self._link is None:
            return self._next_try_at
        return 0.0 if self._link.has_events() else None

    def look_if_due(self) -> None:
        """Look for a guard that is gone when it is time to."""
        if self._link is None and time.monotonic() >= self._next_try_at:
            self._look_for_guard()

    def end_reasons(self) -> list[str]:
        """Return why the guard asks the run to end, [] when it does not; note a guard that is gone."""
        if self._link is None:
            return []
        try:
            return [str(event["reason"]) for event in self._link.take_events() if event["event"] == "end"]
        except GuardGone:
            self._lose()
            return []

    def _lease_request(self) -> dict[str, Any]:
        """Return what the guard needs to know of this run."""
        names = ("run_id", "when_done", "max_hours", "max_cost_usd", "keep_failed_s", "stop_grace_s")
        run = {name: self._record.get(name) for name in names}
        run.update(usd_per_hour=(self._record.get("pod") or {}).get("usd_per_hour"))
        run.update(run_dir=self._run_dir, kit=os.path.dirname(os.path.abspath(__file__)))
        run.update(elapsed_s=time.monotonic() - self._launched_at)
        return {"token": self._record.get("token"), "pid": os.getpid(), "run": run}

    def _tell(self, op: str, **fields: object) -> bool:
        """Send a request; a guard that is gone is looked for later."""
        if self._link is None:
            return False
        try:
            return bool(self._link.request(op, **fields)["ok"])
        except GuardGone:
            self._lose()
            return False

    def _lose(self) -> None:
        """Note that the guard is gone; look for its successor at once."""
        if self._link is not None:
            self._link.close()
        self._link, self._lost_at, self._next_try_at = None, time.monotonic(), 0.0

    def _look_for_guard(self) -> None:
        """Try once to hold the lease again: often in the first seconds, then each second.

        boot.sh starts the guard again at once. Where there is no boot.sh, the kit's guard is started.
        """
        now = time.monotonic()
        assert self._lost_at is not None
        lost_for_s = now - self._lost_at
        self._next_try_at = now + (0.05 if lost_for_s < reconnect_s() else 1.0)
        if lost_for_s > START_GUARD_AFTER_S and not self._guard_started:
            self._guard_started = True
            guard_link.start_guard()
        try:
            link = guard_link.connect()
            if link.request("run", again=True, **self._lease_request())["ok"]:
                self._link = link
                self.tell_group(self._pgid)
                if self._ending is not None:
                    self.tell_ending(self._ending)
            else:
                link.close()
                self._next_try_at = now + 1.0
        except GuardGone:
            pass

    def _wait_for_guard(self) -> None:
        """Look for the guard until it answers or 10 s have passed since it was lost."""
        while self._link is None and self._lost_at is not None:
            self._look_for_guard()
            if self._link is None:
                if time.monotonic() - self._lost_at > reconnect_s():
                    return
                time.sleep(0.05)


def reconnect_s() -> float:
    """Return how long a guard that is gone is waited for."""
    return float(read_setting("PODTASKS_RECONNECT_S", "10"))
