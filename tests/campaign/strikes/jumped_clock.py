"""Put on a pod as usercustomize.py: the wall clock of this Python is ahead by the seconds in a file.

What is shifted: time.time, time.time_ns, and localtime, gmtime and strftime of time where they are asked for now.
Monotonic clocks are not, as with a real jump; nor is datetime, which asks the system by itself.
"""

from __future__ import annotations

import time

OFFSET_FILE = "/tmp/clock-offset-s"
_real_time, _real_localtime, _real_gmtime, _real_strftime = time.time, time.localtime, time.gmtime, time.strftime


def offset_s() -> float:
    """Return by how much the clock is ahead now."""
    try:
        with open(OFFSET_FILE, encoding="ascii") as file:
            return float(file.read())
    except (OSError, ValueError):
        return 0.0


def jumped_time() -> float:
    """Return what time.time does on a machine whose clock has jumped."""
    return _real_time() + offset_s()


def jumped_time_ns() -> int:
    """Return the same in nanoseconds."""
    return int(jumped_time() * 1e9)


def jumped_localtime(seconds: float | None = None) -> time.struct_time:
    """Return what time.localtime does."""
    return _real_localtime(jumped_time() if seconds is None else seconds)


def jumped_gmtime(seconds: float | None = None) -> time.struct_time:
    """Return what time.gmtime does."""
    return _real_gmtime(jumped_time() if seconds is None else seconds)


def jumped_strftime(form: str, moment: time.struct_time | None = None) -> str:
    """Return what time.strftime does."""
    return _real_strftime(form, jumped_localtime() if moment is None else moment)


if __name__ == "usercustomize":
    for name in ("time", "time_ns", "localtime", "gmtime", "strftime"):
        setattr(time, name, globals()[f"jumped_{name}"])
