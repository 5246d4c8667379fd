"""A pod in temporary folders: the remote programs with real tmux, git, signals and sockets."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest

from podtasks.pure.boot import BOOT_FILES

REMOTE = Path(__file__).parents[2] / "remote"
API_KEY = "rpa_SECRET_of_this_pod"
T = TypeVar("T")
COMMIT = "3f2a1b9c0d8e7f6a5b4c3d2e1f0a9b8c7d6e5f40"


def wait_until(is_true: Callable[[], T], what: str, timeout_s: float = 60.0) -> T:
    """Return the first true value of `is_true`; fail the test when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = is_true()
        if value:
            return value
        if time.monotonic() > deadline:
            pytest.fail(f"waited {timeout_s} s for {what}")
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Say whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def as_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object in `line`."""
    value = json.loads(line)
    assert isinstance(value, dict), line
    return value


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with its group and close its pipes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()


class GuardClient:
    """A raw client of the guard's socket."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        try:
            self.sock.connect(str(path))
        except OSError:
            self.sock.close()
            raise
        self.lines = self.sock.makefile("rb")

    def ask(self, op: str, **fields: object) -> dict[str, Any]:
        """Return the reply to one request."""
        self.sock.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
        return self.read()

    def read(self) -> dict[str, Any]:
        """Return the next line."""
        return as_object(self.lines.readline())

    def close(self) -> None:
        """Close the connection."""
        self.lines.close()
        self.sock.close()


