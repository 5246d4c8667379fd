"""How much lies in each folder of the volume.

On MooseFS each look at a file is a round trip of about a millisecond: 100,000 files one after the other take
minutes. So several threads look at once, each file exactly once, and symbolic links are never followed.
"""

from __future__ import annotations

import os
import queue
import stat
import threading
from typing import NamedTuple

THREADS = 16
FILES_AT_ONCE = 500
TOP = ""
MOST_TOLD = 20


class Amount(NamedTuple):
    """How many files there are, and how many bytes they have."""

    files: int
    size_bytes: int


class VolumeScan:
    """The folders of a volume by their path below its top, each with all that lies below it.

    Attributes:
        unreadable: what could not be looked at, with the reason; the first 20.
    """

    def __init__(self, top: str) -> None:
        self.unreadable: list[str] = []
        self._top = top
        self._own: dict[str, Amount] = {}
        self._total: dict[str, Amount] = {}
        self._linked: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        self._work: queue.SimpleQueue[str | tuple[str, list[os.DirEntry[str]]] | None] = queue.SimpleQueue()
        self._pending = 1
        self._run()
        self._add_up()

    def folders(self) -> list[str]:
        """Return every folder but the top, in order of their names."""
        return sorted(folder for folder in self._own if folder != TOP)

    def amount(self, folder: str) -> Amount:
        """Return what lies in and below a folder; nothing where there is none."""
        return self._total.get(folder, Amount(0, 0))

    def _run(self) -> None:
        self._work.put(TOP)
        threads = [threading.Thread(target=self._look, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _look(self) -> None:
        while True:
            task = self._work.get()
            if task is None:
                return
            try:
                if isinstance(task, str):
                    self._list(task)
                else:
                    self._count(*task)
            finally:
                self._finish_one()

    def _finish_one(self) -> None:
        with self._lock:
            self._pending -= 1
            is_done = self._pending == 0
        if is_done:
            for _ in range(THREADS):
                self._work.put(None)

    def _put(self, task: str | tuple[str, list[os.DirEntry[str]]]) -> None:
        with self._lock:
            self._pending += 1
        self._work.put(task)

    def _list(self, folder: str) -> None:
        """Look into a folder; what is in it is further work."""
        entries: list[os.DirEntry[str]] = []
        with self._lock:
            self._own.setdefault(folder, Amount(0, 0))
        try:
            with os.scandir(os.path.join(self._top, folder)) as listing:
                for entry in listing:
                    if entry.is_dir(follow_symlinks=False):
                        self._put(os.path.join(folder, entry.name))
                    elif not entry.is_symlink():
                        entries.append(entry)
        except OSError as error:
            self._note(folder, error)
        for start in range(0, len(entries), FILES_AT_ONCE):
            self._put((folder, entries[start : start + FILES_AT_ONCE]))

    def _count(self, folder: str, entries: list[os.DirEntry[str]]) -> None:
        files = size_bytes = 0
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError as error:
                self._note(os.path.join(folder, entry.name), error)
                continue
            if stat.S_ISREG(status.st_mode) and self._is_new(status):
                files, size_bytes = files + 1, size_bytes + status.st_size
        with self._lock:
            own = self._own[folder]
            self._own[folder] = Amount(own.files + files, own.size_bytes + size_bytes)

    def _is_new(self, status: os.stat_result) -> bool:
        """Say whether a file was not seen under another name: hard links share their bytes."""
        if status.st_nlink == 1:
            return True
        with self._lock:
            known = (status.st_dev, status.st_ino) in self._linked
            self._linked.add((status.st_dev, status.st_ino))
        return not known

    def _note(self, path: str, error: OSError) -> None:
        if isinstance(error, FileNotFoundError):
            return  # deleted since: a training goes on writing while we look
        with self._lock:
            if len(self.unreadable) < MOST_TOLD:
                self.unreadable.append(f"{path or '/'}: {error.strerror}")

    def _add_up(self) -> None:
        """Give each folder what lies below it, from the innermost outward."""
        total = {folder: [amount.files, amount.size_bytes] for folder, amount in self._own.items()}
        for folder in sorted(total, key=lambda path: -path.count("/")):
            if folder != TOP:
                parent = total[os.path.dirname(folder)]
                parent[0] += total[folder][0]
                parent[1] += total[folder][1]
        self._total = {folder: Amount(*amount) for folder, amount in total.items()}
