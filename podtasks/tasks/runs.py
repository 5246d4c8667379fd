"""`inv runs`."""

from __future__ import annotations

import time
from typing import Any

from invoke.context import Context

from podtasks.tasks.entry import Project, open_project, task
from podtasks.tasks.results import CLOUD_HELP, JSON_HELP, parse_count, write_json


@task(help={**CLOUD_HELP, **JSON_HELP, "limit": "how many of the newest runs (20)"})
def runs(c: Context, limit: str = "20", json: bool = False, cloud: str = "") -> None:
    """List the runs: configuration, commit, start, duration, exit code, cost."""
    from podtasks.flows.runs import read_history
    from podtasks.pure.run_table import describe_runs

    project = open_project(c, {"cloud": cloud})
    wanted = parse_count("limit", limit, example=50, least=1)
    account = project.open_existing_cloud()
    name = project.settings.project
    history = read_history(account, name, project.files, project.console, wanted)
    told = describe_runs(history.records, history.active_run_id, history.source, time.time())
    if json:
        write_json(told)
    else:
        _show(project, told, wanted)


def _show(project: Project, told: dict[str, Any], limit: int) -> None:
    from podtasks.doors.tables import Column, write_table
    from podtasks.pure.moments import zone_name
    from podtasks.pure.run_table import build_run_rows

    if not told["runs"]:
        project.console.tell(f"there are no runs yet (read from {told['source']}); inv train makes one")
        return
    more = f"; the newest {limit}, --limit shows more" if len(told["runs"]) == limit else ""
    project.console.tell(f"from {told['source']}; times in {zone_name(time.time())}{more}")
    columns = [
        Column("run", keeps_ends=True),
        Column("exit", "right"),
        Column("start", may_drop=True),
        Column("took", "right", may_drop=True),
        Column("cost", "right", may_drop=True),
        Column("why", may_shrink=True, may_drop=True),
        Column("config", may_shrink=True, may_drop=True),
        Column("commit", may_drop=True),
        Column("from", may_shrink=True, may_drop=True),
        Column("GPU", may_shrink=True, may_drop=True),
    ]
    write_table(columns, build_run_rows(told["runs"]))
