"""The newest complete checkpoint under a directory.

The step of a checkpoint comes from its name, without the ending: the integer after the last `step`
(`epoch=3-step=1000.ckpt` is 1000), else the last integer that follows `-`, `=` or `_` or is the whole name
(`checkpoint-200`, `ckpt_0300.pt`, `400`); decimals such as `val_loss=0.12` do not count. A name without one
takes the step of its parent folder inside the pattern, else that of its trainer_state.json. Checkpoints
without any step (`last.ckpt`) come after all that have one, the most recently written first.
"""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

from checkpoint_files import why_not_whole

TRAINER_STATE = "trainer_state.json"
_STEP = re.compile(r"step[-_=]?(\d+)(?!\d|\.\d)", re.IGNORECASE)
_NUMBER = re.compile(r"(?:^|(?<=[-=_]))(\d+)(?=\Z|[-=_.])(?!\.\d)")
_ENDING = re.compile(r"\.[A-Za-z]\w*$")
_TEMPORARY = re.compile(r"(.*\.(tmp|temp|incomplete|part|partial)|\.?tmp[-_.].*)\Z", re.IGNORECASE | re.DOTALL)
_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npz", ".h5", ".msgpack", ".distcp")
# What Hugging Face's Trainer writes beside the weights, https://github.com/huggingface/transformers trainer.py.
_BESIDE = re.compile(r"(optimizer|scheduler|scaler|rng_state|random_states|training_args)[\w-]*\.(pt|pth|bin|pkl)\Z")
# What Hugging Face's libraries split weights into, with an index (".index.json", ".index.fp16.json") beside them.
_SHARD = re.compile(r"(.*)-\d{5}-of-(\d{5})(\.(?:safetensors|bin))\Z", re.DOTALL)
_INDEX = re.compile(r"\.index(\.[\w-]+)?\.json\Z")
_TEXT = (".json", ".jsonl", ".txt", ".md", ".jinja", ".model", ".yaml", ".yml", ".py", ".log", ".csv")


class Checkpoint(NamedTuple):
    """A checkpoint's absolute path and its step, if it has one."""

    path: str
    step: int | None


class Skipped(NamedTuple):
    """A checkpoint that is not complete, and why."""

    path: str
    why: str


def find_newest(directory: str, pattern: str) -> tuple[Checkpoint | None, list[Skipped]]:
    """Return the newest complete checkpoint under `directory` and the incomplete ones that are newer.

    Args:
        directory: where training writes its checkpoints; need not exist.
        pattern: shell pattern of a checkpoint's path inside it, for example `checkpoint-*`.

    Raises:
        OSError: the directory is there but cannot be listed, so that nobody takes it for empty.
        ValueError: the pattern leads out of the directory.
    """
    found = list_newest_first(directory, pattern)
    has_states = any(has_trainer_state(path) for path, _ in found)
    skipped: list[Skipped] = []
    for checkpoint in found:
        why = why_incomplete(checkpoint.path, has_states)
        if why is None:
            return checkpoint, skipped
        skipped.append(Skipped(checkpoint.path, why))
    return None, skipped


def list_newest_first(directory: str, pattern: str) -> list[Checkpoint]:
    """Return what under `directory` has the name of a checkpoint, complete or not; raises as `find_newest`."""
    if not pattern or os.path.isabs(pattern) or ".." in pattern.split("/"):
        raise ValueError(f"the checkpoint pattern {pattern!r} is not a path inside the directory")
    if not os.path.lexists(directory):
        return []
    os.listdir(directory)  # glob would pass over an error
    found = [Checkpoint(path, step_of(path, directory)) for path in _matches(directory, pattern)]
    return sorted(found, key=_newness, reverse=True)


def _matches(directory: str, pattern: str) -> Iterator[str]:
    yield from glob.iglob(os.path.join(glob.escape(directory), pattern.rstrip("/")), recursive=True)


def has_trainer_state(path: str) -> bool:
    """Say whether the folder has the file that Hugging Face's Trainer writes last."""
    return os.path.isfile(os.path.join(path, TRAINER_STATE))


def _newness(checkpoint: Checkpoint) -> tuple[int, float, str]:
    try:
        written = os.stat(checkpoint.path).st_mtime
    except OSError:
        written = 0.0
    return (-1 if checkpoint.step is None else checkpoint.step, written, checkpoint.path)


def step_of(path: str, directory: str = "") -> int | None:
    """Return the checkpoint's step by the rule above, or None."""
    inside = os.path.relpath(path, directory) if directory else os.path.basename(path)
    for name in reversed(inside.split(os.sep)):
        stem = _ENDING.sub("", name)
        numbers = _STEP.findall(stem) or _NUMBER.findall(stem)
        if numbers:
            return int(numbers[-1])
    return _trainer_step(path)


def _trainer_step(path: str) -> int | None:
    step = read_json(os.path.join(path, TRAINER_STATE)).get("global_step")
    return step if isinstance(step, int) else None


