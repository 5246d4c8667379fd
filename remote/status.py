#!/usr/bin/env python3
"""Tell what the pod is doing.

In: {"lines": N}. Out: {"guard": its status|null, "run": the newest run's record|null, "log_size",
"log_modified", "last_lines": the last N lines of the log}.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import answer
import guard_link
import run_record
from guard_link import GuardGone
from pod_environ import volume_directory

MOST_BYTES = 1 << 18


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    volume = volume_directory()
    log = os.path.join(volume, "logs", "current.log")
    size, modified = size_and_time(log)
    answer.give(
        {
            "guard": guard_status(),
            "run": newest_record(volume),
            "log_size": size,
            "log_modified": modified,
            "last_lines": last_lines(log, int(request.get("lines") or 0)),
        }
    )


def guard_status() -> dict[str, Any] | None:
    """Return what the guard tells, None when there is no guard."""
    try:
        return guard_link.connect().request("status")
    except GuardGone:
        return None


def newest_record(volume: str) -> dict[str, Any] | None:
    """Return the record of the run launched last, without the lease's token."""
    run_dir = run_record.newest(volume)
    if run_dir is None:
        return None
    record = {**run_record.read(run_dir), "run_dir": run_dir}
    record.pop("token", None)
    return record


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
            file.seek(max(0, os.fstat(file.fileno()).st_size - MOST_BYTES))
            data = file.read(MOST_BYTES)
    except OSError:
        return []
    lines = data.decode(errors="replace").rstrip("\n").split("\n")
    return [line.rstrip("\r").rpartition("\r")[2] for line in lines[-count:]]


if __name__ == "__main__":
    sys.exit(answer.run(main))
