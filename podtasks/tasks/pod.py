"""`inv logs`, `inv status`, `inv stop`: what is done to a pod that exists."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.tasks.entry import INTERRUPTED, Project, open_project, task

if TYPE_CHECKING:
    from podtasks.flows.cloud import Cloud
    from podtasks.flows.train import Launched

CLOUD_HELP = {"cloud": "which cloud: auto, runpod or local"}


@task(
    help={
        **CLOUD_HELP,
        "run": "the id of an earlier run, of which this machine has a copy",
        "follow": "stream until the run ends (--no-follow: print the last lines)",
        "lines": "how many of the last lines --no-follow prints",
    }
)
def logs(c: Context, run: str = "", follow: bool = True, lines: int = 100, cloud: str = "") -> None:
    """Show the training's log: live while the pod runs, else this machine's copy of it."""
    from podtasks.flows.control import find_run

    project = open_project(c, {"cloud": cloud})
    project.introduce_cloud()
    account = project.open_cloud()
    launched = None if run else find_run(account, project.settings.project)
    if launched is None:
        _show_copy(project, run, None if follow else lines)
    elif follow:
        _stream(project, account, launched)
    else:
        _print_last(project, account, lines)


@task(help={**CLOUD_HELP, "lines": "how many of the log's last lines to show"})
def status(c: Context, lines: int = 3, cloud: str = "") -> None:
    """Show the pod, what it costs, and how its run gets on."""
    from podtasks.doors.console import write_result
    from podtasks.flows.control import read_status
    from podtasks.pure.status_text import render_status

    project = open_project(c, {"cloud": cloud})
    project.introduce_cloud()
    report = read_status(project.open_cloud(), project.settings.project, lines)
    write_result(render_status(report.pod, report.answer, report.silence, time.time()))


@task(help={**CLOUD_HELP, "now": "stop the pod at once, without asking its run to end"})
def stop(c: Context, now: bool = False, cloud: str = "") -> None:
    """End the run and stop the pod. Checkpoints and logs stay on the volume."""
    from podtasks.flows.control import stop as stop_flow

    project = open_project(c, {"cloud": cloud})
    project.introduce_cloud()
    pod = stop_flow(
        project.open_cloud(),
        project.settings.project,
        project.console,
        project.clock,
        now=now,
        grace_s=project.settings.stop_grace_s,
    )
    if pod is None:
        project.console.tell("no pod of this project is running; nothing is billed but storage")


@task(help={**CLOUD_HELP, "yes": "do not ask, not even where a host-local volume disk is lost with it"})
def terminate(c: Context, yes: bool = False, cloud: str = "") -> None:
    """Delete the pod. What is on a network volume stays."""
    from podtasks.flows.control import terminate as terminate_flow
    from podtasks.flows.own_pods import find_pod
    from podtasks.pure.errors import UsageError

    project = open_project(c, {"cloud": cloud})
    project.introduce_cloud()
    account = project.open_cloud()
    pod = find_pod(account, project.settings.project)
    if pod is None:
        project.console.tell("this project has no pod")
        return
    if not yes and not pod.network_volume_id:
        raise UsageError(
            f"Pod {pod.id} has no network volume: its checkpoints and logs would be deleted with it.",
            means="Nothing was changed.",
            next_step="inv terminate --yes deletes it all the same",
        )
    if not yes and not project.console.confirm(f"Delete pod {pod.id} ({pod.status.value})?"):
        raise Exit("Nothing was changed.", code=INTERRUPTED)
    terminate_flow(account, pod, project.console)


def _stream(project: Project, account: Cloud, launched: Launched) -> None:
    from podtasks.doors.console import write_log
    from podtasks.flows.train import watch

    try:
        outcome = watch(launched, account, project.files, write_log, project.console, project.clock)
    except (KeyboardInterrupt, BrokenPipeError):
        raise Exit("\nview closed; training goes on.", code=INTERRUPTED) from None
    project.console.step(f"the run ended: {outcome.reason or 'done'}, exit code {outcome.exit_code}")


def _print_last(project: Project, account: Cloud, lines: int) -> None:
    from podtasks.doors.console import write_result
    from podtasks.flows.control import read_status

    report = read_status(account, project.settings.project, lines)
    write_result("\n".join(report.answer.get("last_lines") or []))


def _show_copy(project: Project, run: str, lines: int | None) -> None:
    from podtasks.doors.console import write_log
    from podtasks.flows import run_copies
    from podtasks.pure.errors import UsageError

    copy = run_copies.find(project.files, run or None)
    if copy is None:
        raise UsageError(
            f"There is no copy of run {run} here." if run else "No pod is running, and no log was streamed here yet.",
            means="Logs stay on the volume, in logs/current.log and runs/.",
            next_step="inv train streams one; while a pod runs, inv logs shows its log",
        )
    project.console.tell(f"no pod is running; this is what was streamed here of run {copy.run_id}: {copy.log_path}")
    data = copy.log_path.read_bytes()
    write_log(data if lines is None else b"".join(data.splitlines(keepends=True)[-lines:]))
    if copy.exit_code is None:
        sys.stdout.flush()
        project.console.note("the end of this run was not seen here; the volume has the whole log")