def why_incomplete(path: str, has_states: bool = False) -> str | None:
    """Return in plain words why the checkpoint is not complete, or None if it is.

    Args:
        path: a file or a folder.
        has_states: other checkpoints of this training have a trainer_state.json.
    """
    if _TEMPORARY.match(os.path.basename(path)):
        return "has the name of an unfinished save"
    if os.path.islink(path) and not os.path.exists(path):
        return "is a link to nothing"
    if not os.path.isdir(path):
        return why_not_whole(path)
    try:
        return _why_folder_incomplete(path, has_states)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _why_folder_incomplete(path: str, has_states: bool) -> str | None:
    names = sorted(_files(path))
    temporary = next((name for name in names if _TEMPORARY.match(os.path.basename(name))), None)
    if not names:
        return "is an empty folder"
    if temporary:
        return f"holds {_show(temporary)}, left by an unfinished save"
    return (
        _check_trainer_state(path, names, has_states)
        or _check_indexes(path, names)
        or _check_deepspeed(path, names)
        or _check_files(path, names)
    )


def _files(folder: str) -> Iterator[str]:
    """Yield the files in the folder, relative to it, not following links to folders."""

    def fail(error: OSError) -> None:
        raise error

    for directory, _, names in os.walk(folder, onerror=fail):
        for name in names:
            yield os.path.relpath(os.path.join(directory, name), folder)


def _check_trainer_state(path: str, names: list[str], has_states: bool) -> str | None:
    if TRAINER_STATE not in names:
        is_trainers = "training_args.bin" in names or ("optimizer.pt" in names and "scheduler.pt" in names)
        return f"has no {TRAINER_STATE}: its save was cut short" if has_states or is_trainers else None
    step = _trainer_step(path)
    named = _NUMBER.findall(os.path.basename(path))
    if step is None:
        return f"has a {TRAINER_STATE} that cannot be read"
    if named and int(named[-1]) != step:
        return f"is named after step {int(named[-1])}, but its {TRAINER_STATE} is of step {step}"
    if all(_BESIDE.match(os.path.basename(name)) or name.endswith(_TEXT) for name in names):
        return "holds no weights"
    if "scheduler.pt" in names and not any(name.startswith(("optimizer", "global_step")) for name in names):
        return "has a scheduler.pt, but no optimizer: the Trainer would begin it anew without a word"
    return None


def _check_indexes(path: str, names: list[str]) -> str | None:
    for name in names:
        if _INDEX.search(name):
            shards = read_json(os.path.join(path, name)).get("weight_map")
            if not isinstance(shards, dict):
                return f"has a {_show(name)} that cannot be read"
            folder = os.path.dirname(name)
            missing = sorted({str(x) for x in shards.values()} - {os.path.relpath(x, folder or ".") for x in names})
            if missing:
                return f"lacks {_show(missing[0])}, which {_show(name)} names"
    return _check_shards(names)


def _check_shards(names: list[str]) -> str | None:
    """Check that weights in numbered parts are all there, and the index without which nothing loads them.

    The index is written last: huggingface_hub, serialization/_torch.py.
    """
    there = set(names)
    parts = {part.groups() for part in map(_SHARD.match, names) if part}
    for stem, count, ending in sorted(parts):
        numbers = (str(number).zfill(len(count)) for number in range(1, int(count) + 1))
        missing = next((number for number in numbers if f"{stem}-{number}-of-{count}{ending}" not in there), None)
        if missing is not None:
            return f"lacks part {missing} of the {count} of {_show(stem + ending)}"
        folder = os.path.dirname(stem)
        if not any(os.path.dirname(name) == folder and _INDEX.search(name) for name in names):
            return f"lacks the index of {_show(stem + ending)}"
    return None


def _check_deepspeed(path: str, names: list[str]) -> str | None:
    """Check that the folder which DeepSpeed's file `latest` names is there."""
    if "latest" not in names:
        return None
    folder = _read_text(os.path.join(path, "latest"), 200, "replace").strip()
    if folder.startswith("global_step") and not any(name.startswith(folder + os.sep) for name in names):
        return f"lacks the folder {_show(folder)}, which its file latest names"
    return None


def _check_files(path: str, names: list[str]) -> str | None:
    for name in names:
        why = why_not_whole(os.path.join(path, name))
        if why and (why != "is empty" or name.endswith((*_WEIGHTS, ".json"))):
            return f"holds {_show(name)}, which {why}"
    if all(os.path.getsize(os.path.join(path, name)) == 0 for name in names):
        return "holds only empty files"
    return None


def read_json(path: str) -> dict[str, Any]:
    """Return the JSON object in the file, an empty one where there is none to be read."""
    try:
        content = json.loads(_read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _read_text(path: str, most_bytes: int = -1, errors: str = "strict") -> str:
    """Return what an ordinary file says. Raise OSError for any other: to open a pipe waits for whoever writes to it."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is no ordinary file")
    with open(path, encoding="utf-8", errors=errors) as file:
        return file.read(most_bytes)


def _show(name: str) -> str:
    return name if name.isprintable() else repr(name)
