#!/usr/bin/env python3
"""Tell what lies on the volume, and delete what a plan made from that names, as far as it still holds.

In: {"op": "measure" or "clean", "roots": [folders below which output directories are looked for], "exact": [output
directories], "pattern", "hf_home": the Hugging Face cache or null, "other_pods": whether another pod has this volume};
for "clean" also "keep" (complete checkpoints to keep in each output directory), "keep_logs" and "items": [{"kind":
"checkpoint" | "archive" | "cache" | "log" | "leftover", "path"}]. All paths are relative to the volume's top.

Out of "measure": "used_bytes", "files", "measured_at", "tree": {folder: [files, bytes]}, "directories": [{"path",
"checkpoints": [{"path", "step", "why", "keep"}, newest first], "is_complete", "archives": [{"path", "is_complete",
"in_use"}]}], "logs": [{"path", "size_bytes", "keep"}, newest first], "leftovers": [path], "live": the run that goes on
or null, "is_preparing": whether a launch is being prepared, "unreadable": [text].
Out of "clean": "deleted": [path], "left": [{"path", "why"}], "failed": [{"path", "why"}]; refused while a launch is
being prepared.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import answer
import guard_link
import run_record
import runs
from answer import Refused
from guard_link import GuardGone
from output_directories import Volume, find_directories, has_complete, list_archives, list_checkpoints
from pod_environ import volume_directory
from volume_clean import Cleaning, is_leftover, list_logs
from volume_scan import VolumeScan

USAGE_FILE = ".cache/podtasks-usage.json"
# Of how many runs the records are looked at, for those that go on.
LOOKED_AT = 100
# The hours of a run whose record does not tell, and how long a run may take to end when its hours are over.
USUAL_HOURS, SLACK_HOURS = 24.0, 1.0


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    live = find_live_run(volume_directory(), bool(request.get("other_pods")))
    volume = Volume(volume_directory(), live["needs"] if live else ())
    if request.get("op") == "clean":
        if live and live["run_id"] is None:
            raise Refused("A launch is being prepared on this pod.", "It may be about to resume from a checkpoint.")
        answer.give(Cleaning(volume, request, live["run_id"] if live else None).run())
    else:
        answer.give(measure(volume, request, live))


def find_live_run(top: str, other_pods: bool) -> dict[str, Any] | None:
    """Return the run that goes on, with the absolute paths that it needs; its id is None while it is prepared.

    The guard knows of a run on this pod. Where another pod has the volume, records without an end may be of runs that
    go on there, of several projects too: what each of them needs is told.
    """
    lease = _read_lease()
    if lease and lease["kind"] == "prepare":
        return {"run_id": None, "needs": []}
    live = [os.path.join(top, "runs", str(lease["run_id"]))] if lease else []
    if other_pods:
        live += [run_dir for run_dir in _find_without_end(top) if run_dir not in live]
    if not live:
        return None
    checkpoints = [(run_record.read(run_dir).get("checkpoint") or {}).get("path") for run_dir in live]
    return {"run_id": os.path.basename(live[0]), "needs": [*live, *filter(None, checkpoints)]}


def _find_without_end(top: str) -> Iterator[str]:
    """Yield the folders of runs that may go on: the newest one, and older ones whose hours are not over."""
    newest = run_record.newest(top)
    if newest and not run_record.has_ended(run_record.read(newest)):
        yield newest
    for record in runs.newest_first(top, LOOKED_AT):
        hours = record.get("max_hours", USUAL_HOURS)
        is_over = hours is not None and runs.launched_at(record) + (hours + SLACK_HOURS) * 3600 < time.time()
        if record["run_dir"] != newest and not is_over and not run_record.has_ended(record):
            yield record["run_dir"]


def _read_lease() -> dict[str, Any] | None:
    try:
        status = guard_link.connect().request("status")
    except GuardGone:
        return None
    lease = status.get("lease")
    return lease if isinstance(lease, dict) else None


def measure(volume: Volume, request: dict[str, Any], live: dict[str, Any] | None) -> dict[str, Any]:
    """Return what lies on the volume, and note its size for `inv status`."""
    live_run = live["run_id"] if live else None
    scan = VolumeScan(volume.top)
    used = scan.amount("")
    now = time.time()
    note_usage(volume.absolute(USAGE_FILE), used.size_bytes, now)
    pattern = request["pattern"]
    directories = find_directories(volume, request["roots"], request["exact"], pattern)
    told = [describe_directory(volume, directory, pattern) for directory in directories]
    leftovers = [folder for folder in scan.folders() if is_leftover(volume, folder, request, directories)]
    shown = set(_shown_folders(scan, request, told, leftovers))
    return {
        "used_bytes": used.size_bytes,
        "files": used.files,
        "measured_at": now,
        "tree": {folder: list(scan.amount(folder)) for folder in sorted(shown)},
        "directories": told,
        "logs": list_logs(volume, live_run),
        "leftovers": [folder for folder in leftovers if not _is_inside_another(folder, leftovers)],
        "live": live_run,
        "is_preparing": live is not None and live_run is None,
        "unreadable": scan.unreadable,
    }


def describe_directory(volume: Volume, directory: str, pattern: str) -> dict[str, Any]:
    """Return what an output directory holds; one that cannot be listed has checkpoints nobody may delete."""
    try:
        checkpoints = list_checkpoints(volume, directory, pattern)
    except (OSError, ValueError):
        checkpoints = []
    archives = [
        {"path": path, "is_complete": has_complete(volume, path, pattern), "in_use": volume.is_in_use(path)}
        for path in list_archives(volume, directory)
    ]
    return {
        "path": directory,
        "checkpoints": [checkpoint._asdict() for checkpoint in checkpoints],
        "is_complete": has_complete(volume, directory, pattern),
        "archives": archives,
    }


def note_usage(path: str, used_bytes: int, measured_at: float) -> None:
    """Write the volume's use down for `status.py`; a full volume that does not take it is told by its own number."""
    partial = f"{path}.{os.getpid()}"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(partial, "w", encoding="utf-8") as file:
            json.dump({"used_bytes": used_bytes, "measured_at": measured_at}, file)
        os.replace(partial, path)
    except OSError as error:
        print(f"{path} could not be written: {error}", file=sys.stderr)
        with contextlib.suppress(OSError):
            os.unlink(partial)


def _shown_folders(
    scan: VolumeScan, request: dict[str, Any], told: list[dict[str, Any]], leftovers: list[str]
) -> Iterator[str]:
    """Yield the folders whose sizes the client shows or may delete."""
    parents = {"", ".cache", request.get("hf_home"), *(directory["path"] for directory in told)}
    for directory in told:
        yield directory["path"]
        yield from (checkpoint["path"] for checkpoint in directory["checkpoints"])
        yield from (archive["path"] for archive in directory["archives"])
    yield from leftovers
    yield from (folder for folder in scan.folders() if os.path.dirname(folder) in parents)


def _is_inside_another(folder: str, others: list[str]) -> bool:
    return any(folder != other and folder.startswith(other + os.sep) for other in others)


if __name__ == "__main__":
    sys.exit(answer.run(main))
