"""The output directories on the volume: their checkpoints and archives, and which of these must stay.

All paths are relative to the volume's top and lead through no symbolic link.
"""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from checkpoints import (
    TRAINER_STATE,
    Checkpoint,
    find_newest,
    has_trainer_state,
    list_newest_first,
    read_json,
    why_incomplete,
)

FINAL_MODEL = "final_model"
DELETING = ".deleting-"
ARCHIVE = re.compile(r"(?:(?P<base>.+)\.)?archive-\d{8}-\d{6}(?:-\d+)?\Z", re.DOTALL)
# What only a training's save leaves in a folder, or a clean by the S3 API that did not get to its end.
_SAVED = (
    *(".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz", ".msgpack", ".distcp", ".index.json"),
    *(TRAINER_STATE, "podtasks-deleting.tmp"),
)
# What people write beside their checkpoints, which no training resumes from.
_WRITTEN = (".md", ".rst", ".txt", ".log", ".pdf", ".png", ".jpg", ".ipynb")


class Found(NamedTuple):
    """A checkpoint's folder. `why` says why it is not complete, `keep` why it must not be deleted in any case."""

    path: str
    step: int | None
    why: str | None
    keep: str | None


class Volume:
    """The volume's folder, and what a live run on it needs.

    Args:
        top: where it is mounted.
        in_use: absolute paths that a live run needs.
    """

    def __init__(self, top: str, in_use: Iterable[str] = ()) -> None:
        self.top = os.path.realpath(top)
        self.in_use = {os.path.realpath(path) for path in in_use}

    def absolute(self, path: str) -> str:
        """Return the absolute path of one below the top."""
        return os.path.join(self.top, path)

    def inside(self, path: str) -> str | None:
        """Return where a path of the request really is below the top, None where links or dots lead out of it."""
        real = os.path.realpath(os.path.join(self.top, path))
        return os.path.relpath(real, self.top) if real.startswith(self.top + os.sep) else None

    def is_straight(self, path: str) -> bool:
        """Say whether a path is where it says, with no link and no dots on the way."""
        return bool(path) and self.inside(path) == path

    def is_in_use(self, path: str) -> bool:
        """Say whether a live run needs this path or something in it."""
        absolute = self.absolute(path)
        return any(used == absolute or used.startswith(absolute + os.sep) for used in self.in_use)


def find_directories(volume: Volume, roots: Iterable[str], exact: Iterable[str], pattern: str) -> list[str]:
    """Return the output directories: those named exactly, and each below `roots` that holds checkpoints.

    A pattern over several folders, or one that begins with a wildcard, is looked for only in directories that are
    named: any folder might have such a name.
    """
    found = {place for each in exact if (place := volume.inside(each))}
    simple = "/" not in pattern and not pattern.startswith(("*", "?", "["))
    for root in filter(None, map(volume.inside, roots)):
        for folder, names in _walk(volume, root, pattern):
            base = _archive_base(folder)
            if base:
                found.add(base)
            elif simple and any(fnmatch.fnmatchcase(name, pattern) for name in names):
                found.add(folder)
    return sorted(found)


