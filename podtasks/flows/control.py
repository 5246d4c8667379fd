"""What can be done to a pod besides training on it: look, end its run, stop it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import open_shell
from podtasks.flows.end_marks import mark_ended, note_end
from podtasks.flows.launched import Launched
from podtasks.flows.own_pods import find_pod, pick_pod
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.stopping import SELF_STOP_S, confirm_stopped, stop_pod
from podtasks.pure.errors import PodtasksError, PodTimeoutError, RemoteRefusedError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.run import parse_run

# What follows a training's end: its last words in log and record, and a notification (12 s at most).
END_MARGIN_S = 30.0


@dataclass(frozen=True)
class PodReport:
    """What is known of our pod: the API's reading, and its own answer where it runs and could be asked.

    `helpers` are CPU pods of this project that run.
    """

    pod: Pod | None
    answer: Mapping[str, Any]
    silence: str = ""
    helpers: tuple[Pod, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether the pod is meant to run, and is billed."""
        return self.pod is not None and self.pod.status is PodStatus.RUNNING


def read_status(cloud: Cloud, project: str, lines: int) -> PodReport:
    """Return our pod's state, with its run and the log's last `lines`: one API call, one SSH command."""
    pods = cloud.api.list_pods()
    pod = pick_pod(cloud, project, pods)
    helpers = tuple(p for p in pods if p.helper_of == project and p.status is PodStatus.RUNNING)
    if pod is None or pod.status is not PodStatus.RUNNING:
        return PodReport(pod, {}, helpers=helpers)
    try:
        with open_shell(cloud, pod) as shell:
            return PodReport(pod, PodPrograms(shell, pod).ask("status.py", {"lines": lines}), helpers=helpers)
    except PodtasksError as error:
        return PodReport(pod, {}, error.what, helpers)


def find_run(report: PodReport) -> Launched | None:
    """Return the newest run of a pod that runs and answers, None where it has none."""
    record = report.answer.get("run")
    return Launched(report.pod, parse_run(record)) if report.pod and record else None


def is_running(report: PodReport, run_id: str) -> bool:
    """Return whether this very run is the one that runs on the pod."""
    record = report.answer.get("run") or {}
    return record.get("run_id") == run_id and record.get("ended_at") is None


@dataclass(frozen=True)
class Ending:
    """The user's wish to end what runs, and where it is noted.

    Args:
        files: the project's files, which say so to watchers on this machine.
        at: when it was wished, seconds since 1970.
    """

    files: ProjectFiles
    at: float


def stop(
    cloud: Cloud, project: str, report: Reporter, clock: Clock, *, now: bool, grace_s: float, ending: Ending
) -> Pod | None:
    """Ask our pod's run to end, so that it can save and write its exit code, then stop the pod.

    With `now` the run is only marked as ended by the user, for seconds at most, and the pod stopped at once. Returns
    the pod, None where none was running. A pod whose run cannot be asked is stopped all the same. Raises
    PodTimeoutError when it goes on running.
    """
    pod = find_pod(cloud, project)
    if pod is None or pod.status is not PodStatus.RUNNING:
        note_end(ending.files, cloud, None, ending.at, report)
        return None
    note_end(ending.files, cloud, pod, ending.at, report)
    if now:
        mark_ended(cloud, pod, report)
    ended = not now and _end_run(cloud, pod, report, grace_s)
    if ended and confirm_stopped(cloud, pod, clock, timeout_s=SELF_STOP_S):
        report.step(f"pod {pod.id} has stopped itself: no GPU is billed any more")
        return pod
    stop_pod(cloud, pod, report)
    if not confirm_stopped(cloud, pod, clock):
        raise PodTimeoutError(
            f"RunPod took the order to stop pod {pod.id}, but it still reads as running.",
            means=f"It may be billed at ${pod.usd_per_hour:.2f}/h.",
            next_step="inv status in a minute; if it still runs, stop it in RunPod's console",
        )
    return pod


def terminate(cloud: Cloud, pod: Pod, report: Reporter, ending: Ending) -> None:
    """Delete a pod with its container disk; a network volume stays, a host-local volume disk does not.

    A run on it is marked as ended by the user first, for seconds at most.
    """
    runs = pod.status is PodStatus.RUNNING
    note_end(ending.files, cloud, pod if runs else None, ending.at, report)
    if runs:
        mark_ended(cloud, pod, report)
    cloud.api.terminate_pod(pod.id)
    report.step(f"pod {pod.id} is deleted; nothing of it is billed any more")


def _end_run(cloud: Cloud, pod: Pod, report: Reporter, grace_s: float) -> bool:
    """Ask the pod's run to end and return whether it did."""
    try:
        with open_shell(cloud, pod) as shell:
            answer = PodPrograms(shell, pod).run("end_run.py", {"reason": "user", "timeout_s": grace_s + END_MARGIN_S})
    except RemoteRefusedError:
        # There is no run to end.
        return False
    except PodtasksError as error:
        report.note(f"the run could not be asked to end: {error.what}")
        return False
    ended = bool(answer.get("ended"))
    told = "ended" if ended else "did not end in time"
    report.step(f"run {answer.get('run_id')} {told}; its checkpoints are kept")
    return ended
