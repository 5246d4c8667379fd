"""How far a training is: step, epoch, steps per second and the time left, from its checkpoints and its log."""

from __future__ import annotations

import glob
import json
import os
import time
from typing import Any

import log_progress
import log_tail

# What a forecast consists of; each may be unknown.
FIELDS = ("step", "max_steps", "epoch", "epochs", "steps_per_s", "eta_s")
CHECKPOINTS_READ = 3


def find_progress(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return {"step", "max_steps", "epoch", "epochs", "steps_per_s", "eta_s", "source"}, None where nothing tells.

    `source` is "log" or "trainer_state": whichever is further. What it does not know is filled from the other.
    Of a run that has ended, or whose pace is unknown, `eta_s` is None.
    """
    states = _trainer_states(record)
    newest = states[0] if states else {}
    log = log_progress.parse(log_tail.split_lines(log_tail.read(record)), newest.get("max_steps"))
    first, second, source = _choose(log, newest)
    if not first:
        return None
    found = {name: first.get(name) if first.get(name) is not None else second.get(name) for name in FIELDS}
    if found["steps_per_s"] is None:
        found["steps_per_s"] = _pace_of_checkpoints(states) or _pace_since_start(record, found["step"])
    found["eta_s"] = None if record.get("ended_at") is not None else _time_left(record, found)
    return {**found, "source": source}


def _choose(log: dict[str, Any], state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Return the source that is further, the other one, and the first one's name."""
    if not log or (state and log.get("step") is None and log.get("epoch") is None):
        return state, log, "trainer_state"
    is_behind = log.get("step") is not None and state and log["step"] < state["step"]
    return (state, log, "trainer_state") if is_behind else (log, state, "log")


def _trainer_states(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what the newest checkpoints of this run say, the newest first.

    A checkpoint that the run began from counts as well; others that lay there before it do not.
    """
    directory = record.get("checkpoint_dir") or record.get("output_dir")
    if not directory:
        return []
    pattern = os.path.join(
        glob.escape(os.path.join(record.get("clone") or "/", directory)),
        record.get("checkpoint_pattern") or "checkpoint-*",
        "trainer_state.json",
    )
    dated = sorted(((_modified(path), path) for path in glob.iglob(pattern)), reverse=True)
    states = [_read_state(path, written_at) for written_at, path in dated[:CHECKPOINTS_READ]]
    begun = record.get("started_at") or record.get("launched_at") or 0.0
    start = (record.get("checkpoint") or {}).get("step")
    return [state for state in states if state and (state["written_at"] >= begun or state["step"] == start)]


def _read_state(path: str, written_at: float) -> dict[str, Any] | None:
    """Return what a Hugging Face trainer_state.json says, None where it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            state = json.load(file)
        step = int(state["global_step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {
        "step": step,
        "max_steps": _positive(state.get("max_steps")),
        "epoch": _number(state.get("epoch")),
        "epochs": _positive(state.get("num_train_epochs")),
        "written_at": written_at,
    }


def _pace_of_checkpoints(states: list[dict[str, Any]]) -> float | None:
    """Return the steps per second between the two newest checkpoints of this run."""
    if len(states) < 2:
        return None
    (steps, seconds) = (float(states[0][name] - states[1][name]) for name in ("step", "written_at"))
    return steps / seconds if steps > 0 and seconds > 0 else None


def _pace_since_start(record: dict[str, Any], step: int | None) -> float | None:
    """Return the steps per second since the training began, as of the last line of the log."""
    began = record.get("training_started_at")
    start = (record.get("checkpoint") or {}).get("step") or 0
    if began is None or step is None or step <= start:
        return None
    seconds = float((record.get("ended_at") or _modified(str(record.get("log"))) or time.time()) - began)
    return (step - start) / seconds if seconds > 0 else None


def _time_left(record: dict[str, Any], found: dict[str, Any]) -> float | None:
    """Return the seconds to the last step; by epochs where no number of steps is known."""
    if found["max_steps"] is not None and found["step"] is not None and found["steps_per_s"]:
        return max(0.0, float(found["max_steps"] - found["step"]) / float(found["steps_per_s"]))
    began, epoch, epochs = record.get("training_started_at"), found["epoch"], found["epochs"]
    if began is None or record.get("checkpoint") or not epoch or not epochs or found["max_steps"] is not None:
        return None
    return max(0.0, float((epochs - epoch) * (time.time() - began) / epoch))


def _modified(path: str) -> float:
    """Return when a file was last written, 0 where there is none."""
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _positive(value: object) -> int | None:
    number = _number(value)
    return int(number) if number is not None and 0 < number < 1e15 else None
