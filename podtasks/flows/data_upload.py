"""Sending local data to the volume, by the S3 API or over SSH, and what of it is there then."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from podtasks.doors.console import Reporter
from podtasks.doors.upload_journal import UploadJournal
from podtasks.flows.local_files import LocalTree, walk
from podtasks.pure.data_plan import Entry, build_entries, choose_entries, choose_sample, split_files
from podtasks.pure.errors import UsageError
from podtasks.pure.settings_sources import DEFAULT
from podtasks.pure.transfer import (
    Carrier,
    LocalFile,
    ProgressBar,
    Tally,
    VolumeFile,
    is_same_copy,
    merge,
)

if TYPE_CHECKING:
    from podtasks.doors.s3 import S3Volume
    from podtasks.pure.settings import Effective

# Above this size it is cheaper to ask for a file than to send it again.
ALWAYS_ASKED_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class Source:
    """An entry of the setting with what lies there on this machine."""

    entry: Entry
    tree: LocalTree


@dataclass(frozen=True)
class Arrived:
    """What came of one entry: `there_files` and `there_bytes` are what the other end confirmed or counted."""

    source: Source
    there_files: int
    there_bytes: int


@dataclass(frozen=True)
class Synced:
    """What came of all entries, and what had to be sent for it.

    Args:
        failures: each file that did not arrive, those too that could not even be read here, and why.
    """

    arrived: list[Arrived]
    tally: Tally
    failures: list[tuple[str, str]] = field(default_factory=list)


def find_entries(effective: Effective, root: Path, names: Sequence[str], report: Reporter) -> list[Entry]:
    """Return the entries of the setting that are named, all of them without names, as far as they are here.

    Raises UsageError as `choose_entries` and `find_present`; of the default setting some paths may be missing.
    """
    entries = choose_entries(build_entries(effective.settings.data, root), names)
    may_miss = not names and effective.sources["data"] == DEFAULT
    return find_present(entries, may_miss=may_miss, report=report)


def find_present(entries: Sequence[Entry], *, may_miss: bool, report: Reporter) -> list[Entry]:
    """Return the entries whose local path is there.

    Raises UsageError for those that are not, all at once, unless they `may_miss`; and where none is there.
    """
    missing = [entry for entry in entries if not entry.path.exists()]
    if missing and (not may_miss or len(missing) == len(entries)):
        raise _missing_paths(missing, is_default=may_miss)
    if missing:
        report.note("not on this machine, and left out: " + ", ".join(entry.name for entry in missing))
    return [entry for entry in entries if entry not in missing]


def read_sources(entries: Sequence[Entry]) -> list[Source]:
    """Look at what lies at the entries' local paths."""
    return [Source(entry, walk(entry.path, entry.place)) for entry in entries]


def sync_by_s3(
    sources: Sequence[Source], volume: S3Volume, journal: UploadJournal, progress: ProgressBar, *, check: bool
) -> Synced:
    """Send what the volume has not, by the S3 API, remembering in the journal what arrived.

    With `check` every file is asked for; else what an earlier sync confirmed is believed if a sample of it is there.
    """
    confirmed = journal.read_confirmed()
    arrived, tallies = [], []
    for source in sources:
        tally = _sync_entry(source, volume, journal, confirmed, progress, check=check)
        arrived.append(Arrived(source, tally.there_files, tally.there_bytes))
        tallies.append(tally)
    whole = merge(*tallies)
    return Synced(arrived, whole, [*_read_failures(sources), *whole.failures])


def sync_by_ssh(sources: Sequence[Source], carrier: Carrier, progress: ProgressBar, *, check: bool) -> Synced:
    """Send over SSH what the pod does not list with size and time, and count on the pod what is there then.

    With `check` all files are handed to the carrier, which looks at each of them itself.
    """
    files = [file for source in sources for file in source.tree.files]
    listed = _list_there(sources, carrier)
    wanted = files if check else [file for file in files if not _is_listed(file, listed)]
    there_bytes = sum(file.size_bytes for file in files) - sum(file.size_bytes for file in wanted)
    tally = Tally(skipped_files=len(files) - len(wanted), skipped_bytes=there_bytes)
    progress.add(files=tally.skipped_files, size_bytes=tally.skipped_bytes)
    if wanted:
        tally = merge(tally, carrier.upload(wanted, progress))
        listed = _list_there(sources, carrier)
    told = {name for name, _ in tally.failures}
    missing = [file for file in files if not _is_counted(file, listed)]
    return Synced(
        [_count(source, listed) for source in sources],
        tally,
        [
            *_read_failures(sources),
            *tally.failures,
            *(
                (str(file.path), "the pod has it not, or with another size")
                for file in missing
                if not {file.place, str(file.path)} & told
            ),
        ],
    )


