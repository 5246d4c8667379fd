"""Real sshd and ssh-agent on loopback, for the tests of who may log in where."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

TIMEOUT_S = 20


class Agent:
    """A running `ssh-agent`; `socket` is what SSH_AUTH_SOCK must name."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "agent"
        self._process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(self.socket)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(self.socket.exists)

    def add(self, key: Path, passphrase: str = "") -> None:
        """Load a key."""
        ask = self.socket.with_name("ask")
        ask.write_text(f"#!/bin/sh\necho '{passphrase}'\n")
        ask.chmod(0o700)
        prompts = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
        environment = {**os.environ, **prompts, "SSH_AUTH_SOCK": str(self.socket)}
        subprocess.run(
            ["ssh-add", "-q", str(key)], env=environment, stdin=subprocess.DEVNULL, check=True, capture_output=True
        )

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=TIMEOUT_S)


class Sshd:
    """An `sshd` that lets one key in, as the user who runs it."""

    def __init__(self, folder: Path, public_key: Path, *, more: str = "", host_key_type: str = "ed25519") -> None:
        self.port = free_port()
        self.host_key = make_key(folder / "host_key", type=host_key_type)
        authorized = folder / "authorized_keys"
        authorized.write_text(public_key.read_text())
        config = folder / "sshd_config"
        # sshd takes the first value of each option.
        config.write_text(
            f"{more}\nLogLevel VERBOSE\n"
            f'ListenAddress 127.0.0.1:{self.port}\nHostKey "{self.host_key}"\nAuthorizedKeysFile "{authorized}"\n'
            "PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin") or "sshd"
        self.log = folder / "sshd.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([program, "-D", "-e", "-f", str(config)], stderr=log)
        self.pid = self._process.pid
        wait_until(lambda: _answers(self.port))

    def end(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(timeout=TIMEOUT_S)


def make_key(path: Path, passphrase: str = "", *, type: str = "ed25519") -> Path:
    """Make an SSH key with its public half beside it."""
    subprocess.run(["ssh-keygen", "-q", "-t", type, "-N", passphrase, "-f", str(path)], check=True)
    return path


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
