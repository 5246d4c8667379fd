"""The main story: from a plan to a training that runs, is watched, and whose pod stops itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from podtasks.doors import ssh
from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import run_copies
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import build_login, connect
from podtasks.flows.follow import LogView, Outcome
from podtasks.flows.launch import PodHeldError, PodPrograms, launch_training
from podtasks.flows.pods import ensure_pod
from podtasks.flows.rent import PodRequest
from podtasks.flows.stopping import confirm_stopped, stop_quietly
from podtasks.pure.errors import CodeError, PodFailedError, RemoteCommandError, TransportError, UsageError
from podtasks.pure.plan import Plan
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.run import Run, parse_run

LAUNCH_TRIES = 3


@dataclass(frozen=True)
class Launched:
    """A run on its pod.

    `shell` is the connection it was launched over: while it is open, a run that ends at once waits for its
    log to be followed before the pod stops.
    """

    pod: Pod
    run: Run
    shell: ssh.PodShell | None = None

    def close(self) -> None:
        """Let go of the connection that launched it."""
        if self.shell is not None:
            self.shell.close()


def start_training(
    plan: Plan, cloud: Cloud, root: Path, files: ProjectFiles, report: Reporter, clock: Clock
) -> Launched:
    """Get the pod, put the code on it and launch; or find the same configuration already training.

    A pod that goes away meanwhile (its last run has just ended, say) is replaced and the launch tried again.
    """
    for tries_left in reversed(range(LAUNCH_TRIES)):
        with files.locked("launch") as first:
            if not first:
                report.note("another inv train was starting here; going on with what it made")
            pod = ensure_pod(cloud, _request(plan), report, clock)
            try:
                return _launch_on(plan, cloud, pod, root, report, clock)
            except (PodFailedError, TransportError) as error:
                # A pod that is being stopped still reads as running for a moment.
                if tries_left == 0 or not confirm_stopped(cloud, pod, clock):
                    raise
                report.note(f"pod {pod.id} went away; trying again ({error.what})")
    raise AssertionError("the last try returns or raises")


def watch(
    launched: Launched,
    cloud: Cloud,
    files: ProjectFiles,
    show: Callable[[bytes], None],
    report: Reporter,
    clock: Clock,
) -> Outcome:
    """Show the run's log until it ends, and return how it ended. Raises OutcomeUnknownError."""
    copy_path = run_copies.begin(files, launched.run)
    view = LogView(
        cloud,
        launched.pod,
        build_login(cloud, launched.pod),
        launched.run,
        on_begin=launched.close,
        show=show,
        copy_path=copy_path,
        report=report,
        clock=clock,
    )
    outcome = view.follow()
    run_copies.finish(files, launched.run, outcome.exit_code, outcome.reason)
    return outcome


def _request(plan: Plan) -> PodRequest:
    return PodRequest(plan.project, plan.spec, plan.offers, plan.max_usd_per_hour)


def _launch_on(plan: Plan, cloud: Cloud, pod: Pod, root: Path, report: Reporter, clock: Clock) -> Launched:
    pod, shell = connect(
        cloud,
        pod,
        report,
        clock,
        timeout_s=plan.pod_ready_timeout_s,
        forward_agent=plan.forward_agent,
    )
    try:
        run = _launch_or_join(plan, shell, pod, root, report, clock)
    except (CodeError, RemoteCommandError, UsageError) as error:
        shell.close()
        if not _ran_before(plan, pod):
            error.means = f"No training was started. {stop_quietly(cloud, pod, report)}"
        raise
    except BaseException:
        shell.close()
        raise
    return Launched(pod, run, shell)


def _launch_or_join(
    plan: Plan, shell: ssh.PodShell, pod: Pod, root: Path, report: Reporter, clock: Clock
) -> Run:
    try:
        return launch_training(shell, pod, plan.launch, root, report, clock)
    except PodHeldError as error:
        return _join(shell, pod, plan, error, report)


def _ran_before(plan: Plan, pod: Pod) -> bool:
    """Return whether the pod ran before this command: then it is not this command's to stop."""
    return plan.pod is not None and plan.pod.id == pod.id and plan.pod.status is PodStatus.RUNNING


def _join(shell: ssh.PodShell, pod: Pod, plan: Plan, held: PodHeldError, report: Reporter) -> Run:
    """Return the run that holds the pod if it is of the same configuration; else raise `held`."""
    record = PodPrograms(shell, pod).run("status.py", {"lines": 0}).get("run") or {}
    same = record.get("run_id") == held.holder.get("run_id") and record.get("config") == plan.launch.config
    if not same or plan.launch.force_restart or plan.launch.resume_from:
        raise held
    report.note(f"{held.what} It is this configuration; following it. inv stop ends it.")
    return parse_run(record)
