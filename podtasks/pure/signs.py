"""What was heard of a run and its pod, and what follows: it lives, it is lost, or nobody can know yet.

A run is lost only when two independent signals say so, each more than once and for a time, and no sign of life came
since. A question that was not answered is no reading: it says nothing either way.

1. The API: our pod is not running, or not there, in at least `GONE_READINGS` readings in a row, the first and the
   last of them at least `GONE_S` apart. A single reading that says it runs undoes them all.
2. Silence: the heartbeat on the volume is the same in at least `QUIET_READINGS` readings over at least `QUIET_S`
   seconds of the watcher's own clock; or, where nobody can read it, as many attempts to reach the pod failed over as
   long a time.

A pod that answers and says as often that it does not run this run stands for the API's word: it is up, the run is not.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

GONE_READINGS = 2
GONE_S = 4.0
QUIET_READINGS = 3
# The supervisor writes its heartbeat every 5 s.
QUIET_S = 12.0


class Life(enum.Enum):
    """What is known of a run that has no end on record."""

    ALIVE = "alive"
    UNCLEAR = "unclear"
    LOST = "lost"


@dataclass(frozen=True)
class Streak:
    """Readings that all said the same: when the first and the last one came, in the watcher's seconds, and how many."""

    first: float
    last: float
    count: int

    def lasts(self, count: int, seconds: float) -> bool:
        """Return whether there are as many over so long a time."""
        return self.count >= count and self.lasted_s >= seconds

    @property
    def lasted_s(self) -> float:
        """The time from the first to the last, in seconds."""
        return self.last - self.first


@dataclass(frozen=True)
class Signs:
    """All that was heard of one run since the watcher began to look. Moments are seconds of its own clock.

    Args:
        gone: readings in which the API said that the run's pod does not run.
        denied: answers of the pod itself that it does not run this run.
        quiet: readings of an unchanged heartbeat.
        unreachable: attempts to reach the pod that failed.
        heartbeat: what was read last; None before the first reading.
        lives: whether the last sign was one of life.
    """

    gone: Streak | None = None
    denied: Streak | None = None
    quiet: Streak | None = None
    unreachable: Streak | None = None
    heartbeat: bytes | None = None
    lives: bool = False

    def hear_api(self, now: float, *, runs: bool) -> Signs:
        """Take a reading of the API. That a pod runs, as it says, is no sign of life: it only should run."""
        return replace(self, gone=None if runs else _prolong(self.gone, now))

    def hear_heartbeat(self, now: float, content: bytes | None) -> Signs:
        """Take a reading of the heartbeat; None where the volume has none."""
        read = content or b""
        if self.heartbeat is None or read == self.heartbeat:
            return replace(self, heartbeat=read, quiet=_prolong(self.quiet, now))
        return replace(self.alive(), heartbeat=read, quiet=Streak(now, now, 1))

    def hear_pod(self, now: float, *, answered: bool) -> Signs:
        """Take an attempt to reach the pod at its last known address; an answer says that it runs this run."""
        return self.alive() if answered else replace(self, denied=None, unreachable=_prolong(self.unreachable, now))

    def hear_denial(self, now: float) -> Signs:
        """Take the pod's own answer that it does not run this run."""
        return replace(self, denied=_prolong(self.denied, now), unreachable=None)

    def hear_nothing_of_it(self) -> Signs:
        """Take an answer of the pod that says nothing of the run: a launch is under way, or its guard is starting."""
        return replace(self, denied=None, unreachable=None)

    def alive(self) -> Signs:
        """Take a sign of life: whatever was heard before does not count any more."""
        return Signs(heartbeat=self.heartbeat, lives=True)

    def is_silent(self, *, heartbeat_readable: bool) -> bool:
        """Return whether the second signal is there: by the heartbeat where it can be read, else by the attempts."""
        streak = self.quiet if heartbeat_readable else self.unreachable
        return streak is not None and streak.lasts(QUIET_READINGS, QUIET_S)

    def judge(self, *, heartbeat_readable: bool) -> Life:
        """Return what is known."""
        if self.lives:
            return Life.ALIVE
        words = [streak for streak in (self.gone, self.denied) if streak is not None]
        is_gone = any(streak.lasts(GONE_READINGS, GONE_S) for streak in words)
        return Life.LOST if is_gone and self.is_silent(heartbeat_readable=heartbeat_readable) else Life.UNCLEAR


@dataclass(frozen=True)
class Silence:
    """A pod that was silent at each of several looks, maybe of several watchers.

    Args:
        since: seconds since 1970.
        looks: how many found it silent.
        heartbeat: what all of them read: had it lived in between, that would be another.
    """

    since: float
    looks: int
    heartbeat: str


def prolong_silence(before: Silence | None, now: float, silent_s: float, heartbeat: bytes) -> Silence:
    """Return the silence that a look at `now` found, which itself saw `silent_s` seconds of it."""
    beat = heartbeat.decode(errors="replace")
    if before is None or before.heartbeat != beat:
        return Silence(now - silent_s, 1, beat)
    return Silence(min(before.since, now - silent_s), before.looks + 1, beat)


def _prolong(streak: Streak | None, now: float) -> Streak:
    return Streak(now, now, 1) if streak is None else Streak(streak.first, now, streak.count + 1)
