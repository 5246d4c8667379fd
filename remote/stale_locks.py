"""What a git that was killed leaves in the clone: locks and half-written packs."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Iterator

from answer import Refused
from pod_clone import Clone, say

# How long a git that an earlier, broken-off sync left running may take to finish.
GIT_WAIT_S = 60


def remove_stale_locks(clone: Clone) -> None:
    """Remove lock files and half-written packs of git processes that are gone.

    Raises:
        Refused: a git process is at work in the clone, and still is after a minute.
    """
    if not any(_leftovers(clone.git_dir)):
        return
    process = _wait_for_live_git(clone.path)
    if process:
        raise Refused(
            f"git (process {process[0]}: {process[1]}) is at work in {clone.path} on the pod. "
            "Wait for it or end it, then run this again."
        )
    for path in list(_leftovers(clone.git_dir)):
        say(f"removing {path}, left by a git that is gone")
        os.unlink(path)


def _leftovers(git_dir: str) -> Iterator[str]:
    for folder in (git_dir, os.path.join(git_dir, "refs")):
        for directory, folders, names in os.walk(folder):
            if folder == git_dir:
                folders[:] = []
            yield from (os.path.join(directory, name) for name in names if name.endswith(".lock"))
    for directory, _, names in os.walk(os.path.join(git_dir, "objects", "pack")):
        yield from (os.path.join(directory, name) for name in names if name.startswith("tmp_"))


def _wait_for_live_git(path: str) -> tuple[str, str] | None:
    """Return the git process that is still at work in `path` after the waiting time, or None."""
    deadline = time.monotonic() + float(os.environ.get("PODTASKS_GIT_WAIT_S", GIT_WAIT_S))
    process = _live_git(path)
    if process:
        say(f"waiting for git (process {process[0]}) to finish in {path}")
    while process and time.monotonic() < deadline:
        time.sleep(0.1)
        process = _live_git(path)
    return process


def _live_git(path: str) -> tuple[str, str] | None:
    """Return (process id, command line) of a git process whose directory or git directory is in `path`."""
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit() and int(name) != os.getpid() and _works_in(name, path):
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
                return name, os.fsdecode(file.read().replace(b"\0", b" ")).strip()
    return None


def _works_in(process: str, path: str) -> bool:
    folder = f"/proc/{process}/"
    try:
        if not os.path.basename(os.readlink(folder + "exe")).startswith("git"):
            return False
        places = [os.readlink(folder + "cwd")]
        places += [os.readlink(folder + "fd/" + number) for number in os.listdir(folder + "fd")]
    except OSError:
        return False
    return any(place == path or place.startswith(path + os.sep) for place in places)
