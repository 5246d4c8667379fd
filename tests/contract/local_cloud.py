"""An emulator process, and pods on it as a client sees them."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import requests

# Bounds failure only; a loaded machine may take its time.
READY_S = 60.0
GPU = "NVIDIA GeForce RTX 4090"


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = READY_S) -> Any:  # noqa: ANN401
    """Return the condition's first true value; fail with `what` when none comes in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {timeout_s} s: {what}")


class Emulator:
    """An emulator process and its control routes."""

    def __init__(self, state: Path, *options: str) -> None:
        self.state = state
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None
        self.info: dict[str, Any] = {}

    def command(self) -> list[str]:
        return [sys.executable, "-m", "podtasks.emulator", "--state", str(self.state), *self.options]

    def start(self) -> Emulator:
        self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL)
        self.info = wait_for(self._read_info, "server.json")
        return self

    def _read_info(self) -> dict[str, Any] | None:
        assert self.process is not None and self.process.poll() is None, "the emulator ended"
        path = self.state / "server.json"
        return dict(json.loads(path.read_text())) if path.exists() else None

    def end(self) -> None:
        """End the emulator alone; its pods stay."""
        assert self.process is not None
        self.process.terminate()
        assert self.process.wait(READY_S) == 0

    def control(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401
        answer = self.call(method, f"/_cloud{path}", body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def call(
        self, method: str, path: str, body: object = None, *, key: str | None = None, timeout_s: float = 30
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.info['key'] if key is None else key}"}
        url = self.info["url"] + path
        return requests.request(method, url, json=body, headers=headers, timeout=timeout_s)

    def graphql(self, query: str, *, key: str | None = None, variables: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self.call("POST", "/graphql", {"query": query, "variables": variables}, key=key)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def turn(self, **dials: object) -> None:
        self.control("POST", "/dials", dials)

    def inside(self, pod_id: str) -> dict[str, Any]:
        return dict(self.control("GET", f"/pods/{pod_id}"))

    def shut_down(self) -> None:
        """End all pods and the emulator."""
        assert self.process is not None
        if self.process.poll() is None:
            self.control("POST", "/shutdown", {"pods": "stop"})
        assert self.process.wait(READY_S) == 0


def escaped(value: str) -> str:
    """Escape a text for the SDK, which pastes it between quotes without doing so itself."""
    return json.dumps(value)[1:-1]


def public_port(pod: dict[str, Any], private: int = 22) -> int | None:
    """Return the public number of a port as the API shows it at the moment."""
    ports = (pod["runtime"] or {}).get("ports") or []
    return next((port["publicPort"] for port in ports if port["privatePort"] == private), None)


class Pods:
    """Makes pods with the SDK and looks into them with ssh."""

    def __init__(self, emulator: Emulator, sdk: ModuleType, key: Path, folder: Path) -> None:
        self.emulator = emulator
        self.sdk = sdk
        self.key = key
        self.folder = folder
        self.numbers = itertools.count()

    def create(self, **changes: Any) -> str:  # noqa: ANN401
        """Create a pod on the network volume that lets our key in; return its id."""
        environment = {"PUBLIC_KEY": self.key.with_suffix(".pub").read_text().strip()}
        environment.update(changes.pop("env", {}))
        wish: dict[str, Any] = {
            "name": "contract",
            "image_name": "runpod/pytorch:test",
            "gpu_type_id": GPU,
            "cloud_type": "SECURE",
            "ports": "22/tcp",
            "network_volume_id": self.emulator.info["volume_id"],
            "volume_mount_path": "/workspace",
        }
        wish.update(changes)
        wish["env"] = {name: escaped(value) for name, value in environment.items()}
        return str(self.sdk.create_pod(**wish)["id"])

    def ready(self, pod_id: str) -> str:
        """Wait until sshd of a pod answers; return the pod's id."""
        wait_for(lambda: self.try_ssh(pod_id, "true").returncode == 0, f"ssh into {pod_id}")
        return pod_id

    def ready_pod(self, **changes: Any) -> str:  # noqa: ANN401
        return self.ready(self.create(**changes))

    def try_ssh(self, pod_id: str, command: str, *, port: int | None = None) -> subprocess.CompletedProcess[bytes]:
        """Run one command over a connection of its own; the exit code is 255 when there is none."""
        port = port or public_port(self.sdk.get_pod(pod_id))
        if port is None:
            return subprocess.CompletedProcess([], 255, b"", b"no port")
        words = ["ssh", "-F", "none", "-o", "KexAlgorithms=curve25519-sha256", "-i", str(self.key), "-p", str(port)]
        words += ["-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new"]
        words += ["-o", f"UserKnownHostsFile={self.folder / f'known-{next(self.numbers)}'}", "-o", "LogLevel=ERROR"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
        return subprocess.run(
            [*words, f"{self.emulator.info['ssh_user']}@127.0.0.1", command],
            capture_output=True,
            check=False,
            env=environment,
            timeout=60,
        )

    def ssh(self, pod_id: str, command: str) -> str:
        """Run a command that must succeed; return what it printed."""
        result = self.try_ssh(pod_id, command)
        assert result.returncode == 0, result.stderr.decode()
        return result.stdout.decode()

    def environment(self, pod_id: str) -> dict[str, str]:
        """Return the environment of process 1, byte for byte."""
        pairs = self.ssh(pod_id, "cat /proc/1/environ").split("\0")
        return {name: value for name, _, value in (pair.partition("=") for pair in pairs if pair)}

    def wait_until_ended(self, pod_id: str) -> None:
        """Wait until nothing of a pod runs any more."""
        wait_for(lambda: self.emulator.inside(pod_id)["process_id"] is None, f"{pod_id} has no container")
