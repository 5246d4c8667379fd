"""The tmux session `tb`, in which TensorBoard runs, and the note of what runs there.

It is no run and holds no lease: the guard knows nothing of it, so it keeps no pod alive.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import socket
import time
import urllib.error
import urllib.request
from typing import NamedTuple

import tmux
import train_session
from answer import Refused
from environment import TOOL_NICENESS
from pod_environ import container_directory

NAME = "tb"
START_TIMEOUT_S = 120.0
END_TIMEOUT_S = 5.0
PROBE_TIMEOUT_S = 5.0
PORT_TRIES = 3
LAST_LINES = 12
# The first to go when memory is short, behind the training in the queue for the CPU, and with no GPU.
SCRIPT = 'exec >"$0" 2>&1; echo 1000 2>/dev/null >/proc/self/oom_score_adj; exec "$@"'


class Board(NamedTuple):
    """A TensorBoard: its process, its port on the pod's loopback, what it reads and with what Python."""

    pid: int
    port: int
    folder: str
    python: str


def find() -> Board | None:
    """Return the TensorBoard that runs and answers, None where there is none."""
    board = _read_note()
    if board is None or not train_session.is_alive(board.pid) or not tmux.has_session(NAME):
        return None
    return board if answers(board) else None


def start(python: str, folder: str) -> Board:
    """Start TensorBoard on a folder and wait until it answers. Raise Refused with what it said if it does not."""
    for attempt in range(1, PORT_TRIES + 1):
        port = _free_port()
        pid = tmux.start_session(NAME, _command(python, folder, port))
        board = Board(pid, port, folder, python)
        _write_note(board)
        if _wait(board):
            return board
        # Another program may have taken the port meanwhile.
        said = read_log()
        if attempt == PORT_TRIES or "port" not in said.lower():
            end()
            raise Refused("TensorBoard does not start.", said or "it ended without a word")
        end()
    raise AssertionError("the last try returns or raises")


def end() -> None:
    """End the session, and its TensorBoard if that does not go by itself."""
    board = _read_note()
    tmux.end_session(NAME)
    if board is None:
        return
    deadline = time.monotonic() + END_TIMEOUT_S
    while _is_tensorboard(board.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    if _is_tensorboard(board.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(board.pid, signal.SIGKILL)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_note_path())


def answers(board: Board) -> bool:
    """Say whether this very TensorBoard answers: pods of the local cloud share their machine's ports."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{board.port}/data/environment", timeout=PROBE_TIMEOUT_S) as response:
            told = json.loads(response.read(1 << 20))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("data_location") == _printable(board.folder)


def read_log() -> str:
    """Return the last lines that TensorBoard wrote."""
    try:
        with open(_log_path(), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-LAST_LINES:])


def _wait(board: Board) -> bool:
    """Wait until TensorBoard answers; say whether it does before it ends or the time is over."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if answers(board):
            return True
        if not train_session.is_alive(board.pid):
            return False
        time.sleep(0.05)
    return False


def _command(python: str, folder: str, port: int) -> list[str]:
    """Return the command of TensorBoard: plain (`--load_fast` needs a newer C library), on loopback only."""
    options = [f"--logdir={folder}", "--host=127.0.0.1", f"--port={port}", "--load_fast=false"]
    words = ["nice", "-n", str(TOOL_NICENESS), python, "-m", "tensorboard.main", *options]
    return ["env", "-i", *_environ(), "sh", "-c", SCRIPT, _log_path(), *words]


def _environ() -> list[str]:
    """Return TensorBoard's environment as `NAME=value` words: nothing secret, no GPU, no proxy for its own calls."""
    values = {
        "PATH": os.environ.get("PATH") or os.defpath,
        "HOME": os.environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir,
        "LANG": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PODTASKS_DIR": container_directory(),
    }
    return [f"{name}={value}" for name, value in values.items()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_tensorboard(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"tensorboard" in file.read() and train_session.is_alive(pid)
    except OSError:
        return False


def _printable(folder: str) -> str:
    """Return a folder as it comes back through JSON: bytes that are no UTF-8 are surrogates here and there."""
    return str(json.loads(json.dumps(folder)))


def _note_path() -> str:
    return os.path.join(container_directory(), "tensorboard.json")


def _log_path() -> str:
    return os.path.join(container_directory(), "tensorboard.log")


def _read_note() -> Board | None:
    try:
        with open(_note_path(), encoding="utf-8") as file:
            told = json.load(file)
        return Board(int(told["pid"]), int(told["port"]), str(told["folder"]), str(told["python"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write_note(board: Board) -> None:
    new = f"{_note_path()}.new"
    with open(new, "w", encoding="utf-8") as file:
        json.dump(board._asdict(), file)
    os.replace(new, _note_path())
