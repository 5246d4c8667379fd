"""`inv reap`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.pure.errors import UsageError
from podtasks.tasks.entry import INTERRUPTED, Project, open_project, task
from podtasks.tasks.results import CLOUD_HELP, JSON_HELP, write_json

if TYPE_CHECKING:
    from podtasks.pure.reap import Verdict, Wish

HELP = {
    **CLOUD_HELP,
    **JSON_HELP,
    "all": "the pods of all projects; others of the account are shown, never stopped",
    "now": "stop also pods within their grace time, and kept ones",
    "silent": "stop also pods that do not answer, of which nothing else is known",
    "yes": "do not ask before pods are stopped",
}


@task(help=HELP)
def reap(
    c: Context,
    all: bool = False,
    now: bool = False,
    silent: bool = False,
    yes: bool = False,
    json: bool = False,
    cloud: str = "",
) -> None:
    """Stop pods that are billed without a live run, after showing them and asking.

    With --json and without --yes they are only shown.
    """
    from podtasks.flows.reap import Reaper
    from podtasks.pure.reap import Wish
    from podtasks.pure.reap_text import describe_reap

    project = open_project(c, {"cloud": cloud})
    wish = Wish(now, silent)
    account = project.open_existing_cloud()
    if account is None:
        if json:
            write_json(describe_reap("local cloud", time.time(), [], wish, []))
        return
    reaper = Reaper(account, project.settings.project, all, project.console, project.clock, time.time())
    verdicts = reaper.look()
    if not json:
        _show(project, verdicts, wish)
    doomed = [verdict for verdict in verdicts if wish.covers(verdict)]
    stopped: list[str] = []
    if doomed and (yes or not json):
        _require_leave(project, doomed, yes=yes)
        stopped = reaper.stop(doomed, wish)
    if json:
        write_json(describe_reap(account.name, reaper.now, verdicts, wish, stopped))


def _show(project: Project, verdicts: Sequence[Verdict], wish: Wish) -> None:
    from podtasks.doors.tables import Column, write_table
    from podtasks.pure.reap_text import build_rows, describe_sum, explain_rest

    if not verdicts:
        project.console.tell("no pod is billed")
        return
    columns = [
        Column("pod"),
        Column("project", keeps_ends=True),
        Column("GPU", may_shrink=True, may_drop=True),
        Column("$/h", "right"),
        Column("up", "right", may_drop=True),
        Column("cost so far", "right", may_drop=True),
        Column("state"),
        Column("do"),
        Column("why", may_shrink=True),
    ]
    write_table(columns, build_rows(verdicts, wish))
    doomed = [verdict for verdict in verdicts if wish.covers(verdict)]
    told = f"to stop: {describe_sum(doomed)}" if doomed else "nothing to stop"
    project.console.tell(f"billed: {describe_sum(verdicts)}; {told}")
    for text in explain_rest(verdicts, wish):
        project.console.note(text)


def _require_leave(project: Project, doomed: Sequence[Verdict], *, yes: bool) -> None:
    """Ask before pods are stopped. Raises UsageError where nobody can answer, Exit for no."""
    from podtasks.pure.reap_text import build_question

    if yes:
        return
    if not project.console.can_ask():
        raise UsageError(
            "There is nobody to ask whether these pods may be stopped.",
            means="Nothing was stopped; they are billed on.",
            next_step="the same command with --yes stops them without asking",
        )
    if not project.console.confirm(build_question(doomed), default=False):
        raise Exit("Nothing was stopped.", code=INTERRUPTED)
