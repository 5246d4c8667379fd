"""`inv sync-data`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from invoke.context import Context

from podtasks.pure.amounts import format_bytes, format_count
from podtasks.tasks.consent import confirm_deletion, require_answers, require_leave_to_rent
from podtasks.tasks.entry import Project, open_project, task
from podtasks.tasks.results import CLOUD_HELP, VIA_HELP

if TYPE_CHECKING:
    from podtasks.flows.data import DataSync, Expected
    from podtasks.flows.data_upload import Source, Synced


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
    from podtasks.flows.data import DataSync, SyncRequest
    from podtasks.flows.data_upload import find_entries
    from podtasks.flows.transfer_way import open_volume_cloud, require_via

    require_via(via)
    project = open_project(c, {"cloud": cloud})
    if delete and not (yes or dry_run):
        require_answers(project, means="Nothing was sent or deleted.", example="inv sync-data --delete --yes")
    entries = find_entries(project.effective, project.files.root, names, project.console)
    project.introduce_cloud()
    account, settings = open_volume_cloud(
        via, project.settings, project.identity, project.files, project.console, project.clock
    )
    sync = DataSync(
        SyncRequest(entries, via, check, delete, yes),
        account,
        settings,
        project.files,
        project.console,
        project.clock,
        lambda: require_leave_to_rent(project, yes),
        lambda question: confirm_deletion(project, question),
    )
    if dry_run:
        _show_expected(project, sync.preview())
    else:
        _sync(project, sync)


def _sync(project: Project, sync: DataSync) -> None:
    """Send, show what is there then, and fail where something is not."""
    from podtasks.pure.transfer_text import describe_tally, require_all_arrived

    began_s = project.clock.now()
    synced = sync.run()
    project.console.step(describe_tally("sent", synced.tally, "there", project.clock.now() - began_s))
    _show_synced(project, synced)
    require_all_arrived(synced.failures, sum(len(each.source.tree.files) for each in synced.arrived))


def _show_synced(project: Project, synced: Synced) -> None:
    titles = ("files here", "files there", "bytes here", "bytes there")
    rows = [
        [
            *_name(project, each.source),
            format_count(len(each.source.tree.files)),
            format_count(each.there_files),
            format_count(each.source.tree.size_bytes),
            format_count(each.there_bytes),
        ]
        for each in synced.arrived
    ]
    _write(titles, rows)


def _show_expected(project: Project, expected: Sequence[Expected]) -> None:
    from podtasks.pure.transfer_text import NAMED, require_all_arrived

    rows = [
        [
            *_name(project, each.source),
            format_count(len(each.source.tree.files)),
            format_bytes(each.source.tree.size_bytes),
            "not known" if each.confirmed_files is None else format_count(each.confirmed_files),
            "not known" if each.extra is None else format_count(len(each.extra)),
        ]
        for each in expected
    ]
    _write(("files", "size", "confirmed earlier", "to delete"), rows)
    for place in [file.place for each in expected for file in each.extra or ()][:NAMED]:
        project.console.note(f"would be deleted: {place}")
    unreadable = [failure for each in expected for failure in each.source.tree.failures]
    require_all_arrived(unreadable, sum(len(each.source.tree.files) for each in expected) + len(unreadable))


def _name(project: Project, source: Source) -> tuple[str, str]:
    return source.entry.name, f"{project.settings.mount_path}/{source.entry.place}"


def _write(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from podtasks.doors.tables import Column, write_table

    columns = [Column("local", keeps_ends=True), Column("volume", keeps_ends=True)]
    write_table([*columns, *(Column(title, "right") for title in titles)], rows)
