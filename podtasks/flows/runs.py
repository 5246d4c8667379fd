"""The history of runs, from wherever it can be read: the pod, the volume by the S3 API, or what is known here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from podtasks.doors.console import Reporter
from podtasks.doors.many import run_many
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import run_copies
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import open_shell
from podtasks.flows.end_marks import tell_end
from podtasks.flows.own_pods import find_pod
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.stored_logs import VolumeReader, list_run_ids, read_record
from podtasks.flows.volume_store import explain_no_s3, open_s3_volume
from podtasks.pure.errors import PodtasksError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.run_costs import ended_at, launched_at

THREADS = 16


@dataclass(frozen=True)
class History:
    """The records of runs, the newest first, where they are from, and the run that is running."""

    records: tuple[Mapping[str, Any], ...]
    source: str
    active_run_id: str | None = None


def read_history(
    cloud: Cloud | None, project: str, files: ProjectFiles, report: Reporter, limit: int | None
) -> History:
    """Return the newest runs; all without a limit. `cloud` is None where the local cloud does not run."""
    found = _read_history(cloud, project, files, report, limit)
    told = (r if r.get("run_id") == found.active_run_id else tell_end(files, r) for r in found.records)
    return replace(found, records=tuple(told))


def _read_history(
    cloud: Cloud | None, project: str, files: ProjectFiles, report: Reporter, limit: int | None
) -> History:
    if cloud is None:
        return known_history(files, limit)
    pod = find_pod(cloud, project)
    if pod is not None and pod.status is PodStatus.RUNNING:
        try:
            return _ask_pod(cloud, pod, files, limit)
        except PodtasksError as error:
            report.note(f"pod {pod.id} could not be asked: {error.what}")
    try:
        volume = open_s3_volume(cloud)
        if volume is not None:
            return _read_volume(volume, files, limit)
        report.note(f"only runs that are known here, because {explain_no_s3(cloud)}")
    except PodtasksError as error:
        report.note(f"only runs that are known here: {error.what}")
    return known_history(files, limit)


def known_history(files: ProjectFiles, limit: int | None) -> History:
    """Return the runs that this machine knows of."""
    return History(_newest_first(run_copies.read_records(files).values(), limit), "what is known on this machine")


def _ask_pod(cloud: Cloud, pod: Pod, files: ProjectFiles, limit: int | None) -> History:
    with open_shell(cloud, pod) as shell:
        answer = PodPrograms(shell, pod).ask("runs.py", {"limit": limit})
    records = answer["runs"]
    for record in records:
        _remember(files, record)
    return History(_newest_first(records, limit), f"pod {pod.id}", answer.get("active_run_id"))


def _read_volume(volume: VolumeReader, files: ProjectFiles, limit: int | None) -> History:
    """Read the records that are not known here to be final, many at once."""
    run_ids = list_run_ids(volume)[:limit]
    known = run_copies.read_records(files)
    found = {run_id: known[run_id] for run_id in run_ids if run_id in known and ended_at(known[run_id]) is not None}

    def read(run_id: str) -> None:
        record = read_record(volume, run_id)
        if record is not None:
            found[run_id] = record
            _remember(files, record)

    missing = [run_id for run_id in run_ids if run_id not in found]
    run_many(read, missing, min(THREADS, len(missing)))
    return History(_newest_first(found.values(), limit), "the volume, by the S3 API")


def _remember(files: ProjectFiles, record: Mapping[str, Any]) -> None:
    if ended_at(record) is not None:
        run_copies.remember_record(files, record)


def _newest_first(records: Iterable[Mapping[str, Any]], limit: int | None) -> tuple[Mapping[str, Any], ...]:
    return tuple(sorted(records, key=lambda record: launched_at(record) or 0.0, reverse=True)[:limit])
