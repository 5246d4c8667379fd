#!/usr/bin/env python3
"""List files on the volume.

In: {"place": path below the volume's top, "" for the top, "deep": all below it, or one level,
"unfinished": also what interrupted uploads left}.
Out: {"files": [[place, size in bytes, time written], ...], "folders": [names of folders, of one level only]}; both
empty where there is nothing. Links to files on the volume count as files, links that lead out and links to folders
do not count. Names that are no UTF-8 have Python's surrogate escapes. Refused for a place outside of the volume, and
where something cannot be looked at: nobody may take what is listed for all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Iterator
from typing import Any, List, Union

import answer
from answer import Refused
from pod_environ import volume_directory
from volume_paths import HIDDEN, PARTIAL, Outside, find_path, is_inside

Listed = List[Union[str, int, float]]


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    volume, place = volume_directory().rstrip("/") or "/", str(request["place"]).rstrip("/")
    try:
        path = find_path(volume, place)
    except Outside as error:
        raise Refused(f"{place} cannot be listed.", str(error)) from None
    folders: list[str] = []
    if os.path.isdir(path) and is_inside(volume, path):
        files = list_folder(volume, path, place, folders, request)
    else:
        files = list_file(volume, path, place)
    answer.give({"files": list(files), "folders": sorted(folders)})


def list_folder(
    volume: str, path: str, place: str, folders: list[str], request: dict[str, Any]
) -> Iterator[Listed]:
    """Yield the files of a folder, and with `deep` of all below it, in the order of their names; note its folders."""
    waiting: list[tuple[str, str]] = [(path, place)]
    hidden = [name for name in HIDDEN if name != PARTIAL or not request.get("unfinished")]
    while waiting:
        path, place = waiting.pop()
        below = []
        for entry in scan(path, place):
            name = f"{place}/{entry.name}" if place else entry.name
            if entry.name in hidden:
                continue
            if entry.is_dir(follow_symlinks=False):
                below.append((entry.path, name))
                continue
            if entry.is_symlink() and not is_inside(volume, entry.path):
                continue
            with refused_unless_gone(name):
                found = entry.stat()
                if stat.S_ISREG(found.st_mode):
                    yield [name, found.st_size, found.st_mtime]
        if request.get("deep"):
            waiting += reversed(below)
        else:
            folders += [os.path.basename(there) for there, _ in below]


def scan(path: str, place: str) -> list[os.DirEntry[str]]:
    """Return what is in a folder by name, nothing for one that vanished."""
    with refused_unless_gone(place), os.scandir(path) as entries:
        return sorted(entries, key=lambda entry: entry.name)
    return []


@contextlib.contextmanager
def refused_unless_gone(place: str) -> Iterator[None]:
    """Pass over what is not there, such as a link to nothing; raise Refused for any other trouble with a place."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise Refused(f"{place or 'The volume'} cannot be listed.", str(error.strerror)) from None


def list_file(volume: str, path: str, place: str) -> Iterator[Listed]:
    """Yield the one file that is at a place, if it is one."""
    with refused_unless_gone(place):
        found = os.stat(path)
        if stat.S_ISREG(found.st_mode) and is_inside(volume, path):
            yield [place, found.st_size, found.st_mtime]


if __name__ == "__main__":
    sys.exit(answer.run(main))
