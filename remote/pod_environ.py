"""The environment of the pod: process 1 has it, SSH sessions and tmux do not.

RunPod docs: variables given to a pod exist in its process 1 only (RunPod facts, section 5).
"""

from __future__ import annotations

import os


def read_pod_environ() -> dict[str, str]:
    """Return the environment the pod was started with.

    That is process 1's, or this process's own where process 1 carries no RUNPOD_POD_ID (a machine that is
    no pod). PODTASKS_ENVIRON_FILE names another file of NUL-separated `NAME=value` entries.
    """
    path = os.environ.get("PODTASKS_ENVIRON_FILE", "/proc/1/environ")
    environ = parse_environ(_read(path))
    return environ if "RUNPOD_POD_ID" in environ else dict(os.environ)


def parse_environ(data: bytes) -> dict[str, str]:
    """Return the variables in `data`, the content of a /proc/PID/environ file."""
    pairs = (entry.partition(b"=") for entry in data.split(b"\0") if b"=" in entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


def read_setting(name: str, default: str) -> str:
    """Return a setting of ours: from this process's environment, else the pod's, else `default`."""
    return os.environ.get(name) or read_pod_environ().get(name) or default


def container_directory() -> str:
    """Return our directory on the container disk, which is wiped at each start of the pod."""
    return read_setting("PODTASKS_DIR", "/opt/podtasks")


def volume_directory() -> str:
    """Return where the network volume is mounted."""
    return read_setting("PODTASKS_VOLUME", "/workspace")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
