"""Whether a training has fallen silent: no byte of log and no GPU use for as long as `stall_minutes` says."""

from __future__ import annotations

import time
from subprocess import Popen
from typing import Any

import gpu
from heartbeat import Heartbeat
from limits_text import number
from pod_environ import read_setting

SHORTEST_CHECK_S = 5.0
LONGEST_CHECK_S = 10.0
QUERY_LIMIT_S = 10.0
IDLE_PERCENT = 3


class Silence:
    """Looks at the log and, while that is silent, at the GPU; never waits for either.

    Time counts as silent check by check, and no check counts for more than two: a supervisor or a machine that
    stood still does not take the training for stalled when it goes on.
    """

    def __init__(self, record: dict[str, Any], heartbeat: Heartbeat) -> None:
        self._heartbeat = heartbeat
        self._stall_s = (number(record.get("stall_minutes")) or 0.0) * 60
        self._check_s = check_s(self._stall_s)
        self._size: int | None = None
        self._checked_at = time.monotonic()
        self._query: Popen[bytes] | None = None
        self._query_began_at = 0.0
        self.is_stalled = False
        self._moved()

    def begin(self) -> None:
        """Begin to count anew: another program runs."""
        self._size, self._checked_at = self._heartbeat.log_size, time.monotonic()
        self._moved()

    def next_check_at(self) -> float | None:
        """Return when to look again (monotonic), None for never."""
        return self._checked_at + self._check_s if self._stall_s > 0 and self._heartbeat.is_alive() else None

    def look_if_due(self) -> str | None:
        """Look when it is time to; return "stalled" or "moved" when that is new, once for each stall."""
        due_at, now = self.next_check_at(), time.monotonic()
        if due_at is None or now < due_at:
            return None
        self._silent_s += min(now - self._checked_at, 2 * self._check_s)
        self._checked_at = now
        size, before = self._heartbeat.log_size, self._size
        if size != before:
            self._size = size
            was_stalled, self.is_stalled = self.is_stalled, False
            self._moved()
            return "moved" if was_stalled else None
        return None if self.is_stalled else self._look_at_gpu()

    @property
    def is_gpu_known(self) -> bool:
        """Whether the GPU was seen idle; otherwise the log alone tells of the stall."""
        return self._is_gpu_known

    def _moved(self) -> None:
        """Note that there is a sign of work."""
        self._silent_s = 0.0
        self._looks = 0
        self._is_gpu_known = False

    def _look_at_gpu(self) -> str | None:
        """Take the answer to the last question, ask again; say "stalled" when the time is over."""
        if self._query is not None:
            if self._query.poll() is None:
                self._give_up_on_query()
                return None if self._looks == 0 else self._judge()
            self._take_answer(gpu.read_answer(self._query, 0.5))
            self._query = None
        verdict = self._judge()
        if verdict is None:
            self._ask_gpu()
        return verdict

    def _ask_gpu(self) -> None:
        self._query, self._query_began_at = gpu.start_query(), time.monotonic()
        if self._query is None:
            self._take_answer([])

    def _give_up_on_query(self) -> None:
        """Kill a question that takes too long. One whose driver hangs stays; then there is no other beside it."""
        assert self._query is not None
        if time.monotonic() - self._query_began_at > query_limit_s():
            self._query.kill()
            self._take_answer([])

    def _take_answer(self, gpus: list[dict[str, Any]]) -> None:
        """Take in what nvidia-smi told, [] where it told nothing."""
        used = [entry["util_percent"] for entry in gpus if entry["util_percent"] is not None]
        if any(percent > IDLE_PERCENT for percent in used):
            self._moved()
        self._looks += 1
        self._is_gpu_known = bool(used)

    def _judge(self) -> str | None:
        """Say "stalled" when it was silent for long enough and the GPU was looked at meanwhile."""
        if self._looks == 0 or self._silent_s < self._stall_s:
            return None
        self.is_stalled = True
        return "stalled"


def query_limit_s() -> float:
    """Return how long nvidia-smi may take."""
    try:
        return float(read_setting("PODTASKS_STALL_QUERY_S", ""))
    except ValueError:
        return QUERY_LIMIT_S


def check_s(stall_s: float) -> float:
    """Return how many seconds lie between two looks."""
    try:
        return max(0.01, float(read_setting("PODTASKS_STALL_CHECK_S", "")))
    except ValueError:
        return min(LONGEST_CHECK_S, max(SHORTEST_CHECK_S, stall_s / 10))
