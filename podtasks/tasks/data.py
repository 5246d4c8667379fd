"""`inv sync-data` and `inv fetch`: files to the volume, and home from it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.doors.console import write_result
from podtasks.pure.amounts import format_bytes, format_count
from podtasks.pure.errors import TransferError, UsageError
from podtasks.tasks.entry import INTERRUPTED, Project, open_project, task

if TYPE_CHECKING:
    from podtasks.flows.cloud import Cloud
    from podtasks.flows.data import DataSync, Expected
    from podtasks.flows.data_upload import Synced
    from podtasks.flows.fetch import Fetched
    from podtasks.pure.data_plan import Entry
    from podtasks.pure.settings import Settings

NAMED = 20
CLOUD_HELP = {"cloud": "which cloud: auto, runpod or local"}
VIA_HELP = {"via": "the way to the volume: s3, ssh, or auto (s3 where there are S3 keys, else ssh)"}


@task(
    help={
        **CLOUD_HELP,
        **VIA_HELP,
        "names": "which of the setting's local paths, by path or last part (default: all)",
        "delete": "delete on the volume what is not here; the list is shown, and you are asked",
        "dry-run": "show what would be sent and deleted, and stop",
        "check": "ask the volume for every file, whatever an earlier sync confirmed",
        "yes": "do not ask before a CPU pod is rented or files are deleted",
    },
    name="sync-data",
    words="names",
)
def sync_data(
    c: Context,
    names: Sequence[str] = (),
    via: str = "auto",
    delete: bool = False,
    dry_run: bool = False,
    check: bool = False,
    yes: bool = False,
    cloud: str = "",
) -> None:
    """Send the local data that the setting `data` names to the volume; what is there already is skipped."""
    from podtasks.flows.transfer_way import require_via

    require_via(via)
    project = open_project(c, {"cloud": cloud})
    entries = _find_entries(project, names)
    sync = _build_sync(project, entries, via=via, check=check, delete=delete, yes=yes)
    if dry_run:
        _show_expected(project, sync.preview())
        return
    began_s = project.clock.now()
    synced = sync.run()
    _tell_rate(project, synced, project.clock.now() - began_s)
    _show_synced(project, synced)
    require_all_arrived(synced.failures, sum(len(each.source.tree.files) for each in synced.arrived))


def _find_entries(project: Project, names: Sequence[str]) -> list[Entry]:
    from podtasks.flows.data_upload import find_present
    from podtasks.pure.data_plan import build_entries, choose_entries
    from podtasks.pure.settings_sources import DEFAULT

    entries = choose_entries(build_entries(project.settings.data, project.files.root), names)
    may_miss = not names and project.effective.sources["data"] == DEFAULT
    return find_present(entries, may_miss=may_miss, report=project.console)


def _build_sync(
    project: Project, entries: list[Entry], *, via: str, check: bool, delete: bool, yes: bool
) -> DataSync:
    from podtasks.flows.data import DataSync, SyncRequest

    project.introduce_cloud()
    account, settings = _open_cloud(project, via)
    return DataSync(
        SyncRequest(entries, via, check, delete, yes),
        account,
        settings,
        project.files,
        project.console,
        project.clock,
        lambda: require_consent(project, yes),
        lambda question: confirm_deletion(project, question),
    )


def require_consent(project: Project, yes: bool) -> None:
    """Ask before a CPU pod is rented, where somebody can answer. Raises Exit for no."""
    if not yes and not project.console.confirm("Go ahead?", default=True):
        raise Exit("Nothing was rented.", code=INTERRUPTED)


def confirm_deletion(project: Project, question: str) -> bool:
    """Ask before files are deleted and return the answer. Raises UsageError where nobody can give one."""
    if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "There is nobody to ask whether files may be deleted.",
            means="Nothing was deleted; what was to be sent is on the volume.",
            next_step="inv sync-data --delete --yes deletes without asking",
        )
    return project.console.confirm(question, default=False)


def require_all_arrived(failures: Sequence[tuple[str, str]], files: int) -> None:
    """Raise TransferError that names the files that did not arrive, where there are any."""
    if not failures:
        return
    named = "".join(f"\n  {name}: {why}" for name, why in failures[:NAMED])
    more = f"\n  and {format_count(len(failures) - NAMED)} more" if len(failures) > NAMED else ""
    raise TransferError(
        f"{format_count(len(failures))} failed, of {format_count(files)} files:{named}{more}",
        means="All others have arrived.",
        next_step="mend what is named, then the same command again: it sends only what is missing",
    )


def _tell_rate(project: Project, synced: Synced, elapsed_s: float) -> None:
    tally = synced.tally
    rate = format_bytes(tally.sent_bytes / elapsed_s if elapsed_s > 0 else 0)
    project.console.step(
        f"sent {format_count(tally.sent_files)} files, {format_bytes(tally.sent_bytes)} ({rate}/s); "
        f"{format_count(tally.skipped_files)} were there already"
    )


def _show_synced(project: Project, synced: Synced) -> None:
    from podtasks.doors.tables import Column, write_table

    columns = [Column("LOCAL", may_shrink=True), Column("VOLUME", may_shrink=True)]
    columns += [Column(title, "right") for title in ("FILES HERE", "FILES THERE", "BYTES HERE", "BYTES THERE")]
    rows = [
        [
            each.source.entry.name,
            f"{project.settings.mount_path}/{each.source.entry.place}",
            format_count(len(each.source.tree.files)),
            format_count(each.there_files),
            format_count(each.source.tree.size_bytes),
            format_count(each.there_bytes),
        ]
        for each in synced.arrived
    ]
    write_table(columns, rows)


def _show_expected(project: Project, expected: Sequence[Expected]) -> None:
    from podtasks.doors.tables import Column, write_table

    columns = [Column("LOCAL", may_shrink=True), Column("VOLUME", may_shrink=True)]
    columns += [Column(title, "right") for title in ("FILES", "SIZE", "CONFIRMED EARLIER", "TO DELETE")]
    rows = [
        [
            each.source.entry.name,
            f"{project.settings.mount_path}/{each.source.entry.place}",
            format_count(len(each.source.tree.files)),
            format_bytes(each.source.tree.size_bytes),
            "not known" if each.confirmed_files is None else format_count(each.confirmed_files),
            format_count(len(each.extra)),
        ]
        for each in expected
    ]
    write_table(columns, rows)
    for place in [file.place for each in expected for file in each.extra][:NAMED]:
        project.console.note(f"would be deleted: {place}")
    require_all_arrived([failure for each in expected for failure in each.source.tree.failures], len(rows))


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
    from podtasks.flows.fetch import Fetch, FetchRequest, describe_fetched
    from podtasks.flows.transfer_way import require_via

    require_via(via)
    project = open_project(c, {"cloud": cloud})
    target = Path(to).expanduser() if to else None
    config = project.files.name_from_here(config)
    request = FetchRequest(tuple(names), config, target, via, overwrite, yes, dry_run)
    project.introduce_cloud()
    account, settings = _open_cloud(project, via)
    began_s = project.clock.now()
    fetched = Fetch(
        request,
        account,
        settings,
        project.files,
        project.console,
        project.clock,
        lambda: require_consent(project, yes),
    ).run()
    if not dry_run:
        project.console.step(describe_fetched(fetched, project.clock.now() - began_s))
    _show_fetched(fetched, dry_run=dry_run)
    require_all_arrived(fetched.failures, sum(len(part.files) for part in fetched.parts))


def _open_cloud(project: Project, via: str) -> tuple[Cloud, Settings]:
    """Return the cloud and the settings with its mount path; the S3 API needs no SSH key, so none is asked for."""
    from podtasks.doors.runpod_sdk import import_in_background
    from podtasks.flows.cloud import open_cloud

    if via == "ssh":
        # Only that way is sure to need the SDK, which takes a second to load.
        import_in_background()
    account = open_cloud(
        project.settings, project.identity, project.files, project.console, project.clock, to_launch=False
    )
    changed = {"mount_path": account.mount_path} if account.mount_path else {}
    return account, project.settings.model_copy(update=changed)


def _show_fetched(fetched: Fetched, *, dry_run: bool) -> None:
    from podtasks.doors.tables import Column, write_table

    titles = ("TO FETCH", "SIZE") if dry_run else ("BYTES THERE", "BYTES HERE")
    columns = [Column("WHAT", may_shrink=True)]
    columns += [Column(title, "right") for title in ("FILES THERE", "FILES HERE", *titles)]
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
