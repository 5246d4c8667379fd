"""Deleting what a plan names by the S3 API, file by file: there is no rename and no batch there.

A checkpoint first gets a file that marks it as unfinished, then loses what makes it a checkpoint, then the rest, and
the mark last: at no point is half of it taken for a complete one.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from podtasks.flows.checkpoint_choice import TRAINER_STATE, choose_by_s3
from podtasks.pure.cleaning import CleaningPlan, Item
from podtasks.pure.storage import Inventory, Search
from podtasks.pure.storage_text import Outcome
from podtasks.pure.transfer import LocalFile, VolumeFile

if TYPE_CHECKING:
    from podtasks.doors.s3 import S3Volume

# The pod's check takes any folder with such a name in it for an unfinished save (remote/checkpoints.py).
MARK = "podtasks-deleting.tmp"
COMPARED_BYTES = 1 << 20
# What pipelines call a link to their best or last checkpoint. Listings show no links to folders.
LINKS = ("final_model", "best", "best_model", "last", "latest")


class Removal:
    """One clean by the S3 API.

    Args:
        volume: the way there.
        search: where checkpoints are looked for.
        inventory: what the plan was made from.
        empty_file: an empty file on this machine, to send as the mark.
    """

    def __init__(self, volume: S3Volume, search: Search, inventory: Inventory, empty_file: Path) -> None:
        self._volume = volume
        self._search = search
        self._inventory = inventory
        self._empty_file = empty_file
        self._newest: dict[str, str | None] = {}

    def run(self, plan: CleaningPlan) -> Outcome:
        """Delete what may still go and return what came of it."""
        deleted: list[str] = []
        left: list[tuple[str, str]] = []
        failed: list[tuple[str, str]] = []
        for item in plan.items:
            why = self._why_left(item, plan)
            problem = None if why else self._delete(item)
            if why:
                left.append((item.place, why))
            elif problem:
                failed.append((item.place, problem))
            else:
                deleted.append(item.place)
        return Outcome(tuple(deleted), tuple(left), tuple(failed))

    def _why_left(self, item: Item, plan: CleaningPlan) -> str | None:
        """Return why a checkpoint must stay, now that the newest complete one is looked for again."""
        if item.kind != "checkpoint":
            return None
        directory = self._directory_of(item.place)
        if directory not in self._newest:
            self._newest[directory] = choose_by_s3(self._volume, directory, self._search.pattern).place
        newest = self._newest[directory]
        if newest is None or newest in {each.place for each in plan.items}:
            return "no newer one is complete any more"
        link = self._find_link(item.place, directory)
        return f"{link} is a link to it, or a copy" if link else None

    def _find_link(self, checkpoint: str, directory: str) -> str | None:
        """Return what else in the output directory leads to the same file, None where nothing does."""
        largest = max(self._volume.list_everything(checkpoint), key=lambda file: file.size_bytes, default=None)
        if largest is None:
            return None
        same = {link: f"{directory}/{link}{largest.place[len(checkpoint) :]}" for link in LINKS}
        return next((link for link, place in same.items() if self._is_same(largest, place)), None)

    def _is_same(self, file: VolumeFile, place: str) -> bool:
        """Return whether a place shows this very file. Times are whole seconds there, so the content counts as well."""
        if self._volume.find(place) != replace(file, place=place):
            return False
        return self._volume.read_end(place, COMPARED_BYTES) == self._volume.read_end(file.place, COMPARED_BYTES)

    def _directory_of(self, place: str) -> str:
        inside = [d.place for d in self._inventory.directories if place.startswith(d.place + "/")]
        return max(inside, key=len)

    def _delete(self, item: Item) -> str | None:
        """Delete an item with all that is in it; return why something of it remains."""
        if item.kind == "log":
            return _first(self._volume.delete([item.place]))
        places = [file.place for file in self._volume.list_everything(item.place)]
        if item.kind == "checkpoint":
            return self._delete_checkpoint(item.place, places)
        if item.kind == "archive":
            for folder in sorted({_folder_below(item.place, place) for place in places} - {item.place}):
                inside = [place for place in places if place.startswith(folder + "/")]
                problem = self._delete_checkpoint(folder, inside)
                if problem:
                    return problem
            places = [place for place in places if _folder_below(item.place, place) == item.place]
        return _first(self._volume.delete(places))

    def _delete_checkpoint(self, checkpoint: str, places: Iterable[str]) -> str | None:
        mark = f"{checkpoint}/{MARK}"
        status = self._empty_file.stat()
        sent = self._volume.upload(
            [LocalFile(self._empty_file, mark, 0, status.st_mtime_ns)], _Unheard(), check="nothing"
        )
        rest = [place for place in places if place != mark]
        states = [place for place in rest if posixpath.basename(place) == TRAINER_STATE]
        return (
            _first(sent.failures)
            or _first(self._volume.delete(states))
            or _first(self._volume.delete(place for place in rest if place not in states))
            or _first(self._volume.delete([mark]))
        )


class _Unheard:
    """A progress bar for what takes no time."""

    def add(self, *, files: int = 0, size_bytes: int = 0) -> None:
        """Do nothing."""


def _folder_below(top: str, place: str) -> str:
    """Return the folder right below `top` that a place is in, `top` itself for a file that lies in it."""
    first, _, rest = place[len(top) + 1 :].partition("/")
    return f"{top}/{first}" if rest else top


def _first(failures: list[tuple[str, str]]) -> str | None:
    return f"{failures[0][0]}: {failures[0][1]}" if failures else None
