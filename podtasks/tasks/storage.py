"""`inv storage list|clean`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.pure.amounts import format_bytes, format_count
from podtasks.pure.cleaning import ACTIONS, CleaningPlan, Wishes, parse_action
from podtasks.tasks.consent import confirm_deletion
from podtasks.tasks.entry import INTERRUPTED, Project, open_project, task
from podtasks.tasks.results import CLOUD_HELP, JSON_HELP, parse_count, write_json

if TYPE_CHECKING:
    from podtasks.flows.cleaning import Cleaned
    from podtasks.flows.cloud import Cloud
    from podtasks.flows.storage import Store
    from podtasks.pure.storage import Search

HELP = {
    **CLOUD_HELP,
    **JSON_HELP,
    "action": "as a word after the task: list (the default) or clean",
    "old-checkpoints": "clean: all but the newest complete checkpoint of each output directory",
    "archives": "clean: checkpoints that forced restarts moved aside",
    "hf-cache": "clean: what Hugging Face's libraries downloaded; they download it again",
    "logs": "clean: the runs' own logs, all but those of the newest 20",
    "keep": "how many complete checkpoints stay in each output directory (1)",
    "yes": "do not ask before anything is deleted",
    "dry-run": "show what would be deleted, and stop",
    "start": "rent a CPU pod for it, where no pod runs and there is no S3 API",
    "via": "the way to the volume: s3, ssh, or auto (a pod that runs, else s3)",
}


@task(help=HELP, words="action", choices=ACTIONS)
def storage(
    c: Context,
    action: Sequence[str] = (),
    old_checkpoints: bool = False,
    archives: bool = False,
    hf_cache: bool = False,
    logs: bool = False,
    keep: str = "1",
    yes: bool = False,
    dry_run: bool = False,
    start: bool = False,
    via: str = "auto",
    json: bool = False,
    cloud: str = "",
) -> None:
    """Show what lies on the volume, or make room on it: inv storage, inv storage clean --old-checkpoints."""
    from podtasks.flows.storage import StorageRequest, open_store
    from podtasks.flows.storage_places import find_search
    from podtasks.flows.transfer_way import require_via, with_real_mount

    kept = parse_count("keep", keep, example=2, least=1)
    wishes = Wishes(old_checkpoints, archives, hf_cache, logs, kept)
    chosen = parse_action(action, wishes, has_clean_flags=yes or dry_run)
    require_via(via)
    project = open_project(c, {"cloud": cloud})
    account = project.open_existing_cloud()
    if account is None:
        return
    settings = with_real_mount(project.settings, account)
    search = find_search(settings, project.files)
    request = StorageRequest(via, start)
    with open_store(request, account, settings, search, project.files, project.console, project.clock) as store:
        if chosen == "list":
            _list(project, account, store, search, as_json=json)
        elif wishes.flags:
            _clean(project, account, store, search, wishes, yes=yes, dry_run=dry_run, as_json=json)
        else:
            _show_choices(project, store, search, kept, as_json=json)


def _list(project: Project, account: Cloud, store: Store, search: Search, *, as_json: bool) -> None:
    from podtasks.doors.console import write_result
    from podtasks.doors.tables import Column, write_lines, write_table
    from podtasks.flows.cleaning import measure
    from podtasks.flows.storage_places import find_network_volume
    from podtasks.pure import storage_text

    inventory = measure(store, project.console)
    volume = find_network_volume(account)
    rows = list(storage_text.list_rows(inventory, search, project.settings.clone_name))
    if as_json:
        write_json(storage_text.inventory_json(inventory, volume, rows))
        return
    columns = [
        Column("folder", keeps_ends=True),
        Column("files", "right"),
        Column("size", "right"),
        Column("note", may_shrink=True, may_drop=True),
    ]
    texts = [[r.place, format_count(r.amount.files), format_bytes(r.amount.size_bytes), r.note] for r in rows]
    write_table(columns, texts)
    write_result("")
    write_lines(storage_text.describe_total(inventory, volume))


def _clean(
    project: Project,
    account: Cloud,
    store: Store,
    search: Search,
    wishes: Wishes,
    *,
    yes: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Show the plan, ask, delete, and say what came of it. Raises RemoteCommandError where something would not go."""
    from podtasks.flows.cleaning import Clean, require_all_deleted

    cleaned = Clean(
        store,
        search,
        wishes,
        dry_run,
        project.console,
        lambda plan: _show_plan(project, plan, as_json=as_json),
        lambda question: _require_leave(project, question, yes=yes),
    ).run()
    _write_outcome(account, cleaned, as_json=as_json)
    require_all_deleted(cleaned)


def _require_leave(project: Project, question: str, *, yes: bool) -> None:
    """Ask before anything is deleted. Raises UsageError where nobody can answer, Exit for no."""
    if not yes and not confirm_deletion(project, question):
        raise Exit("Nothing was deleted.", code=INTERRUPTED)


def _show_choices(project: Project, store: Store, search: Search, keep: int, *, as_json: bool) -> None:
    """Print what each flag of clean would free."""
    from podtasks.doors.tables import Column, write_table
    from podtasks.flows.cleaning import measure_choices

    plans = measure_choices(store, search, project.console, keep)
    if as_json:
        choices = [{"flag": f, "items": len(p.items), "size_bytes": p.amount.size_bytes} for f, p in plans.items()]
        write_json({"choices": choices})
        return
    columns = [Column("command"), Column("things", "right"), Column("would free", "right")]
    write_table(columns, _choice_rows(plans))
    for plan in plans.values():
        _tell_kept(project, plan)


def _choice_rows(plans: Mapping[str, CleaningPlan]) -> list[list[str]]:
    return [
        [f"inv storage clean {flag}", format_count(len(plan.items)), format_bytes(plan.amount.size_bytes)]
        for flag, plan in plans.items()
    ]


def _tell_kept(project: Project, plan: CleaningPlan) -> None:
    from podtasks.pure.storage_text import describe_kept

    for text in describe_kept(plan):
        project.console.note(text)


def _show_plan(project: Project, plan: CleaningPlan, *, as_json: bool) -> None:
    from podtasks.doors.tables import Column, write_table
    from podtasks.pure.storage_text import count_things

    _tell_kept(project, plan)
    if not plan.items:
        project.console.tell("there is nothing to delete")
        return
    if as_json:
        for item in plan.items:
            project.console.tell(f"would go: {item.place}  {format_bytes(item.amount.size_bytes)}  {item.why}")
    else:
        columns = [
            Column("to delete", keeps_ends=True),
            Column("size", "right"),
            Column("why", may_shrink=True, may_drop=True),
        ]
        write_table(columns, [[i.place, format_bytes(i.amount.size_bytes), i.why] for i in plan.items])
    project.console.tell(f"in all: {count_things(len(plan.items))}, {format_bytes(plan.amount.size_bytes)}")


def _write_outcome(account: Cloud, cleaned: Cleaned, *, as_json: bool) -> None:
    from podtasks.doors.tables import write_lines
    from podtasks.flows.storage_places import find_network_volume
    from podtasks.pure import storage_text

    after = cleaned.after
    if as_json:
        used_bytes = after.used.size_bytes if after else None
        write_json(storage_text.outcome_json(cleaned.plan, cleaned.outcome, used_bytes))
    elif after is not None:
        write_lines(storage_text.describe_total(after, find_network_volume(account))[:1])
