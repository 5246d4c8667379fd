"""A run's record as it lies on the volume, as far as it makes sense: anything may stand there.

A crash may cut it, a person may edit it, and any training may write it. remote/sound_record.py is the same for the
programs on the pod; a test compares the two.
"""

from __future__ import annotations

import json
import math
import posixpath
from collections.abc import Callable, Mapping
from typing import Any

from podtasks.pure.run_costs import LATEST

LARGEST = 1 << 62


def parse_record(content: bytes | str | None) -> dict[str, Any] | None:
    """Given what a run.json holds, return the record as far as it makes sense; None where there is none in it."""
    try:
        record = json.loads(content or b"")
    except (ValueError, RecursionError):
        return None
    return make_sound(record) if isinstance(record, dict) else None


def make_sound(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record with None for each field whose value is of no use to whoever reads it."""
    return {name: _sound(name, value) for name, value in record.items()}


def _sound(name: str, value: object) -> object:
    return value if value is None or _CHECKS.get(name, _anything)(value) else None


def _anything(_: object) -> bool:
    return True


def _is_text(value: object) -> bool:
    """Say whether this can be a path, a name or a sentence: single surrogates only where a byte is no UTF-8."""
    try:
        return isinstance(value, str) and b"\0" not in value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False


def _is_log(value: object) -> bool:
    return isinstance(value, str) and _is_text(value) and posixpath.isabs(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -LARGEST < value < LARGEST


def _is_place(value: object) -> bool:
    return isinstance(value, int) and _is_whole(value) and value >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)


def _is_finite(value: float) -> bool:
    return -LARGEST < value < LARGEST and math.isfinite(value)


def _is_amount(value: object) -> bool:
    return isinstance(value, int | float) and _is_number(value) and value >= 0


def _is_moment(value: object) -> bool:
    return isinstance(value, int | float) and _is_amount(value) and value < LATEST


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(_is_text(item) for item in value)


def _is_environment(value: object) -> bool:
    return isinstance(value, dict) and all(_is_text(name) and _is_text(text) for name, text in value.items())


def _is_notes(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _has(**checks: Callable[[object], bool]) -> Callable[[object], bool]:
    """Return a check for an object that has these fields, or None in their place where a check is not of its own."""

    def check(value: object) -> bool:
        return isinstance(value, dict) and all(is_right(value.get(name)) for name, is_right in checks.items())

    return check


def _or_none(is_right: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or is_right(value)


_CHECKS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("run_id", "config", "clone", "commit", "branch", "code", "volume", "venv", "python"), _is_text),
    **dict.fromkeys(("output_dir", "logging_dir", "checkpoint_dir", "checkpoint_pattern"), _is_text),
    **dict.fromkeys(("resume_from", "requirements"), _is_text),
    **dict.fromkeys(("when_done", "on_stall", "ending", "reason", "archived"), _is_text),
    **dict.fromkeys(("launched_at", "started_at", "training_started_at", "ended_at"), _is_moment),
    **dict.fromkeys(("log_start", "log_end", "footer_start", "memory_kills_before", "last_step"), _is_place),
    **dict.fromkeys(("exit_code", "supervisor_pid"), _is_whole),
    **dict.fromkeys(("max_hours", "max_cost_usd", "keep_failed_s", "stall_minutes", "stop_grace_s"), _is_amount),
    **dict.fromkeys(("script_env", "links"), _is_environment),
    "log": _is_log,
    "command": _is_texts,
    "notified": _is_notes,
    "checkpoint": _has(path=_is_text, step=_or_none(_is_place)),
    "failure": _has(kind=_is_text, title=_is_text, lines=_is_texts, advice=_is_texts),
    "pod": _has(id=_or_none(_is_text), gpu=_or_none(_is_text), usd_per_hour=_or_none(_is_amount)),
    "chain": _has(),
}
