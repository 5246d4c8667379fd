"""What lies on the volume, for people and as JSON."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from podtasks.pure.amounts import format_bytes, format_count, format_files, format_usd
from podtasks.pure.cleaning import CleaningPlan, Item
from podtasks.pure.costs import Storage
from podtasks.pure.pod import NetworkVolume
from podtasks.pure.storage import Amount, Inventory, OutputDirectory, Search, describe_leftover

KINDS = {
    "checkpoints": "checkpoints",
    "data": "data",
    "logs": "the log of all runs, and what TensorBoard reads",
    "predictions": "predictions",
    "runs": "records and logs of runs",
    ".cache": "caches",
    ".s3compat_uploads": "unfinished uploads",
}
CACHES = {".cache/uv": "package cache", ".cache/pip": "package cache"}
LOOSE = "(files at the top)"
GB = 1_000_000_000


@dataclass(frozen=True)
class Row:
    """A folder of the listing, with what it is."""

    place: str
    amount: Amount
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a clean: places deleted, those left as they were with the reason, and those that would not go."""

    deleted: tuple[str, ...]
    left: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]


def list_rows(inventory: Inventory, search: Search, clone: str) -> Iterator[Row]:
    """Yield the folders to show: those at the top, largest first, each with what is worth showing in it."""
    top = [place for place in inventory.tree if "/" not in place]
    for place in sorted(top, key=lambda each: (-inventory.amount(each).size_bytes, each)):
        note = KINDS.get(place, "the clone" if place == clone else "")
        yield Row(place + "/", inventory.amount(place), note)
        yield from _list_inside(inventory, search, place)
    loose = Amount(
        inventory.used.files - sum(inventory.amount(place).files for place in top),
        inventory.used.size_bytes - sum(inventory.amount(place).size_bytes for place in top),
    )
    if loose.files > 0:
        yield Row(LOOSE, loose)


def _list_inside(inventory: Inventory, search: Search, top: str) -> Iterator[Row]:
    for directory in inventory.directories:
        if directory.place.split("/")[0] == top:
            yield from _list_directory(inventory, directory)
    caches = {**CACHES, **({search.hf_home: "Hugging Face cache"} if search.hf_home else {})}
    for place in sorted(inventory.tree):
        if place in caches and place.startswith(top + "/"):
            yield Row(f"{place}/", inventory.amount(place), caches[place])
    for place in inventory.leftovers:
        if place.split("/")[0] == top:
            yield Row(f"{place}/", inventory.amount(place), describe_leftover(place))


def _list_directory(inventory: Inventory, directory: OutputDirectory) -> Iterator[Row]:
    checkpoints = {each.place: each for each in directory.checkpoints}
    if directory.place in inventory.tree:
        yield Row(f"{directory.place}/", inventory.amount(directory.place), "output directory")
    newest = directory.newest_complete()
    for place, checkpoint in checkpoints.items():
        state = f"not complete: it {checkpoint.why}" if checkpoint.why else "complete"
        state = state if checkpoint.is_checked else "older"
        yield Row(f"{place}/", inventory.amount(place), "newest complete" if checkpoint is newest else state)
    for place in sorted(inventory.tree):
        if posixpath.dirname(place) == directory.place and place not in (*checkpoints, *inventory.leftovers):
            is_model = posixpath.basename(place) == "final_model"
            yield Row(f"{place}/", inventory.amount(place), "final model" if is_model else "")
    for archive in directory.archives:
        yield Row(f"{archive.place}/", inventory.amount(archive.place), "archive of a forced restart")


def describe_total(inventory: Inventory, volume: NetworkVolume | None) -> list[str]:
    """Return how full the volume is, and what it costs."""
    used = f"{format_bytes(inventory.used.size_bytes)} in {format_files(inventory.used.files)}"
    if volume is None:
        return [f"total: {used}"]
    return [
        f"total: {used}, {_share(inventory.used.size_bytes, volume.size_gb)} of {volume.size_gb} GB",
        f"network volume {volume.id} in {volume.data_center}: {format_usd(_usd_per_month(volume))} a month, "
        "billed by its size, not by what lies on it",
    ]