def _walk(volume: Volume, root: str, pattern: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders at and below a root with the names of the folders in them; checkpoints are not entered."""
    for folder, names, _ in os.walk(volume.absolute(root)):
        names[:] = [name for name in names if not os.path.islink(os.path.join(folder, name))]
        yield os.path.relpath(folder, volume.top), list(names)
        stays_out = ARCHIVE.match(os.path.basename(folder)) is not None
        names[:] = [
            name
            for name in names
            if not stays_out and not name.startswith(DELETING) and not fnmatch.fnmatchcase(name, pattern)
        ]


def _archive_base(folder: str) -> str | None:
    """Return the output directory that a folder is an archive of, None where it is none."""
    parent, name = os.path.split(folder)
    match = ARCHIVE.match(name)
    if match is None:
        return None
    return os.path.join(parent, match["base"]) if match["base"] else parent or None


def list_checkpoints(volume: Volume, directory: str, pattern: str) -> list[Found]:
    """Return the folders in an output directory that have a checkpoint's name, the newest first."""
    absolute = volume.absolute(directory)
    found = [entry for entry in list_newest_first(absolute, pattern) if os.path.isdir(entry.path)]
    has_states = any(has_trainer_state(path) for path, _ in found)
    keepers = _keepers(absolute, pattern)
    return [
        Found(
            os.path.relpath(path, volume.top),
            step,
            why_incomplete(path, has_states),
            _why_kept(volume, Checkpoint(path, step), directory, pattern, keepers),
        )
        for path, step in found
    ]


def list_archives(volume: Volume, directory: str) -> list[str]:
    """Return the archives of an output directory, the oldest first."""
    parent, base = os.path.split(directory)
    return sorted(
        os.path.join(folder, name)
        for folder, wanted in ((parent, base), (directory, None))
        for name in _folder_names(volume.absolute(folder))
        if (match := ARCHIVE.match(name)) and match["base"] == wanted
    )


def has_complete(volume: Volume, directory: str, pattern: str) -> bool:
    """Say whether a complete checkpoint lies in a directory; one that cannot be listed may hold one."""
    try:
        return find_newest(volume.absolute(directory), pattern)[0] is not None
    except (OSError, ValueError):
        return True


def _folder_names(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def _keepers(directory: str, pattern: str) -> dict[str, str]:
    """Return real paths that must stay, with the reason: what links lead to, and the best checkpoint."""
    keepers: dict[str, str] = {}
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_symlink():
                keepers[os.path.realpath(entry.path)] = f"the link {entry.name} leads to it"
    newest, _ = find_newest(directory, pattern)
    best = _best_checkpoint(newest.path) if newest else None
    if newest and best:
        keepers[os.path.join(os.path.dirname(os.path.realpath(newest.path)), best)] = "it is the best one so far"
    return keepers


def _best_checkpoint(path: str) -> str | None:
    """Return the name of the best checkpoint, which Hugging Face's Trainer loads at the end, if one is noted."""
    best: Any = read_json(os.path.join(path, TRAINER_STATE)).get("best_model_checkpoint")
    return os.path.basename(best.rstrip("/")) if isinstance(best, str) else None


def _why_kept(
    volume: Volume, checkpoint: Checkpoint, directory: str, pattern: str, keepers: dict[str, str]
) -> str | None:
    path = checkpoint.path
    if os.path.islink(path) or not volume.is_straight(os.path.relpath(path, volume.top)):
        return "it is a link"
    if FINAL_MODEL in os.path.relpath(path, volume.absolute(directory)).split(os.sep):
        return "it is the final model"
    if volume.is_in_use(os.path.relpath(path, volume.top)):
        return "the run that goes on began from it"
    if path in keepers:
        return keepers[path]
    return None if _looks_like_checkpoint(checkpoint, pattern) else "it does not look like a checkpoint"


def _looks_like_checkpoint(checkpoint: Checkpoint, pattern: str) -> bool:
    """Say whether a folder is what a training saved, or what is left of it: with a step, and its files.

    One that has checkpoints or a final model inside is an output directory, whatever its name. Under a pattern that
    begins with a wildcard any folder has a checkpoint's name, so there its files must be those of a save.
    """
    path, step = checkpoint
    if step is None:
        return False
    found = [(folders, files) for _, folders, files in os.walk(path)]
    folders = {name for names, _ in found for name in names}
    files = {name for _, names in found for name in names}
    if FINAL_MODEL in folders or any(fnmatch.fnmatchcase(name, os.path.basename(pattern)) for name in folders):
        return False
    if not files or any(name.endswith(_SAVED) for name in files):
        return True
    return not os.path.basename(pattern).startswith(("*", "?", "[")) and not all(
        name.lower().endswith(_WRITTEN) for name in files
    )
