"""A progress bar on standard error: files, bytes, rate and time left.

On a terminal it is drawn in place (doors/rich_terminal); elsewhere, and on one that cannot move its cursor, it is a
plain line every few seconds, only when something moved.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from datetime import timedelta
from types import TracebackType
from typing import Any

from podtasks.pure.amounts import format_bytes, format_count, format_duration, format_files

PLAIN_EVERY_S = 10.0
# No transfer is said to take longer than so many seconds.
LONGEST_S = 99 * 3600.0


class Progress:
    """Progress of a transfer whose size is known. Safe to be told by several threads.

    Args:
        title: what is being done, such as "to the volume".
        files: how many files there are.
        size_bytes: how many bytes they have.
    """

    def __init__(self, title: str, files: int, size_bytes: int) -> None:
        self._title = title
        self._files = files
        self._size_bytes = size_bytes
        self._done_files = 0
        self._done_bytes = 0
        self._lock = threading.Lock()
        self._began_s = self._told_s = time.monotonic()
        # What the first news tell was there before: no part of the rate.
        self._first_bytes: int | None = None
        self._bar: Any = None
        self._bar_task: Any = None

    def __enter__(self) -> Progress:
        if self._files and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
            from podtasks.doors.rich_terminal import open_bar

            self._bar, self._bar_task = open_bar(self._title, self._size_bytes, **self._told())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, *, files: int = 0, size_bytes: int = 0) -> None:
        """Count files and bytes that have arrived; negative bytes take back what must be sent again."""
        with self._lock:
            self._done_files += files
            self._done_bytes += size_bytes
            if self._first_bytes is None:
                self._first_bytes, self._began_s = self._done_bytes, time.monotonic()
            self._show()

    def _show(self) -> None:
        if self._bar is not None:
            self._bar.update(self._bar_task, completed=self._done_bytes, **self._told())
        elif time.monotonic() - self._told_s >= PLAIN_EVERY_S:
            self._told_s = time.monotonic()
            sys.stderr.write(self._line() + "\n")
            sys.stderr.flush()

    def _told(self) -> dict[str, str]:
        """Return what stands beside the bar: files, rate and time left."""
        rate, left_s = self._rate(), self._left_s()
        return {
            "told": f"{format_count(self._done_files)}/{format_files(self._files)}",
            "rate": f"{format_bytes(rate)}/s" if rate > 0 else "",
            "left": "" if left_s is None else str(timedelta(seconds=round(left_s))),
        }

    def _rate(self) -> float:
        """Return bytes per second, over all that has moved since the first news."""
        elapsed_s = time.monotonic() - self._began_s
        return max(0, self._done_bytes - (self._first_bytes or 0)) / elapsed_s if elapsed_s > 0 else 0.0

    def _left_s(self) -> float | None:
        left_bytes, rate = max(0, self._size_bytes - self._done_bytes), self._rate()
        return min(left_bytes / rate, LONGEST_S) if rate > 0 else None

    def _line(self) -> str:
        left_s = self._left_s()
        left = "" if left_s is None else f", {format_duration(left_s)} left"
        return (
            f"{self._title}: {format_count(self._done_files)} of {format_files(self._files)}, "
            f"{format_bytes(self._done_bytes)} of {format_bytes(self._size_bytes)}, "
            f"{format_bytes(self._rate())}/s{left}"
        )
