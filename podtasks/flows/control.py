"""What can be done to a pod besides training on it: look, end its run, stop it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podtasks.doors import ssh
from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import build_login
from podtasks.flows.launch import PodPrograms
from podtasks.flows.own_pods import find_pod
from podtasks.flows.stopping import confirm_stopped, stop_pod
from podtasks.flows.train import Launched
from podtasks.pure.errors import PodtasksError, RemoteRefusedError, RunActiveError, TransportError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.run import parse_run

END_MARGIN_S = 15.0


@dataclass(frozen=True)
class PodReport:
    """What is known of our pod: the API's reading, and its own answer where it runs and could be asked."""

    pod: Pod | None
    answer: Mapping[str, Any]
    silence: str = ""


def read_status(cloud: Cloud, project: str, lines: int) -> PodReport:
    """Return our pod's state, with its run and the log's last `lines`: one API call, one SSH command."""
    pod = find_pod(cloud, project)
    if pod is None or pod.status is not PodStatus.RUNNING:
        return PodReport(pod, {})
    try:
        with _open_shell(cloud, pod) as shell:
            return PodReport(pod, PodPrograms(shell, pod).run("status.py", {"lines": lines}))
    except PodtasksError as error:
        return PodReport(pod, {}, error.what)


def find_run(cloud: Cloud, project: str) -> Launched | None:
    """Return the newest run of our pod while the pod runs, None where nothing can be streamed."""
    report = read_status(cloud, project, 0)
    if report.silence:
        raise TransportError(
            f"Pod {report.pod.id if report.pod else ''} runs but does not answer: {report.silence}",
            means="It is billed, and stops itself when its run ends.",
            next_step="try again in a minute; inv stop --now stops it",
        )
    record = report.answer.get("run")
    return Launched(report.pod, parse_run(record)) if report.pod and record else None


def stop(cloud: Cloud, project: str, report: Reporter, clock: Clock, *, now: bool, grace_s: float) -> Pod | None:
    """Ask our pod's run to end, so that it can save and write its exit code, then stop the pod.

    With `now` the pod is stopped at once. Returns the pod, None where none was running. A pod whose run
    cannot be asked is stopped all the same.
    """
    pod = find_pod(cloud, project)
    if pod is None or pod.status is not PodStatus.RUNNING:
        return None
    if not now:
        _end_run(cloud, pod, report, grace_s)
    stop_pod(cloud, pod, report)
    if not confirm_stopped(cloud, pod, clock):
        raise RunActiveError(
            f"RunPod took the order to stop pod {pod.id}, but it still reads as running.",
            means=f"It may be billed at ${pod.usd_per_hour:.2f}/h.",
            next_step="inv status in a minute; if it still runs, stop it in RunPod's console",
        )
    return pod


def terminate(cloud: Cloud, pod: Pod, report: Reporter) -> None:
    """Delete a pod with its container disk; a network volume stays, a host-local volume disk does not."""
    cloud.api.terminate_pod(pod.id)
    report.step(f"pod {pod.id} is deleted; nothing of it is billed any more")


def _end_run(cloud: Cloud, pod: Pod, report: Reporter, grace_s: float) -> None:
    try:
        with _open_shell(cloud, pod) as shell:
            answer = PodPrograms(shell, pod).run("end_run.py", {"reason": "user", "timeout_s": grace_s + END_MARGIN_S})
    except RemoteRefusedError:
        # There is no run to end.
        return
    except PodtasksError as error:
        report.note(f"the run could not be asked to end: {error.what}")
        return
    if answer.get("run_id"):
        ended = "ended" if answer.get("ended") else "did not end in time"
        report.step(f"run {answer['run_id']} {ended}; its checkpoints are kept")


def _open_shell(cloud: Cloud, pod: Pod) -> ssh.PodShell:
    if pod.ssh is None:
        raise TransportError(f"pod {pod.id} publishes no SSH port yet.", next_step="try again in a minute")
    shell = ssh.PodShell(pod.ssh, build_login(cloud, pod), connect_timeout_s=10)
    shell.connect()
    return shell
