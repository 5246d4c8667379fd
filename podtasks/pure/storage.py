"""What lies on the volume, and the plan of what may be deleted from it.

All places are paths below the volume's top, with slashes and none in front.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

KEPT_LOGS = 20
CHECKPOINTS = "checkpoints"
# The folders that Hugging Face's libraries make in HF_HOME and fill again by themselves; the login token and
# accelerate's configuration beside them are the user's. The same list stands in remote/volume_clean.py.
CACHE_FOLDERS = ("assets", "datasets", "diffusers", "evaluate", "hub", "metrics", "modules", "transformers", "xet")


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


@dataclass(frozen=True)
class Wishes:
    """What the user wants gone, and how many complete checkpoints stay in each output directory."""

    old_checkpoints: bool = False
    archives: bool = False
    hf_cache: bool = False
    logs: bool = False
    keep: int = 1


@dataclass(frozen=True)
class Item:
    """Something to delete; `kind` is remote/storage.py's word for it."""

    kind: str
    place: str
    amount: Amount
    why: str


@dataclass(frozen=True)
class CleaningPlan:
    """What is to be deleted, and what was asked for but stays, with the reason."""

    items: tuple[Item, ...]
    kept: tuple[tuple[str, str], ...] = field(default=())

    @property
    def amount(self) -> Amount:
        """All that the items hold."""
        return Amount(sum(i.amount.files for i in self.items), sum(i.amount.size_bytes for i in self.items))


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


def plan_cleaning(inventory: Inventory, wishes: Wishes, search: Search) -> CleaningPlan:
    """Return what to delete for these wishes.

    Never in it: a final model, the newest complete checkpoint of an output directory, what a live run needs, and
    what does not look like what it is called. Leftovers of a clean that was killed go with any of them.
    """
    found: list[Item | tuple[str, str]] = []
    for directory in inventory.directories:
        if wishes.old_checkpoints:
            found += _plan_checkpoints(inventory, directory, wishes.keep)
        if wishes.archives:
            found += _plan_archives(inventory, directory)
    if wishes.hf_cache:
        found += _plan_cache(inventory, search.hf_home)
    if wishes.logs:
        found += _plan_logs(inventory)
    items = [item for item in found if isinstance(item, Item)]
    inside = tuple(item.place + "/" for item in items)
    items += [
        Item("leftover", place, inventory.amount(place), "left by a clean that did not get to its end")
        for place in inventory.leftovers
        if not place.startswith(inside)
    ]
    return CleaningPlan(tuple(items), tuple(entry for entry in found if not isinstance(entry, Item)))


def _plan_checkpoints(
    inventory: Inventory, directory: OutputDirectory, keep: int
) -> Iterator[Item | tuple[str, str]]:
    complete = 0
    for checkpoint in directory.checkpoints:
        newer = complete
        complete += checkpoint.why is None
        if checkpoint.keep:
            yield checkpoint.place, checkpoint.keep
        elif newer >= (keep if checkpoint.why is None else 1):
            newest = directory.newest_complete()
            than = f"step {newest.step}" if newest and newest.step is not None else "a newer one"
            why = f"older than {than}, which is complete"
            if checkpoint.why:
                why = f"not complete ({checkpoint.why}), and {why}"
            yield Item("checkpoint", checkpoint.place, inventory.amount(checkpoint.place), why)
        elif checkpoint.why:
            yield checkpoint.place, f"no newer one is complete; it {checkpoint.why}"
        else:
            yield checkpoint.place, "the newest complete one" if newer == 0 else f"among the newest {keep}"


def _plan_archives(inventory: Inventory, directory: OutputDirectory) -> Iterator[Item | tuple[str, str]]:
    complete = [archive.place for archive in directory.archives if archive.is_complete]
    only = complete[-1] if complete and not directory.is_complete else None
    for archive in directory.archives:
        if archive.is_in_use:
            yield archive.place, "the run that goes on began from it"
        elif archive.place == only:
            yield archive.place, "it holds the only complete checkpoint"
        else:
            yield Item("archive", archive.place, inventory.amount(archive.place), "set aside by a forced restart")


def _plan_cache(inventory: Inventory, hf_home: str | None) -> Iterator[Item | tuple[str, str]]:
    if hf_home is None:
        return
    for name in CACHE_FOLDERS:
        place = posixpath.join(hf_home, name)
        if place not in inventory.tree:
            continue
        if inventory.live_run:
            yield place, "a run goes on, which may read it"
        else:
            yield Item("cache", place, inventory.amount(place), "downloaded and prepared again when it is needed")


def _plan_logs(inventory: Inventory) -> Iterator[Item | tuple[str, str]]:
    runs = [log for log in inventory.logs if not log.is_part]
    for log in inventory.logs:
        if log.keep:
            yield log.place, log.keep
        elif log.is_part or log in runs[KEPT_LOGS:]:
            why = "an old part of the log of all runs" if log.is_part else f"not among the newest {KEPT_LOGS} runs"
            yield Item("log", log.place, Amount(1, log.size_bytes), why)


def build_request(search: Search, *, other_pods: bool) -> dict[str, Any]:
    """Return the part of remote/storage.py's request that says where to look."""
    return {
        "roots": list(search.roots),
        "exact": list(search.exact),
        "pattern": search.pattern,
        "hf_home": search.hf_home,
        "other_pods": other_pods,
    }


def build_clean_request(search: Search, items: Sequence[Item], keep: int, *, other_pods: bool) -> dict[str, Any]:
    """Return remote/storage.py's request to delete these."""
    return {
        **build_request(search, other_pods=other_pods),
        "op": "clean",
        "keep": keep,
        "keep_logs": KEPT_LOGS,
        "items": [{"kind": item.kind, "path": item.place} for item in items],
    }