def find_extra(source: Source, carrier: Carrier) -> list[VolumeFile]:
    """Return what lies on the volume at a folder's place and not in the folder here.

    The place's own files only, and none where a part of the folder here could not be read.
    """
    if not source.entry.path.is_dir() or source.tree.failures:
        return []
    here = {file.place for file in source.tree.files}
    below = source.entry.place + "/"
    files = (file for file in carrier.list_everything(source.entry.place) if file.place.startswith(below))
    return sorted((file for file in files if file.place not in here), key=lambda file: file.place)


def _sync_entry(
    source: Source,
    volume: S3Volume,
    journal: UploadJournal,
    confirmed: dict[str, tuple[int, int]],
    progress: ProgressBar,
    *,
    check: bool,
) -> Tally:
    split = split_files(source.tree.files, confirmed)
    believed: Sequence[LocalFile] = split.unchanged
    if check or not _is_sample_there(believed, volume):
        journal.forget(file.place for file in believed)
        believed = ()
    doubted = [] if believed else split.unchanged
    is_fresh = _is_fresh(source, split.unknown, volume, journal)
    sent = [*split.changed, *(file for file in split.unknown if is_fresh and file.size_bytes <= ALWAYS_ASKED_BYTES)]
    asked = [*doubted, *(file for file in split.unknown if not is_fresh or file.size_bytes > ALWAYS_ASKED_BYTES)]
    skipped = Tally(skipped_files=len(believed), skipped_bytes=sum(file.size_bytes for file in believed))
    progress.add(files=skipped.skipped_files, size_bytes=skipped.skipped_bytes)
    tally = merge(
        skipped,
        volume.upload(sent, progress, check="nothing", on_arrival=journal.add),
        volume.upload(asked, progress, check="content" if check else "size", on_arrival=journal.add),
    )
    if not tally.failures:
        journal.finish(source.entry.place)
    return tally


def _is_sample_there(files: Sequence[LocalFile], volume: S3Volume) -> bool:
    sample = choose_sample(files, random.Random())
    found = volume.find_many(file.place for file in sample)
    sizes = {place: file.size_bytes for place, file in found.items() if file is not None}
    return all(sizes.get(file.place) == file.size_bytes for file in sample)


def _is_fresh(source: Source, unknown: Sequence[LocalFile], volume: S3Volume, journal: UploadJournal) -> bool:
    """Return whether a folder's place was empty when its files began to be sent, so that none need be asked for."""
    place = source.entry.place
    if not unknown or not source.entry.path.is_dir():
        return False
    if not journal.has_begun(place) and volume.is_empty(place):
        journal.begin(place)
    return journal.has_begun(place)


def _list_there(sources: Sequence[Source], carrier: Carrier) -> dict[str, VolumeFile]:
    return {file.place: file for source in sources for file in carrier.list_files(source.entry.place)}


def _is_listed(file: LocalFile, listed: Mapping[str, VolumeFile]) -> bool:
    there = listed.get(file.place)
    return there is not None and is_same_copy(file.size_bytes, file.modified_ns / 1e9, there)


def _is_counted(file: LocalFile, listed: Mapping[str, VolumeFile]) -> bool:
    there = listed.get(file.place)
    return there is not None and there.size_bytes == file.size_bytes


def _count(source: Source, listed: Mapping[str, VolumeFile]) -> Arrived:
    """Return what the pod counts of an entry's files."""
    there = [file for file in source.tree.files if _is_counted(file, listed)]
    return Arrived(source, len(there), sum(file.size_bytes for file in there))


def _read_failures(sources: Sequence[Source]) -> list[tuple[str, str]]:
    return [failure for source in sources for failure in source.tree.failures]


def _missing_paths(missing: Sequence[Entry], *, is_default: bool) -> UsageError:
    names = ", ".join(entry.name for entry in missing)
    if is_default:
        return UsageError(
            f"There is no data to send: none of {names} is on this machine.",
            means="Nothing was sent.",
            next_step="say what lies where, under podtasks.data in invoke.yaml: local path to path below the volume's "
            "top, such as data/audio: data/audio",
        )
    return UsageError(
        f"Not on this machine: {names}.",
        means="Nothing was sent.",
        next_step="mend podtasks.data in invoke.yaml, or name what is to be sent: inv sync-data NAME",
    )
