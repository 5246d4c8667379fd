#!/usr/bin/env python3
"""Show the event files of a training: TensorBoard in the tmux session `tb`, unless it runs there already.

In: {"clone", "logging_dir", "output_dir", "is_named": the configuration was chosen by the user, "python"}. Where
it was not, the newest run's record comes first. Out: {"port": on the pod's loopback, "folder",
"has_event_files", "was_running", "run_id": whose record was used, or null} once TensorBoard answers; refused with
what it or its installer said when it does not start.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from typing import Any

import answer
import board_session
import event_files
import prepare
import run_record
from answer import Refused
from environment import EnvironmentFailure, prepare_tool
from pod_environ import container_directory, read_pod_environ, volume_directory

# Older releases of TensorBoard import pkg_resources, which setuptools 82 no longer has.
PACKAGES = ("tensorboard>=2.14", "setuptools<81")
PROBE_TIMEOUT_S = 60.0
LAST_LINES = 12


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    volume = volume_directory()
    record = None if request.get("is_named") else newest_record(volume)
    source = {**request, **record} if record else request
    folder = event_files.choose_folder(
        str(source.get("clone") or volume), volume, source.get("logging_dir"), source.get("output_dir")
    )
    with open(os.path.join(container_directory(), "tensorboard.lock"), "w") as lock:
        # The lock dies with its holder.
        fcntl.flock(lock, fcntl.LOCK_EX)
        board, was_running = ensure(folder.path, source, volume)
    answer.give(
        {
            "port": board.port,
            "folder": board.folder,
            "has_event_files": folder.has_event_files,
            "was_running": was_running,
            "run_id": record and record.get("run_id"),
        }
    )


def newest_record(volume: str) -> dict[str, Any] | None:
    """Return the record of the run launched last, None where there is none."""
    run_dir = run_record.newest(volume)
    return None if run_dir is None else run_record.read(run_dir)


def ensure(folder: str, source: dict[str, Any], volume: str) -> tuple[board_session.Board, bool]:
    """Return the TensorBoard that shows `folder`, and whether it ran before; another one is replaced."""
    if shutil.which("tmux") is None:
        prepare.install_missing()
    board = board_session.find()
    if board is not None and board.folder == folder:
        return board, True
    board_session.end()
    return board_session.start(find_python(source, volume), folder), False


def find_python(source: dict[str, Any], volume: str) -> str:
    """Return a Python that has TensorBoard: the run's, the image's, or one in a venv made for it."""
    environ = tool_environ()
    image_python = find_image_python(source, environ)
    venvs = (os.path.join(container_directory(), "venv"), volume_venv(source, volume))
    own = [os.path.join(venv, "bin", "python") for venv in venvs if venv]
    for python in (*own, image_python):
        if runs_tensorboard(python, environ):
            return python
    print("installing TensorBoard in a venv of its own", file=sys.stderr, flush=True)
    return install(image_python, volume, environ)


def volume_venv(source: dict[str, Any], volume: str) -> str | None:
    """Return where the run's venv is when it is kept on the volume (environment.py), None elsewhere."""
    if source.get("venv") != "volume" or not source.get("clone"):
        return None
    return os.path.join(volume, ".venvs", os.path.basename(os.path.abspath(source["clone"])))


def find_image_python(source: dict[str, Any], environ: dict[str, str]) -> str:
    """Return the image's Python. Raise Refused where there is none, since this program has one."""
    names = (str(source.get("python") or "python"), "python3")
    found = next(filter(None, (shutil.which(name, path=environ.get("PATH")) for name in names)), None)
    return found or sys.executable


def runs_tensorboard(python: str, environ: dict[str, str]) -> bool:
    """Say whether a Python has a TensorBoard that can be imported whole."""
    if not os.access(python, os.X_OK):
        return False
    words = ["nice", "-n", "10", python, "-m", "tensorboard.main", "--version"]
    try:
        done = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**environ, "CUDA_VISIBLE_DEVICES": ""},
            cwd="/",
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def install(image_python: str, volume: str, environ: dict[str, str]) -> str:
    """Return the Python of TensorBoard's own venv. Raise Refused with the installer's last lines."""
    lines: list[bytes] = []
    place = os.path.join(container_directory(), "tensorboard-venv")
    try:
        return prepare_tool(place, PACKAGES, image_python, volume, environ, lines.append)
    except EnvironmentFailure as failure:
        said = b"".join(lines[-LAST_LINES:]).decode(errors="replace").strip()
        raise Refused("TensorBoard could not be installed on the pod.", f"{failure}\n{said}".strip()) from None


def tool_environ() -> dict[str, str]:
    """Return the environment that installers need: the pod's own, with its package indexes and proxies.

    A PYTHONPATH leads to the training's modules, which a tool must not take for its own.
    """
    environ = {**os.environ, **read_pod_environ()}
    for name in ("PODTASKS_HOST_KEY", "RUNPOD_API_KEY", "PYTHONPATH"):
        environ.pop(name, None)
    return environ


if __name__ == "__main__":
    try:
        sys.exit(answer.run(main))
    except subprocess.TimeoutExpired as late:
        sys.exit(f"tmux does not answer: {late}")
