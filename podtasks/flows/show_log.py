"""The log of a run that does not run: from the volume where it can be reached, else what this machine has of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import run_copies
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import open_shell
from podtasks.flows.helper_pod import borrow_pod, describe_offer
from podtasks.flows.shell_volume import ShellVolume
from podtasks.flows.stored_logs import (
    StoredLog,
    VolumeReader,
    find_log,
    last_lines,
    list_run_ids,
    read_last_lines,
    read_log,
    read_newest_record,
    read_record,
)
from podtasks.flows.transfer_way import choose_s3
from podtasks.pure.amounts import format_duration
from podtasks.pure.errors import PodtasksError, UsageError
from podtasks.pure.pod import Pod
from podtasks.pure.run_costs import ended_at
from podtasks.pure.settings import Settings
from podtasks.pure.suggestion import ask_or_stop

Show = Callable[[bytes], None]


@dataclass(frozen=True)
class LogRequest:
    """Whose log is wanted, and how much may be done for it.

    Args:
        run_id: "" for the run launched last.
        lines: how many of the last lines; None for all.
        may_start: a CPU pod may be rented for it.
        via: auto, s3 or ssh.
        now: when it is asked for, seconds since 1970.
    """

    run_id: str
    lines: int | None
    may_start: bool
    via: str
    now: float


def show_stored_log(
    request: LogRequest,
    cloud: Cloud,
    pod: Pod | None,
    settings: Settings,
    files: ProjectFiles,
    *,
    show: Show,
    report: Reporter,
    clock: Clock,
) -> None:
    """Show a log by the S3 API, else by way of `pod` (ours, if it runs), else from a copy here, else by a CPU pod.

    Raises UsageError for a run that there is not, and where only a CPU pod could read it and none may be rented.
    """
    if request.via != "ssh" and _show_by_s3(request, cloud, show, report):
        return
    if pod is not None:
        with open_shell(cloud, pod) as shell:
            _show_from(ShellVolume(shell, pod.mount_path), request, show, report)
        return
    if request.may_start:
        _show_by_helper(request, cloud, settings, files, show, report, clock)
    elif request.via == "ssh" or not show_copy(request, files, None, show=show, report=report):
        raise _out_of_reach(request, describe_offer(cloud, settings))


def show_copy(
    request: LogRequest, files: ProjectFiles, volume_folder: Path | None, *, show: Show, report: Reporter
) -> bool:
    """Show what this machine has of a run's log; return False where it has none.

    `volume_folder` is the local cloud's volume, None on RunPod.
    """
    copy = run_copies.find(files, request.run_id or None, volume_folder)
    if copy is None:
        return False
    age = f", {format_duration(max(0.0, request.now - copy.copied_at))} old" if copy.copied_at else ""
    report.step(f"run {copy.run_id}, from {copy.source}{age}")
    show(copy.log if request.lines is None else last_lines(copy.log, request.lines))
    if not copy.is_whole:
        report.note(
            "the end of this run was not seen here; the whole log is on the volume: inv logs --start reads it by "
            "way of a CPU pod. The same inv train command goes on from the newest checkpoint."
        )
    return True


def _show_by_s3(request: LogRequest, cloud: Cloud, show: Show, report: Reporter) -> bool:
    """Show the log by the S3 API; return False where that fails before anything was shown."""
    shown = False

    def show_and_note(piece: bytes) -> None:
        nonlocal shown
        shown = True
        show(piece)

    try:
        volume = choose_s3(request.via, cloud)
        if volume is None:
            return False
        _show_from(volume, request, show_and_note, report)
    except UsageError:
        raise
    except PodtasksError as error:
        if shown or request.via == "s3":
            raise
        report.note(f"the volume cannot be read by the S3 API: {error.what}")
        return False
    return True


def _show_by_helper(
    request: LogRequest,
    cloud: Cloud,
    settings: Settings,
    files: ProjectFiles,
    show: Show,
    report: Reporter,
    clock: Clock,
) -> None:
    with borrow_pod(cloud, settings, files, report, clock, who="inv logs") as borrowed:
        _show_from(ShellVolume(borrowed.shell, borrowed.pod.mount_path), request, show, report)


def _show_from(volume: VolumeReader, request: LogRequest, show: Show, report: Reporter) -> None:
    log = _require_log(volume, request.run_id)
    report.step(f"run {log.run_id}, from the volume, by {_name(volume)}")
    if request.lines is None:
        for piece in read_log(volume, log):
            show(piece)
    else:
        show(read_last_lines(volume, log, request.lines))
    if ended_at(log.record) is None:
        report.note("the end of this run is not recorded. inv train goes on from the newest checkpoint")


def _name(volume: VolumeReader) -> str:
    return volume.name if volume.name == "SSH" else f"the {volume.name}"


def _require_log(volume: VolumeReader, run_id: str) -> StoredLog:
    """Return where the log is. Raises UsageError, with the nearest id, where there is none."""
    record = read_record(volume, run_id) if run_id else read_newest_record(volume)
    if record is None:
        known = list_run_ids(volume)
        if not run_id and known:
            record = read_record(volume, known[0])
    if record is None:
        raise _no_run(run_id, known)
    log = find_log(volume, record)
    if log is None:
        raise UsageError(
            f"Run {record['run_id']} has no log on the volume any more.", next_step="inv runs lists what is known of it"
        )
    return log


def _no_run(run_id: str, known: list[str]) -> UsageError:
    if not known:
        return UsageError("There is no run on the volume yet.", next_step="inv train launches one")
    like = next((f"; did you mean {each}?" for each in known if run_id in each), ask_or_stop(run_id, known))
    return UsageError(
        f"There is no run {run_id} on the volume{like}",
        means=f"The newest ones are {', '.join(known[:3])}.",
        next_step="inv runs lists them all",
    )


def _out_of_reach(request: LogRequest, offer: str) -> UsageError:
    what = f"of run {request.run_id}" if request.run_id else "of a run"
    no_copy = "" if request.via == "ssh" else " This machine has no copy of it."
    return UsageError(
        f"No pod runs that could read the log {what} from the volume.{no_copy}",
        means=f"Logs stay on the volume. Reading one takes S3 keys in .runpod.env, or {offer}.",
        next_step="inv logs --start rents that CPU pod, and deletes it when the log was shown",
    )
