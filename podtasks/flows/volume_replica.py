"""What lies on the volume, and deleting from it, by the S3 API: without a pod.

The pod's own program measures: it runs here, over a replica of the volume's listing in which files are empty but
for their size. Only what decides whether a checkpoint is complete is read, from the newest on until it is found.
"""

from __future__ import annotations

import contextlib
import json
import os
import posixpath
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podtasks.doors import programs_here
from podtasks.doors.console import Reporter
from podtasks.flows.checkpoint_choice import TRAINER_STATE, copy_for_check
from podtasks.pure.amounts import format_count
from podtasks.pure.errors import UsageError
from podtasks.pure.rsync_output import PARTIAL_FOLDER
from podtasks.pure.settings import Settings
from podtasks.pure.storage import (
    Amount,
    Inventory,
    OutputDirectory,
    Search,
    StoredCheckpoint,
    build_request,
    parse_inventory,
)
from podtasks.pure.transfer import VolumeFile, is_safe_place
from podtasks.pure.volume_place import place_of

if TYPE_CHECKING:
    from podtasks.doors.s3 import S3Volume

PROGRAM = "storage.py"
# RunPod docs, storage/s3-api: a listing of more takes long, for each file is read once to answer.
SLOW_LISTING_FILES = 10_000
RUNS = ("runs", "logs")


def measure_by_s3(
    volume: S3Volume, search: Search, settings: Settings, report: Reporter, *, other_pods: bool, keep: int
) -> Inventory:
    """Return what lies on the volume.

    Args:
        other_pods: whether a pod runs with this volume, so that a run without an end may go on.
        keep: how many complete checkpoints must be known in each output directory.
    """
    files = [file for file in _list(volume, report) if not _is_linked(file.place, search)]
    with tempfile.TemporaryDirectory(prefix="podtasks-") as folder:
        replica = _Replica(volume, Path(folder), files, search, settings)
        answer = replica.measure(other_pods=other_pods, keep=keep)
    inventory = parse_inventory(answer)
    tree = _add_up(files)
    inventory = replace(inventory, leftovers=tuple(_list_leftovers(tree, inventory)))
    shown = {place: tree[place] for place in tree if _is_shown(place, inventory, search)}
    used = Amount(len(files), sum(file.size_bytes for file in files))
    directories = tuple(replica.without_guesses(directory) for directory in inventory.directories)
    return replace(inventory, used=used, tree=shown, directories=directories)


def _list(volume: S3Volume, report: Reporter) -> Iterator[VolumeFile]:
    for number, file in enumerate(volume.list_everything(""), start=1):
        if number % SLOW_LISTING_FILES == 0:
            report.note(f"{format_count(number)} files listed so far; RunPod's listing of many takes minutes")
        yield file


def _is_linked(place: str, search: Search) -> bool:
    """Return whether a file is seen through a link of the clone, and so a second time."""
    return any(place.startswith(link + "/") for link in search.linked)


def _add_up(files: Iterable[VolumeFile]) -> dict[str, Amount]:
    """Return each folder with all that lies below it."""
    totals: dict[str, list[int]] = {}
    for file in files:
        folder = posixpath.dirname(file.place)
        while folder:
            total = totals.setdefault(folder, [0, 0])
            total[0] += 1
            total[1] += file.size_bytes
            folder = posixpath.dirname(folder)
    return {folder: Amount(*total) for folder, total in totals.items()}


def _list_leftovers(tree: Mapping[str, Amount], inventory: Inventory) -> list[str]:
    """Return what the program found, with interrupted uploads of the whole volume: it saw only what matters to it."""
    partial = {place for place in tree if posixpath.basename(place) == PARTIAL_FOLDER}
    inside = tuple(f"{place}/" for place in inventory.leftovers)
    return sorted({*inventory.leftovers, *(place for place in partial if not place.startswith(inside))})


def _is_shown(place: str, inventory: Inventory, search: Search) -> bool:
    parents = {"", ".cache", search.hf_home, *(directory.place for directory in inventory.directories)}
    named = {
        *inventory.leftovers,
        *(directory.place for directory in inventory.directories),
        *(checkpoint.place for directory in inventory.directories for checkpoint in directory.checkpoints),
        *(archive.place for directory in inventory.directories for archive in directory.archives),
    }
    return posixpath.dirname(place) in parents or place in named


