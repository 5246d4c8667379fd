"""`inv logs`, `inv status`, `inv stop`, `inv terminate`: what is done to a pod that exists."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.doors.console import write_result
from podtasks.pure.errors import PodtasksError, TransportError, UsageError
from podtasks.tasks.entry import INTERRUPTED, Project, open_project, task
from podtasks.tasks.view import tell_pod_end, watch_run

if TYPE_CHECKING:
    from podtasks.flows.control import PodReport

CLOUD_HELP = {"cloud": "which cloud: auto, runpod or local"}


@task(
    help={
        **CLOUD_HELP,
        "run": "the id of an earlier run, of which this machine has a copy",
        "follow": "stream until the run ends (--no-follow: print the last lines)",
        "lines": "how many of the last lines to print, of a log that is not followed (100)",
    }
)
def logs(c: Context, run: str = "", follow: bool = True, lines: str = "", cloud: str = "") -> None:
    """Show the training's log: live while the pod runs, else this machine's copy of it."""
    from podtasks.flows.control import find_run, read_status

    project = open_project(c, {"cloud": cloud})
    wanted = lines_wanted(lines or "100")
    shown = None if follow and not lines else wanted
    account = None if run else project.open_existing_cloud()
    if account is None:
        _show_copy(project, run, shown)
        return
    report = read_status(account, project.settings.project, shown or 0)
    launched = find_run(report)
    if not report.runs:
        project.console.tell("no pod is running")
        _show_copy(project, "", shown)
    elif launched is None:
        raise _no_log(report)
    elif follow:
        watch_run(project, account, launched)
        tell_pod_end(project, account, launched)
    else:
        write_result("\n".join(report.answer.get("last_lines") or []))


@task(help={**CLOUD_HELP, "lines": "how many of the log's last lines to show"})
def status(c: Context, lines: str = "3", cloud: str = "") -> None:
    """Show the pod, what it costs, and how its run gets on."""
    from podtasks.flows.control import read_status
    from podtasks.pure.status_text import render_status

    project = open_project(c, {"cloud": cloud})
    account = project.open_existing_cloud()
    if account is None:
        return
    report = read_status(account, project.settings.project, lines_wanted(lines))
    last_run = "" if report.runs else _describe_last_run(project)
    write_result(f"cloud     {account.name}")
    write_result(render_status(report.pod, report.answer, report.silence, time.time(), last_run))


@task(help={**CLOUD_HELP, "now": "stop the pod at once, without asking its run to end"})
def stop(c: Context, now: bool = False, cloud: str = "") -> None:
    """End the run and stop the pod. Checkpoints and logs stay on the volume."""
    from podtasks.flows.control import stop as stop_flow

    project = open_project(c, {"cloud": cloud})
    account = project.open_existing_cloud()
    if account is None:
        return
    pod = stop_flow(
        account,
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

    project = open_project(c, {"cloud": cloud})
    account = project.open_existing_cloud()
    if account is None:
        return
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
    if not yes and not project.console.confirm(f"Delete pod {pod.id} ({pod.status.value})?", default=False):
        raise Exit("Nothing was changed.", code=INTERRUPTED)
    terminate_flow(account, pod, project.console)


def _no_log(report: PodReport) -> PodtasksError:
    """Return the error for a pod that runs and has no log to show."""
    pod = report.pod
    assert pod is not None
    means = f"It is billed at ${pod.usd_per_hour:.2f}/h, and stops itself when its run ends or its grace time is over."
    if report.silence:
        what = f"Pod {pod.id} runs but does not answer: {report.silence}"
        return TransportError(what, means=means, next_step="try again in a minute; inv stop --now stops it")
    return UsageError(
        f"Pod {pod.id} runs, but nothing was launched on it yet.",
        means=means,
        next_step="inv train launches; inv stop stops the pod",
    )


def lines_wanted(text: str) -> int:
    """Return a number of lines as the user typed it. Raises UsageError for anything but a whole number."""
    if not text.isdecimal():
        raise UsageError(f"--lines {text} is not a number of lines.", next_step="--lines 50")
    return int(text)


def _show_copy(project: Project, run: str, lines: int | None) -> None:
    """Print a run's log with no pod running; the whole of it where `lines` is None."""
    from podtasks.doors.console import write_log
    from podtasks.flows import run_copies

    copy = run_copies.find(project.files, run or None, project.local_volume())
    if copy is None:
        raise UsageError(
            f"There is no copy of run {run} here." if run else "No run was launched from here yet.",
            means="Logs stay on the volume, in logs/current.log and runs/.",
            next_step="inv train launches one; while a pod runs, inv logs shows its log",
        )
    project.console.tell(f"run {copy.run_id}, from {copy.source}")
    write_log(copy.log if lines is None else b"".join(copy.log.splitlines(keepends=True)[-lines:] if lines else []))
    if not copy.is_whole:
        project.console.note(
            "the end of this run was not seen here; the whole log is on the volume. "
            "The same inv train command goes on from its newest checkpoint."
        )


def _describe_last_run(project: Project) -> str:
    """Return how the newest run that can be read here ended, "" where there is none."""
    from podtasks.flows import run_copies

    copy = run_copies.find(project.files, None, project.local_volume())
    if copy is None:
        return ""
    if copy.exit_code is None:
        return f"{copy.run_id}: {copy.reason or 'its end was not seen here'}"
    return f"{copy.run_id}: {copy.reason or 'ended'}, exit code {copy.exit_code}"
