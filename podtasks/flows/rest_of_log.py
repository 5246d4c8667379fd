"""The rest of a run's log, where its stream broke off and its pod is gone: from the volume itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.flows.stored_logs import CURRENT_LOG, StoredLog, VolumeReader, read_log
from podtasks.flows.volume_store import open_s3_volume
from podtasks.pure.errors import PodtasksError


def show_rest(
    cloud: Cloud, record: Mapping[str, Any], first_byte: int, show: Callable[[bytes], None], report: Reporter
) -> None:
    """Show the log of all runs from a byte to the end of the run with this record.

    Where the volume cannot be read without a pod, say that the rest was not shown.
    """
    end = record.get("log_end")
    if isinstance(end, int) and first_byte >= end:
        return
    try:
        volume = open_s3_volume(cloud)
        shown = volume is not None and _show(volume, record, first_byte, end, show)
    except PodtasksError:
        shown = False
    if not shown:
        report.note(f"the end of the log of run {record.get('run_id')} was not shown; inv logs shows it")


def _show(
    volume: VolumeReader, record: Mapping[str, Any], first_byte: int, end: object, show: Callable[[bytes], None]
) -> bool:
    """Return whether all of it was there to be shown."""
    found = volume.find(CURRENT_LOG)
    if found is None:
        return False
    # A run whose pod went away under it has no end on record; nothing came after it.
    last = end if isinstance(end, int) else found.size_bytes
    for piece in read_log(volume, StoredLog(record, CURRENT_LOG, first_byte, min(last, found.size_bytes))):
        show(piece)
        first_byte += len(piece)
    return first_byte >= last