class FakePod:
    """The folders, environment and processes of one pod."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.directory = root / "pod dir"
        self.volume = root / "vol ume"
        self.clone = self.volume / "clone; $(x) 'q'"
        self.programs = root / "bin"
        self.stops = root / "stops"
        for folder in (self.directory, self.volume, self.clone, self.programs, root / "tmux"):
            folder.mkdir()
        self.kit = REMOTE
        for name in BOOT_FILES:
            shutil.copy(REMOTE / name, self.directory / name)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.clients: list[GuardClient] = []
        self.pod_environ = {
            "RUNPOD_POD_ID": "pod123",
            "RUNPOD_API_KEY": API_KEY,
            "POD_VARIABLE": "two\nlines",
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HOME": str(root),
            "RUNPOD_API_URL": "http://127.0.0.1:9/v2",
            "RUNPOD_GRAPHQL_URL": "http://127.0.0.1:9/graphql",
        }
        self.environ = {
            "PATH": self.pod_environ["PATH"],
            "HOME": str(root),
            "TMUX_TMPDIR": str(root / "tmux"),
            "PODTASKS_DIR": str(self.directory),
            "PODTASKS_VOLUME": str(self.volume),
            "PODTASKS_ENVIRON_FILE": str(root / "environ"),
            "PODTASKS_SETTLE_S": "30",
            "PODTASKS_RETURN_S": "0",
        }
        self.write_environ()
        self.add_program("runpodctl", f'echo "$*" >>{_quoted(self.stops)}')

    # Setting up

    def write_environ(self) -> None:
        """Write the environment of process 1."""
        text = "".join(f"{name}={value}\0" for name, value in self.pod_environ.items())
        (self.root / "environ").write_text(text)

    def add_program(self, name: str, script: str) -> None:
        """Put a shell script on the pod's PATH."""
        (self.programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.programs / name).chmod(0o755)

    def copy_kit(self) -> Path:
        """Use a copy of remote/ that the test may change."""
        self.kit = self.directory / "kit-0123456789ab"
        shutil.copytree(REMOTE, self.kit, ignore=shutil.ignore_patterns("__pycache__"))
        return self.kit

    def make_clone(self) -> None:
        """Make the clone a git repository with one commit."""
        git = ["git", "-C", str(self.clone), "-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
        subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)

    # Processes

    def start(self, words: list[str], **settings: str) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, to be killed with all it started at the end."""
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.environ, **settings},
            start_new_session=True,
        )
        self.processes.append(process)
        return process

    def start_guard(self, **settings: str) -> subprocess.Popen[bytes]:
        """Start the guard and wait until it answers."""
        log = (self.directory / "guard.log").open("ab")
        with log:
            guard = subprocess.Popen(
                [sys.executable, str(self.directory / "guard.py")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environ, **settings},
                start_new_session=True,
            )
        self.processes.append(guard)
        wait_until(self.answers, "the guard")
        return guard

    def answers(self) -> bool:
        """Say whether a guard answers."""
        try:
            self.client().close()
        except OSError:
            return False
        return True

    def client(self) -> GuardClient:
        """Return a new connection to the guard."""
        client = GuardClient(self.directory / "guard.sock")
        self.clients.append(client)
        return client

    def status(self) -> dict[str, Any]:
        """Return the guard's status."""
        client = self.client()
        try:
            return client.ask("status")
        finally:
            client.close()

    def start_program(self, name: str, request: dict[str, Any], **settings: str) -> subprocess.Popen[bytes]:
        """Start one of the kit's programs with its request; its standard input stays open."""
        process = self.start([sys.executable, str(self.kit / name)], **settings)
        assert process.stdin is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        return process

    def run_program(self, name: str, request: dict[str, Any], **settings: str) -> tuple[int, dict[str, Any]]:
        """Run one of the kit's programs; return its exit code and its answer."""
        process = self.start_program(name, request, **settings)
        out, err = process.communicate(timeout=60)
        sys.stderr.write(err.decode(errors="replace"))
        assert out.count(b"\n") == 1, (out, err)
        return process.returncode, as_object(out)

    def prepare(self, who: str = "a tester") -> tuple[GuardClient, str]:
        """Hold the prepare lease; return its connection and its token."""
        client = self.client()
        reply = client.ask("prepare", who=who)
        assert reply["ok"], reply
        return client, str(reply["token"])

    # Runs

    def request(self, script: str, **fields: object) -> dict[str, Any]:
        """Return a run request whose training is the given Python script."""
        path = self.clone / "train.py"
        path.write_text(script)
        return {
            "run_id": "digits-20261123-120000-3f2a1b9",
            "config": "configs/digits.yaml",
            "clone": str(self.clone),
            "commit": COMMIT,
            "branch": "main",
            "code": "local",
            "command": [sys.executable, "train.py"],
            "script_env": {},
            "output_dir": None,
            "checkpoint_pattern": "checkpoint-*",
            "checkpoint": None,
            "force_restart": False,
            "requirements": None,
            "venv": "container",
            "python": "python",
            "links": {},
            "pod": {"id": "pod123", "gpu": "NVIDIA GeForce RTX 4090", "usd_per_hour": 0.69},
            "when_done": "stop",
            "max_hours": None,
            "stop_grace_s": 30,
            "volume": str(self.volume),
            **fields,
        }

    def launch(self, script: str, **fields: object) -> dict[str, Any]:
        """Prepare and launch a training; return the launch's answer."""
        request = self.request(script, **fields)
        client, token = self.prepare()
        code, answer = self.run_program("launch.py", {**request, "token": token})
        client.close()
        assert code == 0, answer
        return answer

    def record(self, run_dir: str) -> dict[str, Any]:
        """Return a run's record."""
        return as_object((Path(run_dir) / "run.json").read_bytes())

    def wait_for_end(self, run_dir: str) -> dict[str, Any]:
        """Wait until a run has ended; return its record."""
        wait_until(lambda: self.record(run_dir)["ended_at"], "the end of the run")
        wait_until((Path(run_dir) / "output.log").exists, "the run's own log")
        return self.record(run_dir)

    def wait_for_stop(self) -> list[str]:
        """Wait until the pod was told to stop; return what runpodctl was told."""
        wait_until(lambda: self.stops.exists() and self.stops.read_bytes().endswith(b"\n"), "the pod being stopped")
        return self.stops.read_text().splitlines()

    def log(self) -> bytes:
        """Return the whole log."""
        return (self.volume / "logs" / "current.log").read_bytes()

    def wait_for_log(self, text: bytes) -> None:
        """Wait until the log has a text."""
        log = self.volume / "logs" / "current.log"
        wait_until(lambda: log.exists() and text in log.read_bytes(), f"{text!r} in the log")

    def tmux(self, *words: str) -> subprocess.CompletedProcess[bytes]:
        """Run a tmux command on this pod's own server."""
        return subprocess.run(["tmux", *words], env=self.environ, capture_output=True, check=False)

    # The end

    def close(self) -> None:
        """End everything this pod started."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.directory / "supervisor.pid").read_text()), signal.SIGKILL)
        for client in self.clients:
            client.close()
        for process in self.processes:
            end_process(process)
        self.kill_the_rest()
        self.tmux("kill-server")

    def kill_the_rest(self) -> None:
        """Kill what carries this pod's folder in its environment: trainings, spare guards, and what they start."""
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def pids(self) -> list[int]:
        """Return the live processes that carry this pod's folder in their environment."""
        mark = os.fsencode(self.root)
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
        return [pid for pid in found if is_running(pid)]


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "'\\''") + "'"
