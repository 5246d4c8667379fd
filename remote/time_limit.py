"""A limit to how long something may take, for what is useful but must hold nothing up."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


class TimeUp(Exception):
    """It took longer than it may."""


@contextlib.contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TimeUp in the block after `seconds`. In the main thread only, and no other alarm may be set."""

    def stop(*_: object) -> None:
        raise TimeUp(f"it took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
