"""Which files are known to have arrived on a volume, remembered on this machine so that a rerun need not ask.

It is written while files arrive and survives a killed command; what it lacks is asked of the volume again.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from podtasks.pure.transfer import LocalFile

FLUSH_FILES = 200
FLUSH_S = 0.3
TABLES = """
CREATE TABLE IF NOT EXISTS confirmed (place TEXT PRIMARY KEY, size_bytes INTEGER, modified_ns INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS begun (place TEXT PRIMARY KEY) WITHOUT ROWID;
"""


class UploadJournal:
    """The memory of one volume. A context manager; safe to be told by several threads.

    Args:
        path: its file, made anew where it is missing or broken.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = _open(path)
        except sqlite3.DatabaseError:
            discard(path)
            self._database = _open(path)
        self._waiting: list[tuple[str, int, int]] = []
        self._flushed_s = time.monotonic()
        self._lock = threading.Lock()

    def __enter__(self) -> UploadJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._flush()
            self._database.close()

    def read_confirmed(self) -> dict[str, tuple[int, int]]:
        """Return size and modification time (nanoseconds) of each file that arrived, by place."""
        rows = self._database.execute("SELECT place, size_bytes, modified_ns FROM confirmed")
        return {place: (size_bytes, modified_ns) for place, size_bytes, modified_ns in rows}

    def add(self, file: LocalFile) -> None:
        """Remember that a file arrived; it is on the disk within a moment."""
        with self._lock:
            self._waiting.append((file.place, file.size_bytes, file.modified_ns))
            if len(self._waiting) >= FLUSH_FILES or time.monotonic() - self._flushed_s >= FLUSH_S:
                self._flush()

    def forget(self, places: Iterable[str]) -> None:
        """Forget files that are not there, or not there any more."""
        with self._lock:
            self._flush()
            self._database.executemany("DELETE FROM confirmed WHERE place = ?", ((place,) for place in places))
            self._database.commit()

    def has_begun(self, place: str) -> bool:
        """Return whether a place was found empty, and has not been filled to its end since."""
        return self._database.execute("SELECT 1 FROM begun WHERE place = ?", (place,)).fetchone() is not None

    def begin(self, place: str) -> None:
        """Remember that a place was found empty: what is not confirmed below it need not be asked for."""
        self._change("INSERT OR IGNORE INTO begun VALUES (?)", place)

    def finish(self, place: str) -> None:
        """Remember that a place has been filled."""
        self._change("DELETE FROM begun WHERE place = ?", place)

    def _change(self, statement: str, place: str) -> None:
        with self._lock:
            self._database.execute(statement, (place,))
            self._database.commit()

    def _flush(self) -> None:
        self._database.executemany("INSERT OR REPLACE INTO confirmed VALUES (?, ?, ?)", self._waiting)
        self._database.commit()
        self._waiting.clear()
        self._flushed_s = time.monotonic()


def discard(path: Path) -> None:
    """Forget all that is known of a volume, as where its files are about to be changed another way."""
    for ending in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + ending).unlink()


def _open(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False)
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.executescript(TABLES)
    database.execute("SELECT count(*) FROM confirmed").fetchone()
    return database