class _Replica:
    """The parts of a volume that matter here, as files of the right size with nothing in them until it is needed."""

    def __init__(
        self, volume: S3Volume, folder: Path, files: Iterable[VolumeFile], search: Search, settings: Settings
    ) -> None:
        self._volume = volume
        self._programs = folder / "programs"
        self._top = folder / "volume"
        self._search = search
        self._settings = settings
        self._files = {file.place: file for file in files if self._matters(file.place)}
        self._filled: set[str] = set()
        programs_here.install(self._programs)
        self._outline()

    def measure(self, *, other_pods: bool, keep: int) -> dict[str, Any]:
        """Return the program's answer, once enough was filled for it."""
        request = {**build_request(self._search, other_pods=other_pods), "op": "measure"}
        while True:
            answer = programs_here.run(self._programs, PROGRAM, request, self._top)
            wanted = list(self._find_unfilled(answer, keep))
            if not wanted:
                return answer
            for place in wanted:
                self._fill(place)

    def without_guesses(self, directory: OutputDirectory) -> OutputDirectory:
        """Return a directory whose checkpoints that were not looked into are not called incomplete."""
        return replace(directory, checkpoints=tuple(self._without_guess(each) for each in directory.checkpoints))

    def _without_guess(self, checkpoint: StoredCheckpoint) -> StoredCheckpoint:
        return checkpoint if checkpoint.place in self._filled else replace(checkpoint, why=None, is_checked=False)

    def _matters(self, place: str) -> bool:
        if not is_safe_place(place):
            return False
        if place.startswith("runs/"):
            return place.count("/") <= 2
        areas = [*self._search.roots, *self._search.exact]
        beside = tuple(f"{place}." for place in self._search.exact)
        return place.startswith(("logs/current.log", *beside)) or any(place.startswith(f"{area}/") for area in areas)

    def _outline(self) -> None:
        """Make each file with its size and time only; records and states with what is in them."""
        self._top.mkdir(parents=True)
        names = ("run.json", "newest", TRAINER_STATE)
        read = self._volume.read_many(place for place in self._files if posixpath.basename(place) in names)
        for place, file in self._files.items():
            path = self._top / place
            path.parent.mkdir(parents=True, exist_ok=True)
            content = read.get(place)
            with open(path, "wb") as copy:
                copy.truncate(file.size_bytes if content is None else 0)
                copy.write(self._moved_here(place, content or b""))
            os.utime(path, (file.modified, file.modified))

    def _moved_here(self, place: str, content: bytes) -> bytes:
        """Return a run's record with the checkpoint it began from as it is named in the replica."""
        if posixpath.basename(place) != "run.json":
            return content
        with contextlib.suppress(ValueError, AttributeError, TypeError, KeyError, UsageError, RecursionError):
            record = json.loads(content)
            checkpoint = record["checkpoint"]
            moved = str(self._top / place_of(checkpoint["path"], self._settings))
            return json.dumps({**record, "checkpoint": {**checkpoint, "path": moved}}).encode()
        return content

    def _find_unfilled(self, answer: Mapping[str, Any], keep: int) -> Iterator[str]:
        """Yield, for each directory, the newest checkpoint whose state must be known and is not."""
        for directory in answer["directories"]:
            place = _next_unfilled([c["path"] for c in directory["checkpoints"]], self._filled, answer, keep)
            if place:
                yield place
            elif not directory["is_complete"]:
                yield from self._find_in_archives(directory)

    def _find_in_archives(self, directory: Mapping[str, Any]) -> Iterator[str]:
        """Yield the next checkpoint to look into of each archive that may hold the only complete one."""
        for archive in directory["archives"]:
            if not archive["is_complete"]:
                inside = {self._checkpoint_of(place, archive["path"]) for place in self._files}
                yield from sorted(place for place in inside if place and place not in self._filled)[-1:]

    @staticmethod
    def _checkpoint_of(place: str, archive: str) -> str:
        rest = place[len(archive) + 1 :] if place.startswith(archive + "/") else ""
        return f"{archive}/{rest.split('/')[0]}" if "/" in rest else ""

    def _fill(self, checkpoint: str) -> None:
        self._filled.add(checkpoint)
        for place, file in self._files.items():
            if place.startswith(checkpoint + "/"):
                copy_for_check(self._volume, file, self._top)
                os.utime(self._top / place, (file.modified, file.modified))


def _next_unfilled(places: list[str], filled: set[str], answer: Mapping[str, Any], keep: int) -> str | None:
    """Return the newest checkpoint that was not looked into, while fewer than `keep` are known to be complete."""
    states = {c["path"]: c["why"] for directory in answer["directories"] for c in directory["checkpoints"]}
    complete = 0
    for place in places:
        if place not in filled:
            return place
        complete += states[place] is None
        if complete >= keep:
            return None
    return None
