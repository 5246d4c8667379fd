"""The parts of a fetch: what each of its names stands for, what of it is here, and what failed."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from podtasks.pure.fetch_plan import FetchPlan, LocalCopy, plan_fetch
from podtasks.pure.transfer import Tally, VolumeFile, merge


@dataclass(frozen=True)
class Part:
    """What one of the request's names stands for: its files on the volume, and what is to be done with them."""

    name: str
    files: tuple[VolumeFile, ...]
    plan: FetchPlan


@dataclass(frozen=True)
class Fetched:
    """What came of a fetch: its parts, the folder they are in, what was copied, and what failed and why."""

    parts: list[Part]
    target: Path
    tally: Tally
    failures: list[tuple[str, str]]

    def whole_tally(self) -> Tally:
        """Return what was copied, with all that was here before counted as skipped."""
        there = [file for part in self.parts for file in part.plan.there]
        return merge(self.tally, Tally(skipped_files=len(there), skipped_bytes=sum(file.size_bytes for file in there)))

    def count_here(self, part: Part) -> tuple[int, int]:
        """Return how many files and bytes of a part are here, as this machine's disk tells."""
        copies = [_find_here(self.target, file.place) for file in part.files if _is_here(self.target, file)]
        return len(copies), sum(copy.size_bytes for copy in copies if copy)


def plan_parts(found: Sequence[tuple[str, list[VolumeFile]]], target: Path, overwrite: bool) -> list[Part]:
    """Plan each part; a file that two of them name belongs to the first."""
    leads_out = functools.cache(functools.partial(_leads_out, target.resolve()))
    parts: list[Part] = []
    taken: set[str] = set()
    for name, files in found:
        fresh = tuple(file for file in files if file.place not in taken)
        taken.update(file.place for file in fresh)
        plan = plan_fetch(
            fresh,
            lambda place: _find_here(target, place),
            overwrite=overwrite,
            leads_out=lambda place: leads_out(str((target / place).parent)),
        )
        parts.append(Part(name, fresh, plan))
    return parts


def _leads_out(top: Path, folder: str) -> bool:
    """Return whether a folder that should be in `top` is elsewhere, its links followed."""
    try:
        return not Path(folder).resolve().is_relative_to(top)
    except (OSError, RuntimeError, ValueError):  # a loop of links, or a name that no folder can have
        return True


def find_failures(parts: Sequence[Part], tally: Tally, target: Path) -> list[tuple[str, str]]:
    """Return each file of the parts that is not here now, and why."""
    told = {name for name, _ in tally.failures}
    refused = [
        (file.place, "its name, or a link on the way, would lead out of the folder it belongs into")
        for part in parts
        for file in part.plan.refused
    ]
    missing = [
        (file.place, "it did not arrive whole")
        for part in parts
        for file in part.plan.wanted
        if file.place not in told and not _is_here(target, file)
    ]
    return [*refused, *tally.failures, *missing]


def _find_here(target: Path, place: str) -> LocalCopy | None:
    try:
        found = (target / place).stat()
    except OSError:
        return None
    return LocalCopy(found.st_size, found.st_mtime)


def _is_here(target: Path, file: VolumeFile) -> bool:
    """Return whether a file is here as it was listed, or as a later moment had it."""
    here = _find_here(target, file.place)
    if here is None:
        return False
    # The S3 API tells whole seconds: a log may have grown within the second in which it was listed.
    has_grown = here.size_bytes > file.size_bytes and here.modified >= file.modified
    return here.size_bytes == file.size_bytes or has_grown or here.modified > file.modified
