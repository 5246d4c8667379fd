"""What lies in the directories of a volume, in the order of keys."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from podtasks.emulator.s3.folder import HIDDEN_FOLDER, Folder

# A listing reads a directory once for each page, so that of a big one is kept.
_BIG = 1000
_KEPT = 16
# Two changes within one tick of the file system's clock leave one time behind.
_TICK_NS = 50_000_000


@dataclass(frozen=True)
class _Content:
    modified_ns: int
    read_at_ns: int
    names: list[str]


class Directories:
    """Reads the directories of one volume.

    Args:
        folder: the volume's.
    """

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._kept: dict[str, _Content] = {}

    def names_from(self, path: str, first: str) -> Iterator[str]:
        """Yield the names in a directory in order, from some text on; a directory's ends in "/".

        Links that do not lead to a file of the volume are left out, and what is no file.

        Args:
            path: the directory; one that is gone has no names.
            first: names that come before it are passed over.
        """
        names = self._read(path)
        for index in range(bisect_left(names, first), len(names)):
            yield names[index]

    def _read(self, path: str) -> list[str]:
        try:
            modified_ns = os.stat(path).st_mtime_ns
            kept = self._kept.get(path)
            if kept is not None and kept.modified_ns == modified_ns < kept.read_at_ns - _TICK_NS:
                return kept.names
            read_at_ns = time.time_ns()
            names = self._scan(path)
        except OSError:
            return []
        if len(names) > _BIG:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[path] = _Content(modified_ns, read_at_ns, names)
        return names

    def _scan(self, path: str) -> list[str]:
        is_top, names = path == self._folder.path, []
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if not (is_top and entry.name == HIDDEN_FOLDER):
                        names.append(f"{entry.name}/")
                elif entry.is_file(follow_symlinks=False) or (
                    entry.is_symlink() and self._folder.is_link_inside(entry.path)
                ):
                    names.append(entry.name)
        return sorted(names)
