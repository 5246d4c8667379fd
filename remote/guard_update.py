"""Give a pod that an earlier version made the guard of this one.

The guard comes with the pod's start command, which a stopped pod keeps for its life; the programs beside this
file come with each launch. Both must speak the same protocol.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
import time

import guard_link
from guard import VERSION
from guard_link import GuardGone
from pod_environ import container_directory

# guard.py last: one that is started in the middle of an update must not miss a part.
FILES = (
    "pod_environ.py",
    "stop_pod.py",
    "guard_loop.py",
    "guard_state.py",
    "end_reasons.py",
    "guard_end.py",
    "guard_limits.py",
    "guard_holds.py",
    "guard.py",
)
RESTART_TIMEOUT_S = 10.0


def update() -> bool:
    """Replace the pod's guard unless it is this version or a run holds it; return whether it was replaced."""
    kit, directory = os.path.dirname(os.path.abspath(__file__)), container_directory()
    changed = [name for name in FILES if _read(kit, name) != _read(directory, name)]
    try:
        link = guard_link.connect()
        status = link.request("status")
    except GuardGone:
        link, status = None, {"lease": None, "version": VERSION}
    # A spare that a run of an earlier version started may be the guard by now, whatever the files are.
    is_this = not changed and status.get("version") == VERSION
    if is_this or status["lease"] is not None:
        return False
    for name in changed:
        _write(directory, name, _read(kit, name))
    if link is not None:
        _restart(_guard_pid(link))
    print(f"the guard of an earlier version was replaced ({', '.join(changed) or 'a spare'})", file=sys.stderr)
    return True


def _read(directory: str, name: str) -> bytes:
    """Return what is in a file, nothing where there is none."""
    try:
        with open(os.path.join(directory, name), "rb") as file:
            return file.read()
    except OSError:
        return b""


def _write(directory: str, name: str, data: bytes) -> None:
    """Replace a file in one step."""
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, name)
    with open(f"{path}.new", "wb") as file:
        file.write(data)
    os.replace(f"{path}.new", path)


def _guard_pid(link: guard_link.GuardLink) -> int:
    """Return the process id of the guard at the other end. Linux: unix(7), SO_PEERCRED."""
    with socket.socket(fileno=os.dup(link.fileno())) as sock:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid: int = struct.unpack("3i", credentials)[0]
    return pid


def _restart(pid: int) -> None:
    """End the guard and each spare of an earlier version that takes its place; wait for one of this version.

    The state, deadlines included, is in lease.json.
    """
    deadline = time.monotonic() + RESTART_TIMEOUT_S
    ended = set()
    while time.monotonic() < deadline:
        if pid not in ended:
            ended.add(pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        try:
            link = guard_link.connect_or_start()
            pid = _guard_pid(link)
            if pid not in ended and link.request("status").get("version") == VERSION:
                return
        except (GuardGone, OSError):
            pass
        time.sleep(0.02)
