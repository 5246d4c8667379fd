"""The tmux session `train`, in which the supervisor runs."""

from __future__ import annotations

import contextlib
import os
import pwd
import sys

import tmux
from answer import Refused
from pod_environ import container_directory, read_pod_environ, volume_directory

NAME = "train"


def require_none() -> None:
    """Raise Refused if a supervisor lives; remove a session that lingers without one."""
    pid = supervisor_pid()
    if pid is not None:
        raise Refused("A run is still active on the pod.", f"its supervisor is process {pid}")
    if tmux.has_session(NAME):
        print(f"removing the tmux session {NAME}, which has no supervisor any more", file=sys.stderr)
        end()


def start(run_dir: str, errors: str) -> int:
    """Start the supervisor of `run_dir` in the detached session; return its process id.

    It gets only the environment it needs, whatever the tmux server was started with, and its standard error
    goes to the file `errors`. Raise Refused with what tmux said when it fails.
    """
    return tmux.start_session(NAME, _supervisor_words(run_dir, errors))


def _supervisor_words(run_dir: str, errors: str) -> list[str]:
    """Return the command of the supervisor, whose standard error goes to the file `errors`."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "supervise.py")
    supervisor = [sys.executable, program, run_dir]
    return ["env", "-i", *_supervisor_environ(), "sh", "-c", 'exec "$@" 2>>"$0"', errors, *supervisor]


def end() -> None:
    """End the session; a supervisor in it gets SIGHUP."""
    tmux.end_session(NAME)


def is_alive(pid: int) -> bool:
    """Say whether a process lives."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def supervisor_pid() -> int | None:
    """Return the process id of the supervisor that lives on this pod, None when there is none."""
    try:
        with open(os.path.join(container_directory(), "supervisor.pid"), encoding="ascii") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return pid if b"supervise.py" in file.read() and is_alive(pid) else None
    except (OSError, ValueError):
        return None


def errors_path() -> str:
    """Return the file that takes the supervisor's standard error: on the container disk, never full with logs."""
    return os.path.join(container_directory(), "supervisor.log")


def forget_errors(path: str) -> None:
    """Remove what earlier supervisors said."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def read_errors(path: str) -> str:
    """Return the last of what the supervisor said."""
    try:
        with open(path, "rb") as file:
            return file.read()[-4000:].decode(errors="replace").strip()
    except OSError:
        return ""


def _supervisor_environ() -> list[str]:
    """Return the supervisor's environment as `NAME=value` words; nothing secret, since others can read them."""
    pod = read_pod_environ()
    needed = {
        "PATH": os.environ.get("PATH") or pod.get("PATH") or os.defpath,
        "HOME": os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir,
        "LANG": "C.UTF-8",
        "PODTASKS_DIR": container_directory(),
        "PODTASKS_VOLUME": volume_directory(),
    }
    passed_on = (
        "PODTASKS_ENVIRON_FILE",
        "PODTASKS_HEARTBEAT_S",
        "PODTASKS_LEFTOVER_GRACE_S",
        "PODTASKS_PLATFORM_GRACE_S",
        "PODTASKS_RECONNECT_S",
        "PODTASKS_SETTLE_S",
        "PODTASKS_STALL_CHECK_S",
        "PODTASKS_STALL_QUERY_S",
    )
    needed.update({name: os.environ[name] for name in passed_on if name in os.environ})
    return [f"{name}={value}" for name, value in needed.items()]
