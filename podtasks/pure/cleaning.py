"""What may be deleted from the volume: what the user wants gone, and the plan that comes of it.

All places are paths below the volume's top, with slashes and none in front.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from podtasks.pure.errors import UsageError
from podtasks.pure.storage import Amount, Inventory, OutputDirectory, Search, build_request, describe_leftover

ACTIONS = ("list", "clean")
FLAGS = {
    "old_checkpoints": "--old-checkpoints",
    "archives": "--archives",
    "hf_cache": "--hf-cache",
    "logs": "--logs",
}
KEPT_LOGS = 20
# The folders that Hugging Face's libraries make in HF_HOME and fill again by themselves; the login token and
# accelerate's configuration beside them are the user's. The same list stands in remote/volume_clean.py.
CACHE_FOLDERS = ("assets", "datasets", "diffusers", "evaluate", "hub", "metrics", "modules", "transformers", "xet")


@dataclass(frozen=True)
class Wishes:
    """What the user wants gone, and how many complete checkpoints stay in each output directory."""

    old_checkpoints: bool = False
    archives: bool = False
    hf_cache: bool = False
    logs: bool = False
    keep: int = 1

    @property
    def flags(self) -> list[str]:
        """The flags that say so."""
        return [flag for name, flag in FLAGS.items() if getattr(self, name)]


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


def parse_action(words: Sequence[str], wishes: Wishes, *, has_clean_flags: bool) -> str:
    """Return what `inv storage` is to do: list or clean.

    Raises UsageError for another word, and for flags of clean (`has_clean_flags`: --yes or --dry-run) without it.
    """
    action = " ".join(words) or "list"
    if action not in ACTIONS:
        raise UsageError(
            f"inv storage does not know {action!r}.",
            means="Nothing was changed.",
            next_step="inv storage list, or inv storage clean",
        )
    given = wishes.flags or (["--yes or --dry-run"] if has_clean_flags else [])
    if action == "list" and (given or wishes.keep != 1):
        raise UsageError(
            f"{', '.join(given or ['--keep'])} belongs to inv storage clean.",
            means="Nothing was changed.",
            next_step="inv storage clean with the same flags; it asks before it deletes",
        )
    return action


def plan_cleaning(inventory: Inventory, wishes: Wishes, search: Search) -> CleaningPlan:
    """Return what to delete for these wishes.

    Never in it: a final model, the newest complete checkpoint of an output directory, what a live run needs, and
    what does not look like what it is called. Leftovers of a clean that was killed and of
    interrupted uploads go with any of them.
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
        Item("leftover", place, inventory.amount(place), describe_leftover(place))
        for place in inventory.leftovers
        if not place.startswith(inside)
    ]
    return CleaningPlan(tuple(items), tuple(entry for entry in found if not isinstance(entry, Item)))


def plan_choices(inventory: Inventory, search: Search, keep: int) -> Mapping[str, CleaningPlan]:
    """Return what each flag alone would delete."""
    return {
        flag: plan_cleaning(inventory, replace(Wishes(keep=keep), **{name: True}), search)
        for name, flag in FLAGS.items()
    }


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


def build_clean_request(search: Search, items: Sequence[Item], keep: int, *, other_pods: bool) -> dict[str, Any]:
    """Return remote/storage.py's request to delete these."""
    return {
        **build_request(search, other_pods=other_pods),
        "op": "clean",
        "keep": keep,
        "keep_logs": KEPT_LOGS,
        "items": [{"kind": item.kind, "path": item.place} for item in items],
    }
