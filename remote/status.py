#!/usr/bin/env python3
"""Tell what the pod is doing.

In: {"lines": N}. Out: {"guard": its status|null, "run": the newest run's record|null, "heartbeat_age_s", "log_size",
"log_modified", "last_lines": the last N lines of the log, "gpus", "progress", "disk"} (README.md). A part that
cannot be found out is null or empty: what is asked here is never an error.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar

import answer
import disk
import gpu
import guard_link
import heartbeat
import log_tail
import progress
import run_record
import runs
from guard_link import GuardGone
from pod_environ import volume_directory

Part = TypeVar("Part")


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    volume = volume_directory()
    log = os.path.join(volume, "logs", "current.log")
    size, modified = size_and_time(log)
    record = newest_record(volume)
    query = gpu.start_query()
    answer.give(
        {
            "guard": guard_status(),
            "run": record,
            "heartbeat_age_s": optional(lambda: heartbeat_age_s(record)),
            "log_size": size,
            "log_modified": modified,
            "last_lines": last_lines(log, int(request.get("lines") or 0)),
            "progress": optional(lambda: progress.find_progress(record) if record else None),
            "disk": optional(lambda: disk.find_usage(volume)),
            "gpus": optional(lambda: gpu.read_answer(query)) or [],
        }
    )


def optional(find: Callable[[], Part]) -> Part | None:
    """Return what `find` returns; None when it fails, which is noted on standard error."""
    try:
        return find()
    except Exception:  # whatever it is, the rest of the answer must reach the user
        traceback.print_exc()
        return None


def guard_status() -> dict[str, Any] | None:
    """Return what the guard tells, None when there is no guard."""
    try:
        return guard_link.connect().request("status")
    except GuardGone:
        return None


def newest_record(volume: str) -> dict[str, Any] | None:
    """Return the public part of the record of the run launched last."""
    run_dir = run_record.newest(volume)
    if run_dir is None:
        return None
    return {"failure": None, **runs.public(run_record.read(run_dir)), "run_dir": run_dir}


def heartbeat_age_s(record: dict[str, Any] | None) -> float | None:
    """Return how long ago the last sign of life of a run without an end was; None for any other run."""
    if record is None or run_record.has_ended(record):
        return None
    return heartbeat.age_s(str(record["run_dir"]))


def size_and_time(path: str) -> tuple[int | None, float | None]:
    """Return the size of a file and when it was last written."""
    try:
        found = os.stat(path)
    except OSError:
        return None, None
    return found.st_size, found.st_mtime


def last_lines(path: str, count: int) -> list[str]:
    """Return the last lines of a file, of a progress line what it shows now; reads 256 KiB at most."""
    if count <= 0:
        return []
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - log_tail.MOST_BYTES))
            data = file.read(log_tail.MOST_BYTES)
    except OSError:
        return []
    lines = data.decode(errors="replace").rstrip("\n").split("\n")
    return [line.rstrip("\r").rpartition("\r")[2] for line in lines[-count:]]


if __name__ == "__main__":
    sys.exit(answer.run(main))
