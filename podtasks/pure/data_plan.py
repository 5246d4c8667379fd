"""What `inv sync-data` takes where: the entries of the setting `data`, and what of their files must be sent."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from podtasks.pure.errors import UsageError
from podtasks.pure.suggestion import did_you_mean
from podtasks.pure.transfer import LocalFile

SAMPLE_FILES = 20

Confirmed = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Entry:
    """One line of the setting: a path on this machine as it is written there, where that is, and its place."""

    name: str
    path: Path
    place: str


@dataclass(frozen=True)
class Split:
    """Files by what an earlier sync confirmed of them."""

    unchanged: tuple[LocalFile, ...]
    changed: tuple[LocalFile, ...]
    unknown: tuple[LocalFile, ...]


def build_entries(data: Mapping[str, str], root: Path) -> list[Entry]:
    """Return the setting's entries; relative paths count from the project's top."""
    return [Entry(name, root / Path(name).expanduser(), place) for name, place in data.items()]


def choose_entries(entries: Sequence[Entry], names: Sequence[str]) -> list[Entry]:
    """Return the entries that are named, by their path or its last part; all of them without names.

    Raises UsageError for names that no entry has, all at once.
    """
    if not entries:
        raise UsageError(
            "The setting data names nothing to upload.",
            means="Nothing was sent.",
            next_step="write local paths and their places below the volume's top under podtasks.data in invoke.yaml",
        )
    wanted = [name.rstrip("/").removeprefix("./") or name for name in names]
    unknown = [name for name in wanted if not any(_has_name(entry, name) for entry in entries)]
    if unknown:
        raise _unknown_names(unknown, entries)
    return [entry for entry in entries if not wanted or any(_has_name(entry, name) for name in wanted)]


def split_files(files: Sequence[LocalFile], confirmed: Confirmed) -> Split:
    """Tell files that were confirmed as they are now from changed ones and from those never confirmed."""
    groups: tuple[list[LocalFile], list[LocalFile], list[LocalFile]] = ([], [], [])
    for file in files:
        known = confirmed.get(file.place)
        groups[2 if known is None else 0 if known == (file.size_bytes, file.modified_ns) else 1].append(file)
    return Split(*map(tuple, groups))


def choose_sample(files: Sequence[LocalFile], chance: random.Random) -> list[LocalFile]:
    """Return a few files by chance and the newest one: what the volume is asked of before the rest is believed."""
    if not files:
        return []
    drawn = chance.sample(files, min(SAMPLE_FILES, len(files)))
    newest = max(files, key=lambda file: file.modified_ns)
    return drawn if newest in drawn else [*drawn, newest]


def _has_name(entry: Entry, name: str) -> bool:
    return name in (entry.name, entry.name.removeprefix("./"), entry.name.rsplit("/", 1)[-1])


def _unknown_names(unknown: Sequence[str], entries: Sequence[Entry]) -> UsageError:
    known = [entry.name for entry in entries]
    last_parts = {name.rsplit("/", 1)[-1]: name for name in known}
    told = ", ".join(repr(name) + did_you_mean(name, [*known, *last_parts]) for name in unknown)
    return UsageError(
        f"The setting data has no {told}{'' if told.endswith('?') else '.'}",
        means="Nothing was sent.",
        next_step="name one of: " + ", ".join(known),
    )
