"""Processes that may outlive us: who they are, when they end."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc/self/stat")
_POLL_S = 0.1


@dataclass(frozen=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with the same number.

    Args:
        pid: its number on this machine.
        started: its start time in the kernel's clock ticks since boot.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity | None:
        """Return the identity of a running process, or None when there is none (zombies count as gone)."""
        started = _start_ticks(pid)
        return None if started is None else cls(pid, started)

    def is_alive(self) -> bool:
        """Say whether this very process still runs."""
        return _start_ticks(self.pid) == self.started

    def send(self, number: int) -> None:
        """Send a signal, unless the process is gone."""
        if self.is_alive():
            with _GoneIsFine():
                os.kill(self.pid, number)

    def catches(self, number: int) -> bool:
        """Say whether the process has a handler for a signal (process 1 ignores the rest).

        Without /proc nobody can tell, and the answer is yes.
        """
        if not _PROC.exists():
            return True
        mask = _status_field(self.pid, "SigCgt")
        return mask is not None and bool(int(mask, 16) >> (number - 1) & 1)

    async def gone(self) -> None:
        """Wait until the process has ended, without polling where the system can tell (Linux)."""
        if not hasattr(os, "pidfd_open"):
            while self.is_alive():
                await asyncio.sleep(_POLL_S)
            return
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.is_alive():
                await _readable(descriptor)
        finally:
            os.close(descriptor)


class _GoneIsFine:
    """Swallows the error of signalling a process that has just ended."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> bool:
        return kind is not None and issubclass(kind, ProcessLookupError)


async def end_process(process: ProcessIdentity, grace_s: float) -> None:
    """End a process as a container runtime does: SIGTERM, SIGKILL after the grace time, wait.

    A process 1 without a handler cannot receive SIGTERM at all, so its grace time is not waited for.

    Args:
        process: process 1 of a container.
        grace_s: seconds between the two signals.
    """
    if grace_s > 0 and process.catches(signal.SIGTERM):
        process.send(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.gone(), grace_s)
            return
        except asyncio.TimeoutError:
            pass
    process.send(signal.SIGKILL)
    await process.gone()


def processes_with(words: bytes) -> list[ProcessIdentity]:
    """Return the running processes whose command line has some bytes in it; words are parted by NUL (Linux)."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if words in (folder / "cmdline").read_bytes():
                found.append(ProcessIdentity.of(int(folder.name)))
    return [process for process in found if process is not None]


def children_of(parents: Collection[ProcessIdentity]) -> list[ProcessIdentity]:
    """Return the running processes that were started by some others (Linux)."""
    numbers = {str(parent.pid) for parent in parents}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if numbers and (folder / "stat").read_text().rpartition(")")[2].split()[1] in numbers:
                found.append(ProcessIdentity.of(int(folder.name)))
    return [process for process in found if process is not None]


async def _readable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _settle, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _start_ticks(pid: int) -> int | None:
    if not _PROC.exists():
        return _start_ticks_without_proc(pid)
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])


def _start_ticks_without_proc(pid: int) -> int | None:
    psutil: Any = importlib.import_module("psutil")
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else round(process.create_time() * 100)
    except psutil.Error:
        return None


def _status_field(pid: int, name: str) -> str | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return None
    values = [line.split(":", 1)[1].strip() for line in lines if line.startswith(f"{name}:")]
    return values[0] if values else None
