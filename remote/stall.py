"""What follows when a training stalls: it is noted, told once, and if so set the run is asked to end."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from subprocess import Popen
from typing import Any

import notifications
import runs
from end_request import EndRequest
from heartbeat import Heartbeat
from silence import Silence

REASON = "stalled"


class Stall:
    """The stalls of one run."""

    def __init__(self, run_dir: str, record: dict[str, Any], heartbeat: Heartbeat, note: Callable[..., None]) -> None:
        self._run_dir = run_dir
        self._record = record
        self._note = note
        self._silence = Silence(record, heartbeat)
        self._count = 0
        self._telling: Popen[bytes] | None = None
        self._told: list[dict[str, Any]] = []

    def begin(self) -> None:
        """Begin to count anew: another program runs."""
        self._silence.begin()

    def next_check_at(self) -> float | None:
        """Return when to look again (monotonic), None for never."""
        return self._silence.next_check_at()

    def ends_run(self, end: EndRequest) -> bool:
        """Look when it is time to, and act on what is new; return whether the run is therefore to end now."""
        news = self._silence.look_if_due()
        if news == "moved":
            self._note(stalled_at=None, stall_gpu_known=None)
        if news != "stalled" or end.reason is not None:
            return False
        self._note(stalled_at=time.time(), stall_gpu_known=self._silence.is_gpu_known)
        self._tell()
        return self._record.get("on_stall") == "stop" and end.ask(REASON)

    def take_told(self) -> list[dict[str, Any]]:
        """Return what came of telling of stalls, each with its event."""
        self._collect()
        told, self._told = self._told, []
        return told

    def _tell(self) -> None:
        """Start telling whoever is to be notified; wait for nothing."""
        try:
            self._collect()
            self._count += 1
            self._telling = notifications.start(
                REASON, self._run_dir, f"{REASON} {self._count}", runs.public(self._record)
            )
        except Exception:  # whatever it is, the supervisor must go on
            traceback.print_exc()

    def _collect(self) -> None:
        """Take in what came of telling of the last stall, which has had its time."""
        telling, self._telling = self._telling, None
        told = None if telling is None else notifications.finish(REASON, telling, 1)
        if told is not None:
            self._told.append(told)
