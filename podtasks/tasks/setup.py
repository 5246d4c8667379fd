"""`inv init` and `inv settings`: a project's own files."""

from __future__ import annotations

from pathlib import Path

from invoke.context import Context

from podtasks.tasks.entry import open_project, task


@task(help={})
def init(c: Context) -> None:
    """Write tasks.py, invoke.yaml and .runpod.env.example here. Overwrites nothing."""
    del c
    from podtasks.doors.console import Console
    from podtasks.flows.init import write_project_files

    console = Console()
    for line in write_project_files(Path.cwd()):
        console.tell(line)


@task(help={"cloud": "as for inv train"})
def settings(c: Context, cloud: str = "") -> None:
    """Show each setting, its value, and where it came from. Secrets are masked."""
    from podtasks.doors.console import write_result

    rows = open_project(c, {"cloud": cloud}).effective.rows()
    widths = [max(len(row[column]) for row in rows) for column in (0, 2)]
    for name, value, source in rows:
        write_result(f"{name:<{widths[0]}}  {source:<{widths[1]}}  {value}")
