"""`inv status`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from invoke.context import Context

from podtasks.tasks.entry import Project, open_project, task
from podtasks.tasks.results import CLOUD_HELP, JSON_HELP, parse_count, write_json, write_text

if TYPE_CHECKING:
    from podtasks.flows.cloud import Cloud


@task(
    help={
        **CLOUD_HELP,
        **JSON_HELP,
        "lines": "how many of the log's last lines to show (3)",
    }
)
def status(c: Context, lines: str = "3", json: bool = False, cloud: str = "") -> None:
    """Show the pod, what it costs, and how its run gets on."""
    from podtasks.pure.status_text import render_status

    project = open_project(c, {"cloud": cloud})
    wanted = parse_count("lines", lines, example=10)
    account = project.open_existing_cloud()
    told = _read(project, account, wanted) if account else _read_here(project)
    if json:
        write_json(told)
    else:
        write_text(render_status(told))


def _read(project: Project, account: Cloud, lines: int) -> dict[str, Any]:
    from podtasks.flows.control import read_status
    from podtasks.flows.last_run import find_last_run
    from podtasks.pure.status_report import build_status

    report = read_status(account, project.settings.project, lines)
    last_run, source = (None, "") if report.runs else find_last_run(account, project.files)
    return build_status(
        account.name,
        report.pod,
        report.answer,
        silence=report.silence,
        now=time.time(),
        helpers=report.helpers,
        last_run=last_run,
        source=source,
    )


def _read_here(project: Project) -> dict[str, Any]:
    """Return what is known with no local cloud running."""
    from podtasks.flows.runs import known_history
    from podtasks.pure.status_report import build_status

    known = known_history(project.files, 1)
    last_run = known.records[0] if known.records else None
    return build_status(
        "local cloud", None, {}, silence="", now=time.time(), last_run=last_run, source=known.source, is_up=False
    )
