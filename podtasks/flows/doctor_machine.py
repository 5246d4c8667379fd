"""`inv doctor`: this machine's Python, packages, programs, disk and proxies."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from podtasks.doors import machine
from podtasks.pure.amounts import format_bytes
from podtasks.pure.doctor import Check, fine, problem, remark
from podtasks.pure.errors import CodeError, InstallationError

OLDEST_PYTHON = (3, 10)
LOW_DISK_BYTES = 1_000_000_000
# What each program is for, and whether inv train needs it.
PROGRAMS = {
    "git": ("the exact code of a run", True),
    "ssh": ("inv ssh, inv attach, and repositories reached over SSH", False),
    "rsync": ("inv sync-data and inv fetch without S3 keys", False),
}


def look(root: Path) -> Iterator[Check]:
    """Yield what was found on this machine."""
    version = machine.python_version()
    told = ".".join(map(str, version))
    if version[:2] >= OLDEST_PYTHON:
        yield fine("Python", told)
    else:
        yield problem("Python", f"{told} is too old", "install Python 3.10 or newer", InstallationError.exit_code)
    yield _look_at_packages()
    for name, (purpose, needed) in PROGRAMS.items():
        yield _look_at_program(name, purpose, needed)
    free = machine.free_bytes(root)
    if free >= LOW_DISK_BYTES:
        yield fine("disk", f"{format_bytes(free)} free here")
    else:
        yield remark("disk", f"only {format_bytes(free)} free here", "make room for logs and fetched results")
    proxies = machine.proxy_variables()
    if proxies:
        text = f"{', '.join(proxies)} set: RunPod's APIs are reached that way, SSH is not"
        yield remark("proxies", text)
    else:
        yield fine("proxies", "none set")


def _look_at_packages() -> Check:
    missing = machine.missing_packages()
    if not missing:
        return fine("packages", "all of podtasks' packages are installed")
    next_step = "install podtasks again; in its own repository, run ./inv"
    return problem("packages", f"{', '.join(missing)} missing", next_step, InstallationError.exit_code)


def _look_at_program(name: str, purpose: str, needed: bool) -> Check:
    path = machine.find_program(name)
    if path:
        return fine(name, path)
    text, next_step = f"not installed; it is for {purpose}", f"install {name} with your package manager"
    return problem(name, text, next_step, CodeError.exit_code) if needed else remark(name, text, next_step)
