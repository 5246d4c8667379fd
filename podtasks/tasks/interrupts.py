"""Ctrl+C: heard while a task is at work, and not while its result is told and Python ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import time
from collections.abc import Iterator
from typing import Any

INTERRUPTED = 130
# Ctrl+C that comes so soon after a task's end was meant for the task.
STILL_MEANT_FOR_TASK_S = 2.0
# What heard Ctrl+C before: the next task of the same command line hears it again.
_before: list[Any] = []


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Let Ctrl+C interrupt what is done in this `with`; afterwards one too many shows no traceback."""
    if _before:
        signal.signal(signal.SIGINT, _before.pop())
    try:
        yield
    finally:
        _hear_no_more(time.monotonic())


def _hear_no_more(since: float) -> None:
    def end_python(*_: object) -> None:
        # A Python that does not end, because a thread of its own hangs, must still be ended.
        if time.monotonic() - since > STILL_MEANT_FOR_TASK_S:
            os._exit(INTERRUPTED)

    with contextlib.suppress(ValueError):  # only the main thread may, and only it is interrupted
        _before[:] = [signal.signal(signal.SIGINT, end_python)]
        # What is tidied up at the very end shows tracebacks of its own.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
