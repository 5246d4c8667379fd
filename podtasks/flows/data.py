"""`inv sync-data`: the local data that the setting names, onto the volume."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.progress import Progress
from podtasks.doors.project_files import ProjectFiles
from podtasks.doors.upload_journal import UploadJournal, discard
from podtasks.flows.cloud import Cloud
from podtasks.flows.data_upload import Source, Synced, find_extra, read_sources, sync_by_s3, sync_by_ssh
from podtasks.flows.transfer_way import BY_S3, choose_s3, find_ssh_way, open_ssh_route
from podtasks.pure.amounts import format_bytes, format_count, format_files
from podtasks.pure.data_plan import Entry, split_files
from podtasks.pure.transfer import Carrier, CountedProgress, VolumeFile

if TYPE_CHECKING:
    from podtasks.doors.s3 import S3Volume
    from podtasks.pure.settings import Settings

NAMED = 20


@dataclass(frozen=True)
class SyncRequest:
    """What the user asked for.

    Args:
        entries: what is to be sent, all of it present here.
        via: auto, s3 or ssh.
        check: ask the volume for every file, whatever an earlier sync confirmed.
        delete: remove from the volume what is not here.
        yes: nothing is asked.
    """

    entries: Sequence[Entry]
    via: str
    check: bool = False
    delete: bool = False
    yes: bool = False


@dataclass(frozen=True)
class Expected:
    """What a sync would do with an entry.

    Args:
        confirmed_files: how many are known to be there, None where only a pod can tell.
        extra: what would be deleted, None where only a pod can tell.
    """

    source: Source
    confirmed_files: int | None
    extra: list[VolumeFile] | None


@dataclass(frozen=True)
class DataSync:
    """One `inv sync-data`.

    Args:
        consent: hears what is to be rented and raises if the user will not have it.
        confirm: asks a question and returns whether the answer was yes; raises where nobody can answer.
    """

    request: SyncRequest
    cloud: Cloud
    settings: Settings
    files: ProjectFiles
    report: Reporter
    clock: Clock
    consent: Callable[[], None]
    confirm: Callable[[str], bool]

    def run(self) -> Synced:
        """Send what the volume has not and return what is there then. Raises what keeps the way from being open."""
        volume = choose_s3(self.request.via, self.cloud)
        if volume is None:
            way = find_ssh_way(self.cloud, self.settings)
            self.report.step(way.text)
            sources = self._read_sources()
            if way.rents:
                self.consent()
            with self._locked(), open_ssh_route(
                way, self.cloud, self.settings, self.files, self.report, self.clock
            ) as route:
                return self._sync_by_ssh(sources, route.carrier)
        self.report.step(BY_S3)
        sources = self._read_sources()
        with self._locked(), UploadJournal(self._journal_path(volume.volume_id)) as journal:
            return self._sync_by_s3(sources, volume, journal)

    def preview(self) -> list[Expected]:
        """Return what `run` would do; nothing is sent, deleted or rented."""
        volume = choose_s3(self.request.via, self.cloud)
        if volume is None:
            return self._preview_by_ssh()
        self.report.step(BY_S3)
        sources = self._read_sources()
        with UploadJournal(self._journal_path(volume.volume_id)) as journal:
            confirmed = journal.read_confirmed()
        return [
            Expected(
                source,
                len(split_files(source.tree.files, confirmed).unchanged),
                self._find_deletable(source, volume) if self.request.delete else [],
            )
            for source in sources
        ]

    def _preview_by_ssh(self) -> list[Expected]:
        way = find_ssh_way(self.cloud, self.settings)
        self.report.step(way.text)
        sources = self._read_sources()
        if way.makes_pod or not self.request.delete:
            return [Expected(source, None, None if self.request.delete else []) for source in sources]
        with open_ssh_route(way, self.cloud, self.settings, self.files, self.report, self.clock) as route:
            return [Expected(source, None, self._find_deletable(source, route.carrier)) for source in sources]

    def _sync_by_s3(self, sources: list[Source], volume: S3Volume, journal: UploadJournal) -> Synced:
        with self._progress(sources) as progress:
            synced = sync_by_s3(sources, volume, journal, progress, check=self.request.check)
        if self.request.delete:
            failures = self._delete(sources, volume, journal.forget)
            synced = replace(synced, failures=[*synced.failures, *failures])
        return synced

    def _sync_by_ssh(self, sources: list[Source], carrier: Carrier) -> Synced:
        if self.cloud.network_volume_id:
            # It would go on believing in files that are replaced or deleted without it.
            discard(self._journal_path(self.cloud.network_volume_id))
        with self._progress(sources) as progress:
            synced = sync_by_ssh(sources, carrier, progress, check=self.request.check)
        if self.request.delete:
            failures = self._delete(sources, carrier, lambda _: None)
            synced = replace(synced, failures=[*synced.failures, *failures])
        return synced

    def _read_sources(self) -> list[Source]:
        sources = read_sources(self.request.entries)
        for path, why in [skipped for source in sources for skipped in source.tree.skipped][:NAMED]:
            self.report.note(f"left out: {path}: {why}")
        return sources

    @contextmanager
    def _progress(self, sources: list[Source]) -> Iterator[CountedProgress]:
        files = sum(len(source.tree.files) for source in sources)
        size_bytes = sum(source.tree.size_bytes for source in sources)
        bar = Progress("to the volume", files, size_bytes)
        counted = CountedProgress(bar)
        try:
            with bar:
                yield counted
        except KeyboardInterrupt:
            self.report.note(
                f"on the volume: {format_count(counted.files)} of {format_files(files)}; "
                "the same command goes on from there"
            )
            raise

    def _locked(self) -> AbstractContextManager[None]:
        return self.files.locked(
            "sync-data", lambda: self.report.note("another inv sync-data runs here; this one waits for it")
        )

    def _journal_path(self, volume_id: str) -> Path:
        return self.files.ensure_state_folder() / "uploads" / f"{volume_id}.sqlite"

    def _delete(
        self, sources: list[Source], carrier: Carrier, forget: Callable[[Sequence[str]], None]
    ) -> list[tuple[str, str]]:
        """Delete on the volume what is not here, entry by entry, each after a question; return what remains, and why.

        `forget` hears of files before they go.
        """
        deleted_files = 0
        failures: list[tuple[str, str]] = []
        for source in sources:
            extra = self._find_deletable(source, carrier)
            if not extra:
                continue
            if not self._may_delete(source, extra):
                self.report.note(f"{format_files(len(extra))} more than in {source.entry.name} on the volume, kept")
            else:
                places = [file.place for file in extra]
                forget(places)
                failed = carrier.delete(places)
                failures += failed
                deleted_files += len(places) - len(failed)
        if deleted_files:
            self.report.step(f"{format_files(deleted_files)} deleted on the volume")
        return failures

    def _find_deletable(self, source: Source, carrier: Carrier) -> list[VolumeFile]:
        name = source.entry.name
        if source.tree.failures:
            self.report.note(f"{name}: nothing is deleted, because not all of it could be read here")
            return []
        if source.entry.path.is_dir() and not source.tree.files and not self.request.yes:
            self.report.note(f"{name} is empty here: nothing is deleted on the volume for it without --yes")
            return []
        return find_extra(source, carrier)

    def _may_delete(self, source: Source, extra: list[VolumeFile]) -> bool:
        size = format_bytes(sum(file.size_bytes for file in extra))
        self.report.step(f"{format_files(len(extra))} ({size}) on the volume, not in {source.entry.name}:")
        for file in extra[:NAMED]:
            self.report.note(file.place)
        if len(extra) > NAMED:
            self.report.note(f"and {format_count(len(extra) - NAMED)} more")
        return self.request.yes or self.confirm(f"Delete {_these(len(extra))} on the volume?")


def _these(count: int) -> str:
    return "this file" if count == 1 else f"these {format_files(count)}"
