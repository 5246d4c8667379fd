"""Time: the only place that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

Reading = TypeVar("Reading")


class Clock(Protocol):
    """What waiting needs of time, so that tests can give it for free."""

    def now(self) -> float:
        """Return seconds that only go forward."""

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""


class SystemClock:
    """Real time."""

    def now(self) -> float:
        """Return seconds that only go forward."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let `seconds` pass."""
        time.sleep(seconds)


class WaitTimeoutError(Exception):
    """The time was over; `last` is what was read last."""

    def __init__(self, last: object) -> None:
        super().__init__(f"last reading: {last}")
        self.last = last


def growing_pauses(first_s: float, factor: float, most_s: float) -> Iterator[float]:
    """Yield pauses in seconds that grow by `factor` up to `most_s`, without end."""
    pause_s = first_s
    while True:
        yield pause_s
        pause_s = min(pause_s * factor, most_s)


def wait_until(
    probe: Callable[[], Reading],
    is_ready: Callable[[Reading], bool],
    *,
    timeout_s: float,
    pauses: Iterator[float],
    clock: Clock,
    on_change: Callable[[Reading], None] = lambda _: None,
) -> Reading:
    """Read with `probe` until a reading `is_ready`, and return it.

    `probe` raises to give up early. `on_change` hears each reading that differs from the one before.
    Raises WaitTimeoutError with the last reading after `timeout_s` seconds.
    """
    deadline = clock.now() + timeout_s
    last: Reading | None = None
    while True:
        reading = probe()
        if reading != last:
            on_change(reading)
            last = reading
        if is_ready(reading):
            return reading
        if clock.now() >= deadline:
            raise WaitTimeoutError(reading)
        clock.sleep(min(next(pauses), max(0.0, deadline - clock.now())))
