"""`inv fetch`: results from the volume to this machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.progress import Progress
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import checkpoint_choice
from podtasks.flows.checkpoint_choice import CheckpointChoice
from podtasks.flows.cloud import Cloud
from podtasks.flows.fetch_parts import Fetched, Part, find_failures, plan_parts
from podtasks.flows.fetch_places import (
    FINAL_MODEL,
    Outputs,
    find_outputs,
    find_path,
    list_all,
    log_places,
    prediction_places,
)
from podtasks.flows.transfer_way import BY_S3, SshRoute, choose_s3, find_ssh_way, open_ssh_route
from podtasks.pure.amounts import format_count, format_files
from podtasks.pure.errors import UsageError
from podtasks.pure.transfer import Carrier, CountedProgress, Tally, VolumeFile

if TYPE_CHECKING:
    from podtasks.doors.s3 import S3Volume
    from podtasks.pure.settings import Settings

NAMED = 20
NEWEST = "newest checkpoint"
FETCHED = "fetched"


@dataclass(frozen=True)
class FetchRequest:
    """What the user asked for.

    Args:
        names: checkpoints, logs, predictions or paths; none: the newest checkpoint and the final model.
        config: whose checkpoints, "" where that follows from the project.
        target: the folder to fetch into, None for the project's own.
        via: auto, s3 or ssh.
        overwrite: replace also what is newer here than on the volume.
        yes: nothing is asked.
        dry_run: only look.
    """

    names: Sequence[str]
    config: str = ""
    target: Path | None = None
    via: str = "auto"
    overwrite: bool = False
    yes: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class Fetch:
    """One `inv fetch`.

    Args:
        consent: is called before a pod is rented, and raises if the user will not have it.
    """

    request: FetchRequest
    cloud: Cloud
    settings: Settings
    files: ProjectFiles
    report: Reporter
    clock: Clock
    consent: Callable[[], None]

    def run(self) -> Fetched:
        """Fetch what is wanted and not here. Raises UsageError for what is nowhere on the volume."""
        target = self._prepare_target()
        volume = choose_s3(self.request.via, self.cloud)
        if volume is not None:
            self.report.step(BY_S3)
            return self._fetch(volume, target, lambda outputs: _choose_by_s3(volume, outputs))
        way = find_ssh_way(self.cloud, self.settings)
        self.report.step(way.text)
        if way.makes_pod and self.request.dry_run:
            self.report.note("only a pod could tell what is there; --dry-run makes none")
            return Fetched([], target, Tally(), [])
        if way.rents:
            self.consent()
        with open_ssh_route(way, self.cloud, self.settings, self.files, self.report, self.clock) as route:
            return self._fetch(route.carrier, target, lambda outputs: _choose_on_pod(route, outputs))

    def _fetch(self, carrier: Carrier, target: Path, choose: Callable[[Outputs], CheckpointChoice]) -> Fetched:
        with self.files.locked("fetch", lambda: self.report.note("another inv fetch runs here; this one waits for it")):
            found = [self._find(name, carrier, choose) for name in self.request.names or [NEWEST]]
            parts = plan_parts([part for some in found for part in some], target, self.request.overwrite)
            self._require_something(parts)
            if self.request.dry_run:
                return Fetched(parts, target, Tally(), [])
            wanted = [file for part in parts for file in part.plan.wanted]
            try:
                with self._progress(wanted) as progress:
                    tally = carrier.download(wanted, target, progress) if wanted else Tally()
            finally:
                _hide_secrets(target, wanted)
        return Fetched(parts, target, tally, find_failures(parts, tally, target))

    def _find(
        self, name: str, carrier: Carrier, choose: Callable[[Outputs], CheckpointChoice]
    ) -> list[tuple[str, list[VolumeFile]]]:
        """Return what one of the request's names stands for: parts by name, with their files."""
        if name in (NEWEST, "checkpoints"):
            outputs = find_outputs(self.request.config, self.settings, self.files, carrier)
            self.report.step(f"outputs of {outputs.told}")
            final_model = (FINAL_MODEL, list(carrier.list_files(outputs.final_model)))
            if name == NEWEST:
                return [self._find_newest(outputs, carrier, choose), final_model]
            return [("checkpoints", _list_checkpoints(carrier, outputs)), final_model]
        if name == "logs":
            return [("logs", list_all(carrier, log_places(self.settings)))]
        if name == "predictions":
            return [("predictions", list_all(carrier, prediction_places(self.settings)))]
        return [(name, find_path(name, self.settings, carrier))]

    def _find_newest(
        self, outputs: Outputs, carrier: Carrier, choose: Callable[[Outputs], CheckpointChoice]
    ) -> tuple[str, list[VolumeFile]]:
        choice = choose(outputs)
        for place, why in choice.skipped:
            self.report.note(f"skipped: {place} {why}")
        if choice.place is None:
            self.report.note(f"there is no complete checkpoint in {outputs.checkpoints} on the volume")
            return NEWEST, []
        self.report.step(f"newest complete checkpoint: {choice.place}")
        return NEWEST, list(carrier.list_files(choice.place))

    def _prepare_target(self) -> Path:
        """Return the folder to fetch into, made where it is missing. Raises UsageError for one that cannot be used."""
        target = self.request.target or self.files.root / FETCHED
        if target.exists() and not target.is_dir():
            raise _unusable(target, "it is no folder")
        if not self.request.dry_run:
            try:
                target.mkdir(mode=0o777 if self.request.target else 0o700, parents=True, exist_ok=True)
                if self.request.target is None:
                    (target / ".gitignore").write_text("*\n")
            except OSError as error:
                raise _unusable(target, error.strerror or str(error)) from error
            if not os.access(target, os.W_OK | os.X_OK):
                raise _unusable(target, "you may not write to it")
        return target

    def _require_something(self, parts: list[Part]) -> None:
        for part in parts:
            if not part.files:
                self.report.note(f"{part.name}: there is nothing on the volume")
        for file in [file for part in parts for file in part.plan.kept][:NAMED]:
            self.report.note(f"{file.place} is newer here than on the volume and is kept; --overwrite replaces it")
        if not any(part.files for part in parts):
            raise UsageError(
                f"The volume has nothing of this yet: {', '.join(part.name for part in parts)}.",
                means="Nothing was fetched.",
                next_step="inv status shows how the training gets on; a path fetches anything else on the volume",
            )

    @contextmanager
    def _progress(self, wanted: list[VolumeFile]) -> Iterator[CountedProgress]:
        bar = Progress("from the volume", len(wanted), sum(file.size_bytes for file in wanted))
        counted = CountedProgress(bar)
        try:
            with bar:
                yield counted
        except KeyboardInterrupt:
            self.report.note(
                f"here: {format_count(counted.files)} of {format_files(len(wanted))}; "
                "the same command goes on from there"
            )
            raise


def _unusable(target: Path, why: str) -> UsageError:
    return UsageError(
        f"{target} cannot take what is fetched: {why}.",
        means="Nothing was fetched.",
        next_step="choose with --to a folder that you may write to; one that is not there yet is made",
    )


def _choose_by_s3(volume: S3Volume, outputs: Outputs) -> CheckpointChoice:
    return checkpoint_choice.choose_by_s3(volume, outputs.checkpoints, outputs.pattern)


def _choose_on_pod(route: SshRoute, outputs: Outputs) -> CheckpointChoice:
    return checkpoint_choice.choose_on_pod(route.programs, outputs.checkpoints, outputs.pattern)


def _list_checkpoints(carrier: Carrier, outputs: Outputs) -> list[VolumeFile]:
    names = checkpoint_choice.list_candidates(carrier, outputs.checkpoints, outputs.pattern)
    return list_all(carrier, [f"{outputs.checkpoints}/{name}" for name in names])


def _hide_secrets(target: Path, files: Sequence[VolumeFile]) -> None:
    # A run's record holds the training's environment (remote/README.md).
    for file in files:
        path = target / file.place
        if path.name == "run.json" and path.is_file():
            path.chmod(0o600)
