"""What the guard keeps on the container disk, for the guard that comes after it.

`lease.json` has the lease and the deadlines, and counts for this start of the container only. `grace_began`
has the time at which the grace time began, and counts for the next starts of the container too: one that
ends and is started again and again must not get its grace time each time.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

from guard_loop import say

# A grace time that ended longer ago than this is not why the pod still runs: the clock has jumped.
STALE_S = 3600.0


def save(directory: str, state: dict[str, Any]) -> None:
    """Write the state to lease.json."""
    _replace(os.path.join(directory, "lease.json"), json.dumps({"boot": _boot_identity(), **state}))


def load(directory: str) -> dict[str, Any] | None:
    """Return the saved state, None when there is none of this start of the container."""
    try:
        with open(os.path.join(directory, "lease.json"), encoding="utf-8") as file:
            state: dict[str, Any] = json.load(file)
        return state if state["boot"] == _boot_identity() else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        say(f"lease.json is of no use: {error}")
        return None


def begin_grace(directory: str) -> None:
    """Note that the grace time begins now."""
    _replace(os.path.join(directory, "grace_began"), f"{time.time()}\n")


def continue_grace(directory: str, whole_s: float) -> float:
    """Return what is left of the grace time that an earlier start of the container began, else all of it.

    There is no monotonic clock to tell this by: a beginning in the future or long ago counts for nothing.
    """
    age_s = time.time() - _read_number(os.path.join(directory, "grace_began"))
    if 0 <= age_s <= whole_s + STALE_S:
        return max(0.0, whole_s - age_s)
    begin_grace(directory)
    return whole_s


def end_grace(directory: str) -> None:
    """Forget when the grace time began: a run was launched."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(directory, "grace_began"))


def _boot_identity() -> str:
    """Return what differs from one start of the container to the next: the machine's boot and process 1's start."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    with open("/proc/1/stat", encoding="utf-8", errors="replace") as file:
        started = file.read().rpartition(")")[2].split()[19]
    return f"{boot_id}:{started}"


def _read_number(path: str) -> float:
    """Return the number in a file, the one that is not a number where there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return float(file.read())
    except (OSError, ValueError):
        return float("nan")


def _replace(path: str, text: str) -> None:
    try:
        with open(f"{path}.new", "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(f"{path}.new", path)
    except OSError as error:
        say(f"cannot write {path}: {error}")
