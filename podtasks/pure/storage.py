"""What lies on the volume, as remote/storage.py measures it.

All places are paths below the volume's top, with slashes and none in front.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podtasks.pure.rsync_output import PARTIAL_FOLDER

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Amount:
    """How many files there are, and how many bytes they have."""

    files: int
    size_bytes: int


@dataclass(frozen=True)
class StoredCheckpoint:
    """A folder with a checkpoint's name.

    Args:
        why: why it is not complete.
        keep: why it must stay in any case.
        is_checked: whether it was looked into at all; an old one that nothing depends on need not be.
    """

    place: str
    step: int | None
    why: str | None = None
    keep: str | None = None
    is_checked: bool = True


@dataclass(frozen=True)
class StoredArchive:
    """Checkpoints that a forced restart moved aside."""

    place: str
    is_complete: bool
    is_in_use: bool = False


@dataclass(frozen=True)
class OutputDirectory:
    """Where a training writes: its checkpoints, the newest first, and its archives, the oldest first."""

    place: str
    checkpoints: tuple[StoredCheckpoint, ...] = ()
    is_complete: bool = False
    archives: tuple[StoredArchive, ...] = ()

    def newest_complete(self) -> StoredCheckpoint | None:
        """Return the checkpoint that the next run resumes from."""
        return next((each for each in self.checkpoints if each.why is None), None)


@dataclass(frozen=True)
class StoredLog:
    """A run's own log, or a part of the log of all runs that was set aside (`is_part`)."""

    place: str
    size_bytes: int
    keep: str | None = None
    is_part: bool = False


@dataclass(frozen=True)
class Search:
    """Where on the volume checkpoints and caches are looked for.

    Args:
        roots: folders below which output directories are found by what is in them.
        exact: output directories that the configurations name.
        pattern: a checkpoint's name.
        hf_home: Hugging Face's cache, None where it is not on the volume.
        linked: folders of the clone that are links to elsewhere on the volume, and counted there.
    """

    roots: tuple[str, ...]
    exact: tuple[str, ...]
    pattern: str
    hf_home: str | None
    linked: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """What lies on the volume.

    Args:
        used: all of it.
        measured_at: when, seconds since 1970.
        tree: folders of interest, each with all that lies below it.
        live_run: the run that goes on, None where none does.
        is_preparing: whether a launch is under way, which may be about to resume from any checkpoint.
        unreadable: what could not be looked at.
    """

    used: Amount
    measured_at: float
    tree: Mapping[str, Amount]
    directories: tuple[OutputDirectory, ...]
    logs: tuple[StoredLog, ...]
    leftovers: tuple[str, ...]
    live_run: str | None = None
    is_preparing: bool = False
    unreadable: tuple[str, ...] = ()

    def amount(self, place: str) -> Amount:
        """Return what lies at a place."""
        return self.tree.get(place, Amount(0, 0))


def describe_leftover(place: str) -> str:
    """Return what left a folder behind."""
    if posixpath.basename(place) == PARTIAL_FOLDER:
        return "interrupted uploads"
    return "left by a clean that did not get to its end"


def parse_inventory(answer: Mapping[str, Any]) -> Inventory:
    """Return what remote/storage.py measured."""
    return Inventory(
        used=Amount(answer["files"], answer["used_bytes"]),
        measured_at=float(answer["measured_at"]),
        tree={place: Amount(*amount) for place, amount in answer["tree"].items()},
        directories=tuple(_parse_directory(entry) for entry in answer["directories"]),
        logs=tuple(StoredLog(log["path"], log["size_bytes"], log["keep"], log["is_part"]) for log in answer["logs"]),
        leftovers=tuple(answer["leftovers"]),
        live_run=answer["live"],
        is_preparing=answer["is_preparing"],
        unreadable=tuple(answer["unreadable"]),
    )


def _parse_directory(entry: Mapping[str, Any]) -> OutputDirectory:
    checkpoints = (StoredCheckpoint(c["path"], c["step"], c["why"], c["keep"]) for c in entry["checkpoints"])
    archives = (StoredArchive(a["path"], a["is_complete"], a["in_use"]) for a in entry["archives"])
    return OutputDirectory(entry["path"], tuple(checkpoints), entry["is_complete"], tuple(archives))


def build_request(search: Search, *, other_pods: bool) -> dict[str, Any]:
    """Return the part of remote/storage.py's request that says where to look."""
    return {
        "roots": list(search.roots),
        "exact": list(search.exact),
        "pattern": search.pattern,
        "hf_home": search.hf_home,
        "other_pods": other_pods,
    }
