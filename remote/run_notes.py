"""The record of a run while it goes on: one writer at a time, and none any more once its end is being written."""

from __future__ import annotations

import sys
import threading
from typing import Any

import run_record

LOCK_TIMEOUT_S = 5.0


class RunNotes:
    """What the supervisor notes on the record: now, or soon, by the thread that a hanging volume may hang."""

    def __init__(self, run_dir: str, record: dict[str, Any]) -> None:
        self._run_dir = run_dir
        self._record = record
        self._lock = threading.Lock()
        self._is_due = False
        self._is_closed = False

    def write_now(self, **fields: object) -> None:
        """Write fields to the record; a volume that refuses costs the record, not the run."""
        self._record.update(fields)
        if not self._lock.acquire(timeout=LOCK_TIMEOUT_S):
            self._is_due = True
            return
        try:
            self._write()
        except OSError as error:
            print(f"run.json could not be written: {error}", file=sys.stderr, flush=True)
        finally:
            self._lock.release()

    def write_soon(self, **fields: object) -> None:
        """Have fields written by whoever calls `write_if_due` next."""
        self._record.update(fields)
        self._is_due = True

    def write_if_due(self) -> None:
        """Write what is to be written soon. Raise OSError when the volume does not take it; it stays due."""
        with self._lock:
            if self._is_due and not self._is_closed:
                self._is_due = False
                self._write()

    def close(self, timeout_s: float = LOCK_TIMEOUT_S) -> None:
        """Write nothing from now on, not even what another thread has begun to; wait for it for this long."""
        self._is_closed = True
        if self._lock.acquire(timeout=timeout_s):
            self._lock.release()

    def _write(self) -> None:
        try:
            run_record.write(self._run_dir, dict(self._record), is_wanted=lambda: not self._is_closed)
        except OSError:
            self._is_due = True
            raise
