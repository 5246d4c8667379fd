"""The files on this machine below a path, symbolic links followed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from podtasks.pure.transfer import LocalFile


@dataclass
class LocalTree:
    """What lies at and below a path here, in the order of its names.

    Args:
        files: what can be copied.
        failures: what should have been and cannot, and why.
        skipped: what is no file, such as a socket, or leads in circles, and why.
    """

    files: list[LocalFile] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """How many bytes the files have."""
        return sum(file.size_bytes for file in self.files)


def walk(path: Path, place: str) -> LocalTree:
    """Return what lies at a path, a file or a folder, with its places on the volume; empty where there is nothing."""
    tree = LocalTree()
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return tree
    except OSError as error:
        tree.failures.append((str(path), error.strerror or str(error)))
        return tree
    if stat.S_ISDIR(found.st_mode):
        _walk_folder(tree, str(path), place, ((found.st_dev, found.st_ino),))
    else:
        _take(tree, str(path), place, found)
    return tree


def _walk_folder(tree: LocalTree, folder: str, place: str, parents: tuple[tuple[int, int], ...]) -> None:
    try:
        with os.scandir(folder) as listing:
            entries = sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        tree.failures.append((folder, f"the folder cannot be read: {error.strerror}"))
        return
    for entry in entries:
        inner = f"{place}/{entry.name}"
        try:
            found = entry.stat()
        except OSError as error:
            tree.failures.append((entry.path, _why_no_file(entry, error)))
            continue
        identity = (found.st_dev, found.st_ino)
        if not stat.S_ISDIR(found.st_mode):
            _take(tree, entry.path, inner, found)
        elif identity in parents:
            tree.skipped.append((entry.path, "it leads back into a folder that it lies in"))
        else:
            _walk_folder(tree, entry.path, inner, (*parents, identity))


def _take(tree: LocalTree, path: str, place: str, found: os.stat_result) -> None:
    if stat.S_ISREG(found.st_mode):
        tree.files.append(LocalFile(Path(path), place, found.st_size, found.st_mtime_ns))
    else:
        tree.skipped.append((path, "it is no file but a socket, a pipe or a device"))


def _why_no_file(entry: os.DirEntry[str], error: OSError) -> str:
    if entry.is_symlink() and isinstance(error, FileNotFoundError):
        return "it is a link to nothing"
    return error.strerror or str(error)
