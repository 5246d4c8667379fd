"""TensorBoard over a training's event files: the question to the pod, its answer, and what is said about it."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podtasks.pure.errors import UsageError
from podtasks.pure.pod_path import absolute_path, is_inside
from podtasks.pure.training_config import TrainingConfig

DEFAULT_PORT = 6006  # TensorBoard's own
HIGHEST_PORT = 65535
RUNS = "runs"  # Hugging Face's trainer logs to this folder of its output directory.


@dataclass(frozen=True)
class BoardSource:
    """Where a training's event files may be, as far as this machine knows.

    Args:
        clone: the clone's folder on the pod.
        python: the image's Python.
        config: the training configuration that says where it logs, where one is known.
        is_named: the user chose the configuration, so that the newest run does not count.
    """

    clone: str
    python: str
    config: TrainingConfig | None
    is_named: bool

    def build_request(self) -> dict[str, Any]:
        """Return the question to remote/tensorboard.py (remote/README.md)."""
        config = self.config
        return {
            "clone": self.clone,
            "python": self.python,
            "logging_dir": config.logging_dir if config else None,
            "output_dir": config.output_dir if config else None,
            "is_named": self.is_named,
        }


@dataclass(frozen=True)
class Board:
    """A TensorBoard that answers on the pod's loopback."""

    port: int
    folder: str
    has_event_files: bool
    was_running: bool


def parse_board(answer: Mapping[str, Any]) -> Board:
    """Given the answer of remote/tensorboard.py, return its value."""
    return Board(
        int(answer["port"]), str(answer["folder"]), bool(answer["has_event_files"]), bool(answer["was_running"])
    )


def describe_board(board: Board) -> list[str]:
    """Return what the user should know of the TensorBoard on the pod."""
    verb = "runs already" if board.was_running else "runs"
    lines = [f"TensorBoard {verb} on the pod in tmux session tb, reading {board.folder}"]
    if not board.has_event_files:
        lines.append(
            "no event file is there yet; they show up once the training writes them, "
            "and the same command looks elsewhere for them then"
        )
    return lines


def parse_port(text: str) -> int | None:
    """Given the flag --port, return the port, None where it was not given. Raises UsageError."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= HIGHEST_PORT):
        raise UsageError(
            f"--port {text} is no port.", next_step=f"give a number from 1 to {HIGHEST_PORT}, or leave it out"
        )
    return int(text)


def local_places(clone_name: str, mount_path: str, links: Mapping[str, str], config: TrainingConfig) -> list[str]:
    """Return where this configuration's event files may lie in a copy of the volume, likeliest first.

    Args:
        clone_name: the clone's folder on the volume.
        mount_path: where the volume is mounted on the pod.
        links: folders of the clone that live elsewhere on the volume.
        config: the training configuration.

    Returns:
        Paths relative to the volume's top.
    """
    output = config.output_dir
    named = [*([config.logging_dir] if config.logging_dir else []), posixpath.join(output, RUNS), output]
    return [place for path in named if (place := _place_on_volume(path, clone_name, mount_path, links))]


def _place_on_volume(path: str, clone_name: str, mount_path: str, links: Mapping[str, str]) -> str | None:
    clone = posixpath.join(mount_path, clone_name)
    whole = absolute_path(clone, path)
    for link, folder in links.items():
        source = absolute_path(clone, link)
        if whole == source or is_inside(whole, source):
            whole = absolute_path(mount_path, folder) + whole[len(source) :]
            break
    return posixpath.relpath(whole, mount_path) if is_inside(whole, mount_path) else None


def choose_shared(places: Sequence[str]) -> str:
    """Return the folder that holds all of these relative paths: the only one itself, else "." or what they share."""
    return posixpath.commonpath(places) or "." if places else "."
