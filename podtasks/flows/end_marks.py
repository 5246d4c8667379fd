"""That a run was ended by its user: told to the run's own record before its pod goes, and noted on this machine.

Whoever watches a training brings a lost run back, and one that its user has ended not. The record on the volume says
so to all watchers; where the pod cannot be asked any more, or there is none just now because a watcher waits for a GPU,
the note here says so at least to those of this machine.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podtasks.doors.at_once import Late, ask_at_once
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles, write_atomically
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import open_shell
from podtasks.flows.pod_programs import PodPrograms
from podtasks.pure.errors import PodtasksError, RemoteRefusedError
from podtasks.pure.pod import Pod
from podtasks.pure.run_costs import ended_at, launched_at
from podtasks.pure.run_ids import made_at

MARK_TIMEOUT_S = 5.0
MOST_NOTES = 100
USER = "user"


def mark_ended(cloud: Cloud, pod: Pod, report: Reporter) -> None:
    """Tell a pod's run that its user ends it, within seconds; what fails is said and no error."""
    ((_, answer),) = ask_at_once({"mark": functools.partial(_mark, cloud, pod)}, MARK_TIMEOUT_S)
    if isinstance(answer, dict):
        run_id, noted = answer.get("run_id"), answer.get("noted", True)
        if run_id and noted:
            report.step(f"run {run_id} is marked as ended by you")
        if noted or not run_id:
            return
        why = "its record could not be written in time"
    else:
        why = f"no answer within {MARK_TIMEOUT_S:.0f} s" if isinstance(answer, Late) else _describe(answer)
    report.note(
        f"a run on pod {pod.id} could not be marked as ended by you ({why}); watchers on this machine know it, "
        "one elsewhere may start it again"
    )


def note_end(files: ProjectFiles, cloud: Cloud, pod: Pod | None, now: float, report: Reporter) -> None:
    """Note that the user ends whatever runs on a pod, and wants nothing of before brought back.

    `now` is the moment, in seconds since 1970. What fails is said and no error.
    """
    notes = {**_read_notes(files), _project_key(cloud.name): now, **({} if pod is None else {pod.id: now})}
    newest = sorted(notes.items(), key=lambda item: item[1])[-MOST_NOTES:]
    try:
        files.ensure_state_folder()
        write_atomically(_path(files), json.dumps(dict(newest)).encode())
    except OSError as error:
        report.note(f"that you end the run is not noted here: {error}")


def was_ended_here(files: ProjectFiles, record: Mapping[str, Any]) -> bool:
    """Return whether the user has ended this run's pod from this machine, after the run was launched."""
    pod = record.get("pod")
    return isinstance(pod, Mapping) and _is_noted(files, str(pod.get("id")), record)


def was_called_off(files: ProjectFiles, cloud_name: str, record: Mapping[str, Any]) -> bool:
    """Return whether the user has ended this project's training from this machine, after this run was launched.

    However the run itself ended, nothing is to go on after it.
    """
    return _is_noted(files, _project_key(cloud_name), record)


def _is_noted(files: ProjectFiles, key: str, record: Mapping[str, Any]) -> bool:
    at = _read_notes(files).get(key)
    # The id has the time of the machine that launched the run, which is mostly this one.
    began = made_at(str(record.get("run_id")))
    began = launched_at(record) if began is None else began
    return at is not None and began is not None and began <= at


def tell_end(files: ProjectFiles, record: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a run's record as it is told: one that went with its pod ended because it was asked to, if it was."""
    is_lost = ended_at(record) is None or record.get("reason") == "pod lost"
    reason = USER if was_ended_here(files, record) else record.get("ending")
    if is_lost and record.get("exit_code") is None and reason:
        return {**record, "reason": reason, "failure": None}
    return record


def _mark(cloud: Cloud, pod: Pod) -> dict[str, Any]:
    """Return the pod's answer, with the id of the run that was marked; {} where there was none."""
    try:
        with open_shell(cloud, pod) as shell:
            return PodPrograms(shell, pod).ask("end_run.py", {"reason": USER, "timeout_s": 0})
    except RemoteRefusedError:
        return {}


def _describe(error: object) -> str:
    return error.what.rstrip(".") if isinstance(error, PodtasksError) else f"{type(error).__name__}: {error}"


def _project_key(cloud_name: str) -> str:
    """Return what stands for all pods of the project on a cloud: no pod's id, which are single words."""
    return f"all on {cloud_name}"


def _path(files: ProjectFiles) -> Path:
    return files.state_folder / "ended-pods.json"


def _read_notes(files: ProjectFiles) -> dict[str, float]:
    try:
        notes = json.loads(_path(files).read_bytes())
    except (OSError, ValueError):
        return {}
    found = notes.items() if isinstance(notes, dict) else ()
    return {name: float(at) for name, at in found if isinstance(at, int | float)}