def _share(size_bytes: int, size_gb: int) -> str:
    percent = 100 * size_bytes / (max(size_gb, 1) * GB)
    return "under 1%" if 0 < percent < 1 else f"{percent:.0f}%"


def _usd_per_month(volume: NetworkVolume) -> float:
    return Storage(volume.id, volume.size_gb).usd_per_month


def inventory_json(inventory: Inventory, volume: NetworkVolume | None, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the listing as docs/json.md describes it."""
    return {
        "volume": volume
        and {
            "id": volume.id,
            "size_gb": volume.size_gb,
            "data_center": volume.data_center,
            "usd_per_month": round(_usd_per_month(volume), 2),
        },
        "used_bytes": inventory.used.size_bytes,
        "files": inventory.used.files,
        "measured_at": inventory.measured_at,
        "live_run": inventory.live_run,
        "folders": [
            {"path": r.place.rstrip("/"), "files": r.amount.files, "size_bytes": r.amount.size_bytes, "note": r.note}
            for r in rows
        ],
        "output_directories": [_directory_json(inventory, directory) for directory in inventory.directories],
        "unreadable": list(inventory.unreadable),
    }


def _directory_json(inventory: Inventory, directory: OutputDirectory) -> dict[str, Any]:
    return {
        "path": directory.place,
        "checkpoints": [
            {
                "path": checkpoint.place,
                "step": checkpoint.step,
                "is_complete": checkpoint.why is None if checkpoint.is_checked else None,
                "why": checkpoint.why,
                "size_bytes": inventory.amount(checkpoint.place).size_bytes,
            }
            for checkpoint in directory.checkpoints
        ],
        "archives": [
            {"path": archive.place, "size_bytes": inventory.amount(archive.place).size_bytes}
            for archive in directory.archives
        ],
    }


def plan_json(plan: CleaningPlan) -> dict[str, Any]:
    """Return the plan as docs/json.md describes it."""
    return {
        "plan": [_item_json(item) for item in plan.items],
        "kept": [{"path": place, "why": why} for place, why in plan.kept],
    }


def outcome_json(plan: CleaningPlan, outcome: Outcome, used_bytes: int | None) -> dict[str, Any]:
    """Return plan and outcome as docs/json.md describes them."""
    return {
        **plan_json(plan),
        "deleted": list(outcome.deleted),
        "left": [{"path": place, "why": why} for place, why in outcome.left],
        "failed": [{"path": place, "why": why} for place, why in outcome.failed],
        "freed_bytes": freed(plan, outcome).size_bytes,
        "used_bytes": used_bytes,
    }


def _item_json(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind,
        "path": item.place,
        "files": item.amount.files,
        "size_bytes": item.amount.size_bytes,
        "why": item.why,
    }


def describe_kept(plan: CleaningPlan) -> Iterator[str]:
    """Yield what was asked for but stays, with the reason; folders of one directory with the same reason at once."""
    together: dict[tuple[str, str], list[str]] = {}
    for place, why in plan.kept:
        together.setdefault((posixpath.dirname(place), why), []).append(place)
    for (directory, why), places in together.items():
        if len(places) == 1:
            yield f"stays: {places[0]}: {why}"
        else:
            yield f"{format_count(len(places))} in {directory or 'the volume'} stay: {why}"


def count_things(count: int) -> str:
    """Return how many things there are, in words."""
    return f"{format_count(count)} {'thing' if count == 1 else 'things'}"


def freed(plan: CleaningPlan, outcome: Outcome) -> Amount:
    """Return what the deleted things held."""
    gone = [item.amount for item in plan.items if item.place in outcome.deleted]
    return Amount(sum(amount.files for amount in gone), sum(amount.size_bytes for amount in gone))
