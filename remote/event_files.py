"""Where TensorBoard's event files are on a pod."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import NamedTuple

# TensorBoard's own test of a file's name (tensorboard/backend/event_processing/io_wrapper.py).
MARK = "tfevents"
MOST_ENTRIES = 50_000


class LogFolder(NamedTuple):
    """A folder for TensorBoard to read, and whether an event file lies in it or below."""

    path: str
    has_event_files: bool


def choose_folder(clone: str, volume: str, logging_dir: str | None, output_dir: str | None) -> LogFolder:
    """Return the first of the places where a training may log that has event files; with none, the likeliest.

    Args:
        clone: the training repository; paths that are not absolute are seen from there.
        volume: the network volume.
        logging_dir: where the configuration says that it logs, if it does.
        output_dir: where it writes its checkpoints; Hugging Face's trainer logs to `runs` in there.
    """
    places = list(_places(clone, volume, logging_dir, output_dir))
    found = next((place for place in places if has_event_files(place)), None)
    return LogFolder(found or places[0], found is not None)


def _places(clone: str, volume: str, logging_dir: str | None, output_dir: str | None) -> Iterator[str]:
    if logging_dir:
        yield os.path.normpath(os.path.join(clone, logging_dir))
    if output_dir:
        output = os.path.normpath(os.path.join(clone, output_dir))
        yield os.path.join(output, "runs")
        yield output
    for root in (clone, volume):
        yield os.path.join(root, "logs")
    for name in ("runs", "lightning_logs"):
        yield os.path.join(clone, name)


def has_event_files(folder: str) -> bool:
    """Say whether an event file is in a folder or below, links followed; a search without end is given up."""
    waiting, seen = [folder], set()
    entries = 0
    while waiting and entries < MOST_ENTRIES:
        place = waiting.pop(0)
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        files, folders = _list(place)
        if any(MARK in name for name in files):
            return True
        entries += len(files) + len(folders)
        waiting += folders
    return False


def _list(folder: str) -> tuple[list[str], list[str]]:
    """Return the names of a folder's files and the paths of its folders; nothing for one that cannot be read."""
    files, folders = [], []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                folders.append(entry.path)
            else:
                files.append(entry.name)
    return files, sorted(folders)
