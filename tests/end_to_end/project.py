"""A training repository on the local cloud, and what a test asks of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
PIPELINE = Path(__file__).with_name("pipeline.py")
CONFIG = "output_dir: checkpoints/run\nlogging_dir: logs/run\nsteps: 8\nsave_steps: 2\n"
SETTINGS = {"requirements": "null", "max_usd_per_hour": "0.8"}
# Bounds failure only; a loaded machine may take its time.
TIMEOUT_S = 120

Reading = TypeVar("Reading")


@dataclass
class Done:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str


@dataclass
class TrainingProject:
    """One repository with tasks.py, invoke.yaml, a configuration and a training script."""

    path: Path
    cloud: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls, path: Path) -> TrainingProject:
        project = cls(path)
        for folder in ("scripts", "configs", ".home"):
            (path / folder).mkdir(parents=True)
        (path / "tasks.py").write_text("from podtasks import ns\n\n__all__ = ['ns']\n")
        (path / "scripts/train.py").write_text(PIPELINE.read_text())
        (path / "configs/run.yaml").write_text(CONFIG)
        (path / ".gitignore").write_text(".podtasks/\n.runpod.env\n.home/\n__pycache__/\n")
        project.set()
        project.git("init", "-q", "-b", "main")
        project.commit("first")
        return project

    def set(self, **settings: str) -> None:
        """Write invoke.yaml with these settings, as YAML texts, over the tests' own."""
        lines = (f"  {key}: {value}" for key, value in {**SETTINGS, **settings}.items())
        (self.path / "invoke.yaml").write_text("podtasks:\n" + "\n".join(lines) + "\n")

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
        command = ["git", *identity, *words]
        done = subprocess.run(command, cwd=self.path, env=self.environment(), check=True, capture_output=True)
        return done.stdout.decode().strip()

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def environment(self, **extra: str) -> dict[str, str]:
        ours = ("RUNPOD", "PODTASKS", "GIT_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**kept, "HOME": str(self.path / ".home"), "PYTHONPATH": str(ROOT), **extra}

    def inv(self, *words: str, timeout_s: float = TIMEOUT_S, **extra: str) -> Done:
        """Run `inv` to its end."""
        done = subprocess.run(
            self._words(words),
            cwd=self.path,
            env=self.environment(**extra),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start `inv` and let it run; its output goes to files in the project's home."""
        with open(self.path / ".home/out", "wb") as out, open(self.path / ".home/err", "wb") as err:
            return subprocess.Popen(
                self._words(words),
                cwd=self.path,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    def start_cloud(self, *words: str) -> None:
        """Start the local cloud with these options and wait until it answers."""
        state = self.path / ".podtasks/cloud"
        state.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "podtasks.emulator", "--state", str(state), *words]
        with open(state / "emulator.log", "wb") as log:
            self.cloud = subprocess.Popen(command, env=self.environment(), stdout=log, stderr=log)
        self.wait_for(lambda: self.ask("status"), "the local cloud to answer")

    def said(self) -> str:
        """Return what the command that `start` began has printed so far."""
        return (self.path / ".home/out").read_text() + (self.path / ".home/err").read_text()

    def train(self, *words: str) -> Done:
        return self.inv("train", "--config", "configs/run.yaml", *words)

    def server(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.path / ".podtasks/cloud/server.json").read_text())
        return told

    def ask(self, route: str, body: object = None) -> Any:  # noqa: ANN401
        """Call a control route of the project's local cloud."""
        server = self.server()
        request = urllib.request.Request(
            f"{server['url']}/_cloud/{route}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {server['key']}", "Content-Type": "application/json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")

    def graphql(self, query: str) -> dict[str, Any]:
        server = self.server()
        request = urllib.request.Request(
            f"{server['url']}/graphql",
            data=json.dumps({"query": query}).encode(),
            headers={"Authorization": f"Bearer {server['key']}", "Content-Type": "application/json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            data: dict[str, Any] = json.loads(answer.read())["data"]
            return data

    def pods(self) -> list[dict[str, Any]]:
        """Return all pods of the account, as the API lists them."""
        answer = self.graphql("{ myself { pods { id desiredStatus costPerHr } } }")
        pods: list[dict[str, Any]] = answer["myself"]["pods"]
        return pods

    def running_pods(self) -> list[str]:
        return [pod["id"] for pod in self.pods() if pod["desiredStatus"] == "RUNNING"]

    def is_idle(self) -> bool:
        """Return whether no pod is billed and none of their processes is left."""
        return not self.running_pods() and not any(
            self.ask(f"pods/{pod['id']}")["process_id"] for pod in self.pods()
        )

    @property
    def volume(self) -> Path:
        return self.path / ".podtasks/cloud/volumes" / str(self.server()["volume_id"])

    @property
    def output(self) -> Path:
        """The output directory of configs/run.yaml, as it lies on the volume."""
        return self.volume / "checkpoints/run"

    @property
    def log(self) -> str:
        path = self.volume / "logs/current.log"
        return path.read_bytes().decode(errors="replace") if path.exists() else ""

    def hold_at(self, step: int) -> None:
        """Make the training wait after this step; starts the local cloud for its volume."""
        if not (self.path / ".podtasks/cloud/server.json").exists():
            self.start_cloud()
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / f"hold-{step}").touch()

    def release(self) -> None:
        for path in self.output.glob("hold-*"):
            path.unlink()

    def wait_for(
        self, read: Callable[[], Reading], what: str, timeout_s: float = TIMEOUT_S, pause_s: float = 0.02
    ) -> Reading:
        """Read until something true comes, and return it."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                reading = read()
                if reading:
                    return reading
            time.sleep(pause_s)
        raise AssertionError(f"waited {timeout_s} s for {what}; the log:\n{self.log}\nthe command:\n{self.said()}")

    def wait_for_step(self, step: int) -> None:
        self.wait_for(lambda: re.search(rf"^step {step} ", self.log, re.MULTILINE), f"step {step}")

    def weights(self) -> bytes:
        return (self.output / "final_model/model.safetensors").read_bytes()

    def pod_pid(self, pod_id: str) -> int:
        """Return the host's process id of a pod's process 1."""
        command = self.ask(f"pods/{pod_id}")["process_id"]
        return next(pid for pid in descendants(command) if "bwrap" not in command_line(pid).split(" ")[0])

    def pod_processes(self, words: str) -> list[int]:
        """Return the host's process ids of this project's pods' processes whose command line holds `words`."""
        found = []
        for pod in self.pods():
            root_pid = self.ask(f"pods/{pod['id']}").get("process_id")
            found += [pid for pid in descendants(root_pid) if words in command_line(pid)] if root_pid else []
        return found

    def end(self) -> None:
        """End everything the test started."""
        server = self.path / ".podtasks/cloud/server.json"
        with contextlib.suppress(OSError):
            self.ask("shutdown", {"pods": "stop"})
            self.wait_for(lambda: not server.exists(), "the local cloud to end")
        if server.exists():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.server()["pid"], signal.SIGKILL)
        if self.cloud is not None:
            self.cloud.wait(timeout=TIMEOUT_S)

    def _words(self, words: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "invoke", *words]


def descendants(root_pid: int) -> list[int]:
    """Return the ids of a process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    found, queue = [], [root_pid]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
