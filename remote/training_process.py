"""One program of a run, the installation or the training, in a session of its own: run, watched, ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable

import run_record
from end_request import EndRequest
from pod_environ import read_setting
from stall import Stall
from supervisor_link import SupervisorLink


class TrainingProcess:
    """A program whose output is the log itself, so that who watches it may die without a line being lost."""

    def __init__(self, log: str, link: SupervisorLink, end: EndRequest, wakeup: int, stall: Stall) -> None:
        self._log = log
        self._link = link
        self._end = end
        self._wakeup = wakeup
        self._stall = stall
        self._pgid = 0

    def run(self, command: list[str], environ: dict[str, str], directory: str) -> int:
        """Run a program to its end, sooner when it is asked for; return its exit code."""
        log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            run_record.append(self._log, os.fsencode(f"podtasks: cannot start {command}: {error}\n"))
            return 126 if isinstance(error, PermissionError) else 127
        finally:
            os.close(log)
        self._pgid = process.pid
        prefer_when_memory_ends(process.pid)
        self._link.tell_group(process.pid)
        self._stall.begin()
        try:
            return self._watch(process)
        finally:
            run_record.kill_group(process.pid)

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        """Wait until the program has ended and return its exit code, 128 + signal when one killed it."""
        if self._end.reason is not None:
            send(os.killpg, self._pgid, signal.SIGTERM)
        while process.poll() is None:
            self._wait_for_news(self._stall.next_check_at())
            if self._stall.ends_run(self._end):
                self._begin_end()
            self._kill_if_due()
        self._let_group_end()
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def _let_group_end(self) -> None:
        """Give what the program left behind a moment to end by itself: the rest of an asked end's time."""
        if self._end.kill_at is None:
            for pid in run_record.group_members(self._pgid):
                send(os.kill, pid, signal.SIGTERM)
            self._end.kill_at = time.monotonic() + leftover_grace_s()
        while run_record.group_members(self._pgid) and time.monotonic() < self._end.kill_at:
            self._wait_for_news(time.monotonic() + 0.02)
        if self._end.reason is None:
            self._end.kill_at = None

    def _wait_for_news(self, until: float | None) -> None:
        """Wait for a signal, for the guard or for a deadline, but not beyond `until` (monotonic); act on it."""
        sources = [self._wakeup, *self._link.descriptors()]
        ready, _, _ = select.select(sources, [], [], self._time_left_s(until))
        is_new = self._wakeup in ready and self._end.heed_signals(self._wakeup)
        if any([self._end.ask(reason) for reason in self._link.end_reasons()]) or is_new:
            self._begin_end()
        self._link.look_if_due()

    def _begin_end(self) -> None:
        """Have what runs end, and the guard know why."""
        send(os.killpg, self._pgid, signal.SIGTERM)
        self._link.tell_ending(str(self._end.reason))

    def _kill_if_due(self) -> None:
        """Kill what was asked to end and has not, each second again."""
        if self._end.kill_at is not None and time.monotonic() >= self._end.kill_at:
            send(os.killpg, self._pgid, signal.SIGKILL)
            self._end.kill_at = time.monotonic() + 1.0

    def _time_left_s(self, until: float | None) -> float | None:
        """Return the seconds to the next deadline, None when there is none."""
        times = [until, self._end.kill_at, self._link.next_try_at()]
        return min((max(0.0, at - time.monotonic()) for at in times if at is not None), default=None)


def prefer_when_memory_ends(pid: int) -> None:
    """Have the kernel kill the training rather than what watches it. Linux: proc_pid_oom_score_adj(5)."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
        file.write("500")


def send(kill: Callable[[int, int], None], pid: int, number: int) -> None:
    """Send a signal to a process or, with os.killpg, to a group, if there still is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        kill(pid, number)


def leftover_grace_s() -> float:
    """Return how long what a training leaves running may take to end."""
    return float(read_setting("PODTASKS_LEFTOVER_GRACE_S", "2"))
