"""Runs `inv` in real processes without paying for its imports each time.

The server imports what podtasks imports and forks for each command. The child is a process like any other: its
own session, its own output files, signals as a fresh Python has them; it then runs the module `invoke`, as
`python -m invoke` does. What an import does not do twice is the only difference, and podtasks.tasks, whose import
checks the settings, is left to the child.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTED = ("podtasks.pure", "podtasks.doors", "podtasks.flows")
START_TIMEOUT_S = 60.0


class Command:
    """An `inv` command: its words, its process id, what it prints and how it ended.

    Args:
        words: what stands after `inv`.
        folder: is made, and takes its output, in the files `out` and `err`.
        began: epoch seconds.
    """

    def __init__(self, words: Sequence[str], folder: Path, began: float) -> None:
        self.words = tuple(words)
        self.out, self.err = folder / "out", folder / "err"
        folder.mkdir(parents=True)
        for path in (self.out, self.err):
            path.touch()
        self.began = began
        self.ended: float | None = None
        self.pid = 0
        self.returncode: int | None = None
        self.is_excused = False
        self._has_ended = threading.Event()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Return the exit code once there is one; raises TimeoutError."""
        if not self._has_ended.wait(timeout):
            raise TimeoutError(f"{' '.join(self.words)} has not ended within {timeout} s")
        assert self.returncode is not None
        return self.returncode

    def end(self, returncode: int) -> None:
        """Note that it has ended."""
        self.ended, self.returncode = time.time(), returncode
        self._has_ended.set()

    def stdout(self) -> bytes:
        """Return what it has printed on standard output so far."""
        return self.out.read_bytes()

    def stderr(self) -> bytes:
        """Return the same of standard error."""
        return self.err.read_bytes()


class CommandServer:
    """Starts commands of the podtasks that lies under `code`."""

    def __init__(self, code: Path, environment: Mapping[str, str]) -> None:
        # This file by its path: the code's folder must not become the place where tests are imported from.
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(code)],
            env={**environment, "PYTHONPATH": str(code)},
            cwd=code,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._lock = threading.Lock()
        self._starting: Command | None = None
        self._started = threading.Event()
        self._running: dict[int, Command] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, words: Sequence[str], folder: Path, cwd: Path, environment: Mapping[str, str]) -> Command:
        """Start a command and return it as soon as it has a process."""
        with self._lock:
            command = self._starting = Command(words, folder, time.time())
            self._started.clear()
            order = {
                "words": list(words),
                "out": str(command.out),
                "err": str(command.err),
                "cwd": str(cwd),
                "environment": dict(environment),
            }
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
            if not self._started.wait(START_TIMEOUT_S):
                raise TimeoutError("the command server does not answer")
        return command

    def close(self) -> None:
        """End the server; commands still running are killed."""
        for pid in list(self._running):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(START_TIMEOUT_S)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._take(json.loads(line))

    def _take(self, told: Mapping[str, int]) -> None:
        pid = told["pid"]
        if "status" in told:
            self._running.pop(pid).end(os.waitstatus_to_exitcode(told["status"]))
            return
        assert self._starting is not None
        self._starting.pid = pid
        self._running[pid] = self._starting
        self._started.set()


class _Server:
    """The server's side: reads orders, forks, tells of ends. Never more than one thread, so that forks are whole."""

    def __init__(self) -> None:
        self._orders = b""
        self._children: set[int] = set()
        self._wake, self._wake_end = os.pipe()
        os.set_blocking(self._wake_end, False)
        signal.set_wakeup_fd(self._wake_end)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def serve(self) -> dict[str, Any] | None:
        """Serve until standard input closes; in a child, return its order."""
        while True:
            readable, _, _ = select.select([0, self._wake], [], [])
            if self._wake in readable:
                os.read(self._wake, 4096)
                self._reap()
            if 0 in readable:
                data = os.read(0, 1 << 20)
                if not data:
                    return None
                *lines, self._orders = (self._orders + data).split(b"\n")
                for line in lines:
                    if self._fork():
                        return dict(json.loads(line))

    def _fork(self) -> bool:
        pid = os.fork()
        if pid:
            self._children.add(pid)
            _tell(pid=pid)
            return False
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.close(self._wake)
        os.close(self._wake_end)
        return True

    def _reap(self) -> None:
        for pid in list(self._children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                self._children.remove(pid)
                _tell(pid=pid, status=status)


def _tell(**fields: int) -> None:
    os.write(1, json.dumps(fields).encode() + b"\n")


def become(order: Mapping[str, Any]) -> None:
    """Turn this process into the ordered command, up to what Python itself would have done by now."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for number, source in enumerate(
        (os.open(os.devnull, os.O_RDONLY), os.open(order["out"], flags, 0o600), os.open(order["err"], flags, 0o600))
    ):
        os.dup2(source, number)
        os.close(source)
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    sys.path[0] = order["cwd"]
    sys.argv = ["invoke", *order["words"]]
    sys.stdin = open(0, closefd=False)  # noqa: SIM115


def import_all() -> None:
    """Import what `inv train` would."""
    for package in IMPORTED:
        path = importlib.import_module(package).__path__
        for module in pkgutil.iter_modules(path, f"{package}."):
            importlib.import_module(module.name)
    for name in ("fabric", "boto3", "rich", "invoke.main"):
        importlib.import_module(name)
    importlib.import_module("podtasks.doors.runpod_sdk")._import_sdk()
    assert "podtasks.tasks" not in sys.modules and threading.active_count() == 1


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import_all()
    taken = _Server().serve()
    if taken is not None:
        become(taken)
        runpy.run_module("invoke", run_name="__main__", alter_sys=True)
