"""`inv storage list|clean`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.pure.amounts import format_bytes, format_count
from podtasks.pure.errors import RemoteCommandError, UsageError
from podtasks.pure.storage import CleaningPlan, Inventory, Wishes, plan_cleaning
from podtasks.tasks.entry import INTERRUPTED, Project, open_project, task

if TYPE_CHECKING:
    from podtasks.flows.cloud import Cloud
    from podtasks.flows.storage import Store
    from podtasks.pure.pod import NetworkVolume
    from podtasks.pure.storage import Search
    from podtasks.pure.storage_text import Outcome

ACTIONS = ("list", "clean")
FLAGS = {
    "old_checkpoints": "--old-checkpoints",
    "archives": "--archives",
    "hf_cache": "--hf-cache",
    "logs": "--logs",
}
HELP = {
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
    "json": "print the result as JSON",
    "cloud": "which cloud: auto, runpod or local",
}


@dataclass(frozen=True)
class _Asked:
    """What the user asked for."""

    action: str
    wishes: Wishes
    via: str
    start: bool
    yes: bool
    dry_run: bool
    json: bool


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
    from podtasks.flows.transfer_way import require_via

    wishes = Wishes(old_checkpoints, archives, hf_cache, logs, _whole_number(keep))
    asked = _Asked(_require_action(action, wishes, yes or dry_run), wishes, via, start, yes, dry_run, json)
    require_via(via)
    project = open_project(c, {"cloud": cloud})
    account = project.open_existing_cloud()
    if account is None:
        return
    with _open(project, account, asked) as (store, search):
        if asked.action == "list":
            _list(project, account, store, search, as_json=json)
        else:
            _clean(project, account, store, search, asked)


def _require_action(words: Sequence[str], wishes: Wishes, has_clean_flags: bool) -> str:
    """Return what to do. Raises UsageError for another word, and for flags of clean without it."""
    action = " ".join(words) or "list"
    if action not in ACTIONS:
        raise UsageError(
            f"inv storage does not know {action!r}.",
            means="Nothing was changed.",
            next_step="inv storage list, or inv storage clean",
        )
    given = [flag for name, flag in FLAGS.items() if getattr(wishes, name)]
    given += ["--yes or --dry-run"] if has_clean_flags and not given else []
    if action == "list" and (given or wishes.keep != 1):
        raise UsageError(
            f"{', '.join(given or ['--keep'])} belongs to inv storage clean.",
            means="Nothing was changed.",
            next_step="inv storage clean with the same flags; it asks before it deletes",
        )
    return action


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise UsageError(
            f"--keep {text} is not a number of checkpoints.",
            means="Nothing was changed.",
            next_step="--keep 2; the newest complete one always stays",
        )
    return int(text)


@contextmanager
def _open(project: Project, account: Cloud, asked: _Asked) -> Iterator[tuple[Store, Search]]:
    from podtasks.flows.storage import StorageRequest, find_search, open_store
    from podtasks.flows.transfer_way import with_real_mount

    settings = with_real_mount(project.settings, account)
    search = find_search(settings, project.files)
    request = StorageRequest(asked.via, asked.start)
    with open_store(request, account, settings, search, project.files, project.console, project.clock) as store:
        yield store, search


def _list(project: Project, account: Cloud, store: Store, search: Search, *, as_json: bool) -> None:
    from podtasks.doors.console import write_result
    from podtasks.doors.tables import Column, write_lines, write_table
    from podtasks.flows.storage import find_network_volume
    from podtasks.pure import storage_text

    inventory = store.measure()
    volume = find_network_volume(account)
    rows = list(storage_text.list_rows(inventory, search, project.settings.clone_name))
    _tell_trouble(project, inventory)
    if as_json:
        import json

        write_result(json.dumps(storage_text.inventory_json(inventory, volume, rows), indent=2))
        return
    columns = [
        Column("FOLDER", may_shrink=True),
        Column("FILES", "right"),
        Column("SIZE", "right"),
        Column("", may_shrink=True, may_drop=True),
    ]
    texts = [[r.place, format_count(r.amount.files), format_bytes(r.amount.size_bytes), r.note] for r in rows]
    write_table(columns, texts)
    write_result("")
    write_lines(storage_text.describe_total(inventory, volume))


def _tell_trouble(project: Project, inventory: Inventory) -> None:
    if inventory.live_run:
        project.console.note(f"run {inventory.live_run} goes on; it writes while this is read")
    for text in inventory.unreadable:
        project.console.note(f"not counted, because it cannot be read: {text}")


def _clean(project: Project, account: Cloud, store: Store, search: Search, asked: _Asked) -> None:
    """Show the plan, ask, delete, and say what came of it. Raises RemoteCommandError where something would not go."""
    from podtasks.flows.storage import find_network_volume
    from podtasks.pure.storage_text import Outcome, freed

    inventory = store.measure(asked.wishes.keep)
    _tell_trouble(project, inventory)
    if not any(getattr(asked.wishes, name) for name in FLAGS):
        _show_choices(inventory, asked, search)
        return
    plan = plan_cleaning(inventory, asked.wishes, search)
    _show_plan(project, plan, asked)
    if not plan.items or asked.dry_run:
        _write_outcome(plan, Outcome((), (), ()), None, asked)
        return
    _require_leave(project, plan, inventory, asked)
    outcome = store.clean(plan, asked.wishes.keep)
    gone = freed(plan, outcome)
    project.console.step(f"freed {format_bytes(gone.size_bytes)}: {format_count(gone.files)} files are deleted")
    for place, why in outcome.left:
        project.console.note(f"left: {place}: {why}")
    after = store.measure()
    _write_outcome(plan, outcome, after, asked, find_network_volume(account))
    if outcome.failed:
        named = "".join(f"\n  {place}: {why}" for place, why in outcome.failed)
        raise RemoteCommandError(
            f"{len(outcome.failed)} of {len(plan.items)} could not be deleted:{named}",
            means="What is left of a checkpoint is not taken for one. All others are deleted.",
            next_step="the same command again takes the rest",
        )


def _show_choices(inventory: Inventory, asked: _Asked, search: Search) -> None:
    """Print what each flag of clean would free."""
    from podtasks.doors.console import write_result
    from podtasks.doors.tables import Column, write_table

    plans = {
        flag: plan_cleaning(inventory, replace(Wishes(keep=asked.wishes.keep), **{name: True}), search)
        for name, flag in FLAGS.items()
    }
    if asked.json:
        import json

        choices = [{"flag": f, "items": len(p.items), "size_bytes": p.amount.size_bytes} for f, p in plans.items()]
        write_result(json.dumps({"choices": choices}, indent=2))
        return
    texts = [
        [f"inv storage clean {flag}", format_count(len(plan.items)), format_bytes(plan.amount.size_bytes)]
        for flag, plan in plans.items()
    ]
    write_table([Column("COMMAND"), Column("THINGS", "right"), Column("WOULD FREE", "right")], texts)


def _show_plan(project: Project, plan: CleaningPlan, asked: _Asked) -> None:
    from podtasks.doors.tables import Column, write_table

    for place, why in plan.kept:
        project.console.note(f"stays: {place}: {why}")
    total = f"{format_count(len(plan.items))} things, {format_bytes(plan.amount.size_bytes)}"
    if not plan.items:
        project.console.tell("there is nothing to delete")
    elif asked.json:
        for item in plan.items:
            project.console.tell(f"would go: {item.place}  {format_bytes(item.amount.size_bytes)}  {item.why}")
        project.console.tell(f"in all: {total}")
    else:
        columns = [Column("TO DELETE", may_shrink=True), Column("SIZE", "right"), Column("WHY", may_shrink=True)]
        write_table(columns, [[i.place, format_bytes(i.amount.size_bytes), i.why] for i in plan.items])
        project.console.tell(f"in all: {total}")


def _require_leave(project: Project, plan: CleaningPlan, inventory: Inventory, asked: _Asked) -> None:
    """Ask before anything is deleted. Raises UsageError where nobody can answer, Exit for no."""
    if inventory.is_preparing:
        raise UsageError(
            "A launch is being prepared, which may be about to resume from a checkpoint.",
            means="Nothing was deleted.",
            next_step="the same command again in a minute",
        )
    if asked.yes:
        return
    if not project.console.can_ask():
        raise UsageError(
            "There is nobody to ask whether this may be deleted.",
            means="Nothing was deleted.",
            next_step="the same command with --yes deletes without asking",
        )
    question = f"Delete this for good, {format_bytes(plan.amount.size_bytes)}?"
    if not project.console.confirm(question, default=False):
        raise Exit("Nothing was deleted.", code=INTERRUPTED)


def _write_outcome(
    plan: CleaningPlan,
    outcome: Outcome,
    after: Inventory | None,
    asked: _Asked,
    volume: NetworkVolume | None = None,
) -> None:
    from podtasks.doors.console import write_result
    from podtasks.doors.tables import write_lines
    from podtasks.pure import storage_text

    if asked.json:
        import json

        used_bytes = after.used.size_bytes if after else None
        write_result(json.dumps(storage_text.outcome_json(plan, outcome, used_bytes), indent=2))
    elif after is not None:
        write_lines(storage_text.describe_total(after, volume)[:1])
