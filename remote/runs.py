#!/usr/bin/env python3
"""Tell which runs there were.

In: {"limit": N} (null: all). Out: {"runs": the records, the newest first, "active_run_id": the run that holds
the pod|null}.
"""

from __future__ import annotations

import calendar
import contextlib
import heapq
import json
import math
import os
import re
import sys
import time
from typing import Any

import answer
import guard_link
from guard_link import GuardGone
from pod_environ import volume_directory
from sound_record import make_sound

# What a record keeps to itself: the lease's token, and what may hold the project's secrets.
PRIVATE = ("script_env", "token", "notify")
LATER_FIELDS = ("config", "launched_at", "ended_at", "exit_code", "reason", "failure")
RUN_ID_TIME = re.compile(r"-(\d{8}-\d{6})-")


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    limit = request.get("limit")
    runs = newest_first(volume_directory(), None if limit is None else int(limit))
    answer.give({"runs": runs, "active_run_id": active_run_id()})


def newest_first(volume: str, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the records of the newest runs, without their private fields, each with its `run_dir`.

    A record that cannot be read counts with what its folder tells, and `is_broken`.
    """
    folders = _folders(os.path.join(volume, "runs"))
    chosen = folders if limit is None else heapq.nlargest(max(0, limit), folders)
    records = [(launched_at(record, guess), record) for guess, record in ((g, _read(path)) for g, path in chosen)]
    return [record for _, record in sorted(records, key=lambda pair: pair[0], reverse=True)]


def public(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record without its private fields."""
    return {name: value for name, value in record.items() if name not in PRIVATE}


def active_run_id() -> str | None:
    """Return the run that holds the pod, None where none does or no guard tells."""
    try:
        lease = guard_link.connect().request("status")["lease"]
    except (GuardGone, OSError, ValueError, KeyError):
        return None
    return None if lease is None else lease.get("run_id")


def launched_at(record: dict[str, Any], otherwise: float = 0.0) -> float:
    """Return when a run was launched."""
    seconds = record.get("launched_at")
    return float(seconds) if isinstance(seconds, (int, float)) and math.isfinite(seconds) else otherwise


def _folders(runs: str) -> list[tuple[float, str]]:
    """Return each run's time, as its id has it, and its folder: no file need be opened to find the newest."""
    found = []
    with contextlib.suppress(OSError), os.scandir(runs) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.name != "saved" and entry.is_dir():
                    found.append((_time_of(entry), entry.path))
    return found


def _time_of(entry: os.DirEntry[str]) -> float:
    """Return when a run was launched: from its id, else from its record, else from its folder."""
    match = RUN_ID_TIME.search(entry.name)
    with contextlib.suppress(ValueError):
        if match:
            return float(calendar.timegm(time.strptime(match.group(1), "%Y%m%d-%H%M%S")))
    return launched_at(_read(entry.path), entry.stat().st_mtime)


def _read(run_dir: str) -> dict[str, Any]:
    """Return the public part of one record."""
    record: object = None
    path = os.path.join(run_dir, "run.json")
    with contextlib.suppress(OSError, ValueError, RecursionError), open(path, encoding="utf-8") as file:
        record = json.load(file)
    known = public(make_sound(record)) if isinstance(record, dict) else {"is_broken": True}
    return {**dict.fromkeys(LATER_FIELDS), **known, "run_id": os.path.basename(run_dir), "run_dir": run_dir}


if __name__ == "__main__":
    sys.exit(answer.run(main))
