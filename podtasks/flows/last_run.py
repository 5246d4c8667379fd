"""The last run, where no pod runs that could tell of it: two short questions to the S3 API, or what is known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podtasks.doors.at_once import ask_at_once
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import run_copies
from podtasks.flows.cloud import Cloud
from podtasks.flows.end_marks import tell_end
from podtasks.flows.runs import known_history
from podtasks.flows.stored_logs import read_newest_record
from podtasks.flows.volume_store import open_s3_volume
from podtasks.pure.errors import PodtasksError
from podtasks.pure.run_costs import ended_at

PATIENCE_S = 5.0
NOWHERE: tuple[dict[str, Any] | None, str] = (None, "")


def find_last_run(cloud: Cloud, files: ProjectFiles) -> tuple[Mapping[str, Any] | None, str]:
    """Return the record of the run launched last and where it is from; None and "" where none is known.

    The S3 API is asked only where no other question is needed for it: with keys, and the data center known.
    """
    record, source = _read_volume(cloud)
    if record is not None:
        if ended_at(record) is not None:
            run_copies.remember_record(files, record)
        return tell_end(files, record), source
    known = known_history(files, 1)
    return (tell_end(files, known.records[0]), known.source) if known.records else NOWHERE


def _read_volume(cloud: Cloud) -> tuple[dict[str, Any] | None, str]:
    if cloud.s3_keys is None or cloud.data_center is None:
        return NOWHERE
    try:
        volume = open_s3_volume(cloud)
    except PodtasksError:
        return NOWHERE
    if volume is None:
        return NOWHERE
    # The S3 door has patience for whole uploads; whoever looks at the status has not.
    ((_, record),) = ask_at_once({"record": lambda: read_newest_record(volume)}, PATIENCE_S)
    return (record, "the volume, by the S3 API") if isinstance(record, dict) else NOWHERE
