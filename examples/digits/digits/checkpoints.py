"""Checkpoints as Hugging Face's Trainer lays them out: one directory per saved step."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from digits.network import Weights


@dataclass(frozen=True)
class Checkpoint:
    """All of a run's state after some step."""

    weights: Weights
    optimizer: dict[str, np.ndarray]
    rng_state: dict[str, Any]
    trainer_state: dict[str, Any]


def save_checkpoint(output_dir: Path, checkpoint: Checkpoint) -> Path:
    """Write `checkpoint-<step>`; it appears under that name only once every byte of it is on the disk."""
    step = checkpoint.trainer_state["global_step"]
    final = output_dir / f"checkpoint-{step}"
    temporary = output_dir / f"tmp-checkpoint-{step}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_file(checkpoint.weights, temporary / "model.safetensors")
    np.savez(temporary / "optimizer.npz", **checkpoint.optimizer)  # type: ignore[arg-type]
    write_json(temporary / "rng_state.json", checkpoint.rng_state)
    write_json(temporary / "trainer_state.json", checkpoint.trainer_state)
    _flush_to_disk(temporary)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    return final


def load_checkpoint(directory: Path) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        FileNotFoundError: a file of it is missing.
    """
    with np.load(directory / "optimizer.npz") as arrays:
        optimizer = dict(arrays)
    return Checkpoint(
        weights=load_file(directory / "model.safetensors"),
        optimizer=optimizer,
        rng_state=json.loads((directory / "rng_state.json").read_text(encoding="utf-8")),
        trainer_state=json.loads((directory / "trainer_state.json").read_text(encoding="utf-8")),
    )


def rotate_checkpoints(output_dir: Path, save_total_limit: int | None) -> list[Path]:
    """Delete all but the highest-numbered checkpoints, and return those deleted."""
    if save_total_limit is None:
        return []
    excess = list_checkpoints(output_dir)[:-save_total_limit]
    for directory in excess:
        shutil.rmtree(directory)
    return excess


def list_checkpoints(output_dir: Path) -> list[Path]:
    """The checkpoints in a directory by rising step."""
    found = [path for path in output_dir.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.split("-")[1]))


def write_json(path: Path, value: object) -> None:
    """Write a value as indented JSON with a final newline."""
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file that takes `path`'s place only when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    write(temporary)
    temporary.replace(path)


def _flush_to_disk(directory: Path) -> None:
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
