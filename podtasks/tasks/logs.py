"""`inv logs`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from invoke.context import Context

from podtasks.doors.console import write_log
from podtasks.pure.errors import PodtasksError, TransportError, UsageError
from podtasks.tasks.entry import Project, open_project, task
from podtasks.tasks.results import CLOUD_HELP, parse_count
from podtasks.tasks.view import tell_pod_end, watch_run

if TYPE_CHECKING:
    from podtasks.flows.cloud import Cloud
    from podtasks.flows.control import PodReport
    from podtasks.flows.show_log import LogRequest


@task(
    help={
        **CLOUD_HELP,
        "run": "the id of an earlier run (inv runs lists them)",
        "follow": "stream until the run ends (--no-follow: print the last lines)",
        "lines": "how many of the last lines to print, of a log that is not followed (100)",
        "start": "rent a CPU pod where nothing else can read the volume",
        "via": "how to read the volume of a stopped pod: auto, s3 or ssh",
    }
)
def logs(
    c: Context,
    run: str = "",
    follow: bool = True,
    lines: str = "",
    start: bool = False,
    via: str = "auto",
    cloud: str = "",
) -> None:
    """Show the training's log: live while the pod runs, else from the volume or this machine's copy of it."""
    from podtasks.flows.control import find_run, is_running, read_status
    from podtasks.flows.show_log import LogRequest
    from podtasks.flows.transfer_way import require_via

    project = open_project(c, {"cloud": cloud})
    require_via(via)
    wanted = parse_count("lines", lines or "100", example=50)
    request = LogRequest(run, None if follow and not lines else wanted, start, via, time.time())
    account = project.open_existing_cloud()
    if account is None:
        _show_here(project, request)
        return
    report = read_status(account, project.settings.project, request.lines or 0)
    launched = find_run(report)
    if not report.runs or (run and not is_running(report, run)):
        _show_stored(project, account, report, request)
    elif launched is None:
        raise _no_log(report)
    elif follow:
        outcome = watch_run(project, account, launched)
        tell_pod_end(project, account, launched, outcome)
    else:
        lines_there = [str(line) for line in report.answer.get("last_lines") or []]
        write_log("".join(f"{line}\n" for line in lines_there).encode(errors="surrogateescape"))


def _show_stored(project: Project, account: Cloud, report: PodReport, request: LogRequest) -> None:
    from podtasks.flows.show_log import show_stored_log

    if not report.runs and not request.run_id:
        project.console.note("no pod is running")
    show_stored_log(
        request,
        account,
        report.pod if report.runs else None,
        project.settings,
        project.files,
        show=write_log,
        report=project.console,
        clock=project.clock,
    )


def _show_here(project: Project, request: LogRequest) -> None:
    """Print the log from the volume of the local cloud, which does not run."""
    from podtasks.flows.show_log import show_copy

    if not show_copy(request, project.files, project.local_volume(), show=write_log, report=project.console):
        raise UsageError(
            f"There is no run {request.run_id} here." if request.run_id else "No run was launched from here yet.",
            next_step="inv runs lists the runs that there are" if request.run_id else "inv train launches one",
        )


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
