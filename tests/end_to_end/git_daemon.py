"""A git server on loopback, as the origin that pods clone from."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

TIMEOUT_S = 60


class GitDaemon:
    """`git daemon` over one bare repository.

    Args:
        folder: where `origin.git` is made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> GitDaemon:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=TIMEOUT_S)

    def serve(self, source: Path) -> str:
        """Clone `source` to the bare repository, serve it, and return its URL."""
        origin = self.folder / "origin.git"
        subprocess.run(["git", "clone", "-q", "--bare", str(source), str(origin)], check=True)
        command = ["git", "daemon", "--listen=127.0.0.1", f"--port={self._port}", "--export-all", "--reuseaddr"]
        self._process = subprocess.Popen([*command, f"--base-path={self.folder}"])
        wait_for_port(self._port)
        return f"git://127.0.0.1:{self._port}/origin.git"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_port(port: int) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
