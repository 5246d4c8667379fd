"""`inv fetch`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context

from podtasks.pure.amounts import format_bytes, format_count
from podtasks.tasks.consent import require_leave_to_rent
from podtasks.tasks.entry import open_project, task
from podtasks.tasks.results import CLOUD_HELP, VIA_HELP

if TYPE_CHECKING:
    from podtasks.flows.fetch_parts import Fetched


@task(
    help={
        **CLOUD_HELP,
        **VIA_HELP,
        "names": "checkpoints (all of them), logs, predictions, or paths on the volume "
        "(default: the newest complete checkpoint and final_model)",
        "config": "whose checkpoints (default: the only configuration there is, else the newest run's)",
        "to": "the folder to fetch into (default: fetched/)",
        "dry-run": "show what would be fetched, and stop",
        "overwrite": "replace also what is newer here than on the volume",
        "yes": "do not ask before a CPU pod is rented",
    },
    words="names",
    choices=("checkpoints", "logs", "predictions"),
)
def fetch(
    c: Context,
    names: Sequence[str] = (),
    config: str = "",
    to: str = "",
    via: str = "auto",
    dry_run: bool = False,
    overwrite: bool = False,
    yes: bool = False,
    cloud: str = "",
) -> None:
    """Bring results home from the volume: checkpoints, logs, predictions, or any path; what is here is skipped."""
    from podtasks.flows.fetch import Fetch, FetchRequest
    from podtasks.flows.transfer_way import open_volume_cloud, require_via
    from podtasks.pure.transfer_text import describe_tally, require_all_arrived

    require_via(via)
    project = open_project(c, {"cloud": cloud})
    target = Path(to).expanduser() if to else None
    config = project.files.name_from_here(config)
    request = FetchRequest(tuple(names), config, target, via, overwrite, yes, dry_run)
    project.introduce_cloud(in_brief=True)
    account, settings = open_volume_cloud(
        via, project.settings, project.identity, project.files, project.console, project.clock
    )
    began_s = project.clock.now()
    fetched = Fetch(
        request,
        account,
        settings,
        project.files,
        project.console,
        project.clock,
        lambda: require_leave_to_rent(project, yes),
    ).run()
    if not dry_run:
        elapsed_s = project.clock.now() - began_s
        project.console.step(describe_tally("fetched", fetched.whole_tally(), "here", elapsed_s))
    _show(fetched, dry_run=dry_run)
    require_all_arrived(fetched.failures, sum(len(part.files) for part in fetched.parts))


def _show(fetched: Fetched, *, dry_run: bool) -> None:
    from podtasks.doors.console import write_result
    from podtasks.doors.tables import Column, write_table

    titles = ("to fetch", "size") if dry_run else ("bytes there", "bytes here")
    columns = [Column("what", keeps_ends=True)]
    columns += [Column(title, "right") for title in ("files there", "files here", *titles)]
    rows = []
    for part in fetched.parts:
        files_here, bytes_here = fetched.count_here(part)
        wanted_bytes = sum(file.size_bytes for file in part.plan.wanted)
        there_bytes = sum(file.size_bytes for file in part.files)
        told = (
            [format_count(len(part.plan.wanted)), format_bytes(wanted_bytes)]
            if dry_run
            else [format_count(there_bytes), format_count(bytes_here)]
        )
        rows.append([part.name, format_count(len(part.files)), format_count(files_here), *told])
    write_table(columns, rows)
    if not dry_run:
        write_result(f"in {fetched.target}")
