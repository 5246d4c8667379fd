"""TensorBoard on this machine, in a venv of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from podtasks.doors.local_port import LOOPBACK
from podtasks.pure.errors import InstallationError

# Older releases of TensorBoard import pkg_resources, which setuptools 82 no longer has.
PACKAGES = ("tensorboard>=2.14", "setuptools<81")
MARK = "tfevents"  # TensorBoard's own test of a file's name
STAMP = "podtasks-stamp"
LAST_LINES = 12
END_TIMEOUT_S = 10
# Its standard input is a pipe from us: TensorBoard ends with us, however we end.
PROGRAM = """
import os, runpy, sys, threading
threading.Thread(target=lambda: (sys.stdin.buffer.read(), os._exit(0)), daemon=True).start()
runpy.run_module("tensorboard.main", run_name="__main__", alter_sys=True)
"""


def has_event_files(folder: Path) -> bool:
    """Return whether an event file lies in a folder or below."""
    return any(MARK in name for _, _, names in os.walk(folder) for name in names)


def ensure_venv(place: Path) -> Path:
    """Return the Python of a venv that has TensorBoard, making it with uv unless it is there.

    Raises InstallationError with uv's last lines.
    """
    python = place / "bin" / "python"
    stamp = place / STAMP
    wanted = "\n".join(PACKAGES)
    with contextlib.suppress(OSError):
        if stamp.read_text() == wanted and os.access(python, os.X_OK):
            return python
    _run_uv("venv", "--quiet", "--no-project", "--clear", "--python", sys.executable, str(place))
    _run_uv("pip", "install", "--quiet", "--python", str(python), *PACKAGES)
    stamp.write_text(wanted)
    return python


@contextlib.contextmanager
def running(python: Path, folder: Path, port: int, log_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run TensorBoard on a folder for the time of a `with`, on the loopback's port; what it says goes to a file."""
    options = [f"--logdir={folder}", f"--host={LOOPBACK}", f"--port={port}", "--load_fast=false"]
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            [str(python), "-c", PROGRAM, *options],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=environ,
            cwd=folder,
            # Ctrl+C is ours to hear; the pipe tells TensorBoard.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin is not None
        process.stdin.close()


def last_lines(log_path: Path) -> str:
    """Return the end of what TensorBoard said."""
    return "\n".join(log_path.read_text(errors="replace").strip().splitlines()[-LAST_LINES:])


def _run_uv(*words: str) -> None:
    command = [sys.executable, "-m", "uv", *words]
    environ = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environ, check=False)
    if done.returncode != 0:
        said = "\n".join(done.stderr.decode(errors="replace").strip().splitlines()[-LAST_LINES:])
        raise InstallationError(
            f"TensorBoard could not be installed on this machine: uv {words[0]} ended with exit code "
            f"{done.returncode}:\n{said or '(it wrote nothing)'}",
            means="Nothing on the pod or the volume was touched.",
            next_step="see that this machine reaches the package index, then run the same command again",
        )
