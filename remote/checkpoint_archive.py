"""Set checkpoints aside, whole, that would poison a run: all before a fresh start, the newer ones before a step back.

By step number they would win at the next automatic resume. Newer versions of transformers rotate checkpoints by
step as well: old ones with higher numbers left in place make a fresh run delete its own new ones. So they are
moved, by rename: nothing is copied, nothing deleted.
"""

from __future__ import annotations

import glob
import os
import time
from collections.abc import Iterator

from answer import Refused
from checkpoints import step_of

PARTIAL = "tmp-checkpoint*"


def archive(output_dir: str, pattern: str, notes: list[str], newer_than: int | None = None) -> str | None:
    """Move every path in `output_dir` that matches `pattern`, whole or partial, beside it.

    With `newer_than`, only those of a higher step. Return the folder they are in now,
    `<output_dir>.archive-<UTC time>`; None when there was nothing to move.
    Raise Refused when a path cannot be moved by a rename.
    """
    directory = os.path.realpath(output_dir)
    names = _find(directory, pattern)
    if newer_than is not None:
        steps = {name: step_of(os.path.join(directory, name), directory) for name in names}
        names = [name for name, step in steps.items() if step is not None and step > newer_than]
    if not names:
        if newer_than is None:
            notes.append(f"no checkpoints to set aside in {output_dir}")
        return None
    target = _make_folder(directory, notes)
    for name in names:
        _move(os.path.join(directory, name), os.path.join(target, name))
    return target


def new_place(path: str, output_dir: str, target: str) -> str:
    """Return where `path` is since what is in `output_dir` was moved to `target`; itself if it was not moved."""
    if os.path.lexists(path):
        return path
    moved = os.path.join(target, os.path.relpath(os.path.realpath(path), os.path.realpath(output_dir)))
    return moved if os.path.lexists(moved) else path


def _find(directory: str, pattern: str) -> list[str]:
    """Return the paths below `directory`, relative to it, that the pattern or that of partial ones matches.

    What lies inside a path that is found goes along with it. Raise Refused for a pattern that leads out.
    """
    if not pattern or os.path.isabs(pattern) or ".." in pattern.split("/"):
        raise Refused("The checkpoint pattern leads out of its directory.", repr(pattern))
    head, tail = os.path.split(pattern.rstrip("/"))
    found = set()
    for each in (tail, f"tmp-{tail}", PARTIAL):
        paths = glob.iglob(os.path.join(glob.escape(directory), head, each), recursive=True)
        found |= {os.path.normpath(os.path.relpath(path, directory)) for path in paths} - {os.curdir}
    return sorted(path for path in found if not any(parent in found for parent in _parents(path)))


def _parents(path: str) -> Iterator[str]:
    """Yield the folders a relative path lies in, from the inside out."""
    while path := os.path.dirname(path):
        yield path


def _make_folder(directory: str, notes: list[str]) -> str:
    """Make the folder to move to: beside `directory`, or in it where it is a file system of its own."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    base = f"{directory}.archive-{stamp}"
    if os.stat(directory).st_dev != os.stat(os.path.dirname(directory)).st_dev:
        base = os.path.join(directory, f"archive-{stamp}")
        notes.append(f"{directory} is a file system of its own: its checkpoints are set aside inside it")
    target, number = base, 1
    while os.path.lexists(target):
        number += 1
        target = f"{base}-{number}"
    os.mkdir(target)
    return target


def _move(path: str, target: str) -> None:
    """Rename `path` to `target`."""
    try:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(path, target)
    except OSError as error:
        raise Refused("A checkpoint could not be set aside; nothing was deleted.", str(error)) from None
