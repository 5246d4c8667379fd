#!/usr/bin/env python3
"""How much of the volume is used.

    python3 disk.py VOLUME

measures it, however long that takes, and keeps the result for others. A network volume is a folder of a large
shared file system: `statvfs` may tell of all of that, and a walk over 100,000 files there takes minutes. So
status.py looks for a moment only, and where that is not enough takes the last whole measurement and has the
next one made by this program, in the background, once an hour at most.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from typing import Any

from pod_environ import container_directory

LOOK_S = 0.4
STALE_S = 3600.0
LARGEST_VOLUME_BYTES = 10 * 1000**4  # RunPod facts, section 7: volumes have up to 4 TB, a cluster hundreds
KEPT = os.path.join(".cache", "podtasks-usage.json")


def find_usage(volume: str, look_s: float = LOOK_S) -> dict[str, Any] | None:
    """Return {"used_bytes", "total_bytes", "measured_at", "is_exact"} of the volume, None where nothing is known.

    `total_bytes` is None where the file system tells of more than this volume.
    """
    if not os.path.isdir(volume):
        return None
    total, taken = _file_system(volume)
    used = count_bytes(volume, time.monotonic() + look_s)
    if used is not None:
        keep(volume, used)
        return _usage(used, total, time.time(), True)
    kept = last_measurement(volume)
    if kept is None or time.time() - kept["measured_at"] > STALE_S:
        _measure_in_background(volume)
    if kept is not None:
        return _usage(kept["used_bytes"], total, kept["measured_at"], False)
    return None if taken is None else _usage(taken, total, time.time(), False)


def count_bytes(folder: str, deadline: float | None = None) -> int | None:
    """Return the bytes in all files below a folder, None when the deadline (monotonic) came first.

    What cannot be read, or goes away meanwhile, counts nothing.
    """
    total, folders, seen = 0, [folder], 0
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                seen += 1
                if deadline is not None and seen % 64 == 0 and time.monotonic() > deadline:
                    return None
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
    return total


def keep(volume: str, used_bytes: int) -> None:
    """Keep an exact measurement on the volume for later; a volume that refuses costs nothing else."""
    path = os.path.join(volume, KEPT)
    new = f"{path}.{os.getpid()}.new"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(new, "w", encoding="ascii") as file:
            json.dump({"used_bytes": used_bytes, "measured_at": time.time()}, file)
        os.replace(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)


def last_measurement(volume: str) -> dict[str, Any] | None:
    """Return the kept measurement, {"used_bytes", "measured_at"}, None where there is none."""
    try:
        with open(os.path.join(volume, KEPT), encoding="ascii") as file:
            kept = json.load(file)
        return {"used_bytes": int(kept["used_bytes"]), "measured_at": float(kept["measured_at"])}
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None


def _usage(used: int, total: int | None, measured_at: float, is_exact: bool) -> dict[str, Any]:
    return {"used_bytes": used, "total_bytes": total, "measured_at": measured_at, "is_exact": is_exact}


def _file_system(volume: str) -> tuple[int | None, int | None]:
    """Return size and use of the volume's file system, None and None where it holds more than the volume."""
    try:
        others = {os.stat(path).st_dev for path in ("/", "/usr", container_directory()) if os.path.exists(path)}
        if os.stat(volume).st_dev in others:
            return None, None
        found = os.statvfs(volume)
    except OSError:
        return None, None
    total = found.f_blocks * found.f_frsize
    if not 0 < total <= LARGEST_VOLUME_BYTES:
        return None, None
    return total, (found.f_blocks - found.f_bfree) * found.f_frsize


def _measure_in_background(volume: str) -> None:
    """Start this program on the volume unless it was started within the last hour."""
    started = os.path.join(container_directory(), "disk.started")
    try:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - os.stat(started).st_mtime < STALE_S:
                return
        with open(started, "w", encoding="ascii"):
            os.utime(started)
        subprocess.Popen(
            ["nice", "-n", "19", sys.executable, os.path.abspath(__file__), volume],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        print(f"the use of {volume} cannot be measured: {error}", file=sys.stderr)


def main() -> int:
    """Run the program."""
    used = count_bytes(sys.argv[1])
    assert used is not None
    keep(sys.argv[1], used)
    return 0


if __name__ == "__main__":
    sys.exit(main())
