"""What went wrong with a run: the kind of failure, the lines that show it, and what to try."""

from __future__ import annotations

import os
import re
from typing import Any

import limits_text
import log_tail
import memory_events
from failure_kinds import CRASH, DISK_FULL, HOST_MEMORY, MISSING_FILE, PERMISSION, RESUME, SHARED_MEMORY, Kind
from log_cause import MOST_LINES, Cause, first_sign, in_installation, in_log, in_metrics, last, usage

POD_LOST = "pod lost"
HEADER_LINES = 10
LONGEST_LINE = 300
LONGEST_TITLE = 200
PROBE_BYTES = 1 << 16

ASKED_TO_END = Kind("asked_to_end", "It was asked to end.", (RESUME,))
PREEMPTED = Kind(
    "preempted",
    "The pod was taken away or stopped from outside.",
    (
        RESUME,
        "inv terminate and inv stop --now end a run so as well.",
        "cloud_type: secure and a pod that is no spot instance are taken away less often.",
    ),
)
LOST = Kind(
    "pod_lost",
    "The pod went away while the training ran.",
    (
        RESUME,
        "RunPod stops pods whose account has no money left, and a pod that runs out of memory as a whole ends too.",
    ),
)
HOURS = Kind(
    "hours_used_up",
    "The hours allowed for a run (max_hours) were used up: {what}.",
    ("Raise max_hours in invoke.yaml if it is to run longer at a time.", RESUME),
)
MONEY = Kind(
    "money_used_up",
    "The money allowed for a run (max_cost_usd) was used up: {what}.",
    ("Raise max_cost_usd in invoke.yaml if it may cost more; inv cost shows what was spent.", RESUME),
)
STALLED = Kind(
    "stalled",
    "The training stalled: {what}.",
    (
        "A deadlock of DataLoader workers or of a collective operation is the usual cause: py-spy dump shows where.",
        "If it works silently for so long, raise stall_minutes in invoke.yaml (0: never), or set on_stall: notify.",
        RESUME,
    ),
)
SUPERVISOR_KILLED = Kind(
    "supervisor_killed",
    "The program that watches the training was killed, and the training with it.",
    ("Want of memory on the pod is the usual cause: use fewer DataLoader workers or a larger pod.", RESUME),
)
SUPERVISOR_FAILED = Kind(
    "supervisor_failed",
    "The program that watches the training failed: {what}.",
    ("inv doctor checks the setup.", RESUME),
)
REASONS = (
    (re.compile(r"^user$|^the tmux session was ended|^interrupted in tmux"), ASKED_TO_END),
    (re.compile(r"^SIGTERM: the pod is ending"), PREEMPTED),
    (re.compile(rf"^{POD_LOST}$"), LOST),
    (re.compile(r"^max_hours"), HOURS),
    (re.compile(r"^max_cost_usd"), MONEY),
    (re.compile(r"^stalled"), STALLED),
)
SPOKE = Kind("unknown", "The training ended with exit code {what}.", ("inv logs shows it all.",))
UNKNOWN = Kind(
    "unknown", "The training ended with exit code {what} and said nothing of why.", ("inv logs shows it all.",)
)
SIGNALLED = Kind(
    "unknown", "The training was ended by {what}, which nobody here sent.", ("inv logs shows it all.", RESUME)
)
# What a training writes all the time: progress bars and figures, which are no message.
FIGURES = re.compile(r"\d+%\||^\s*\{'|^\W*$")
# 128 + signal: what a signal that the training got by itself tells.
SIGNAL_KINDS = {132: (CRASH, "SIGILL"), 134: (CRASH, "SIGABRT"), 136: (CRASH, "SIGFPE"), 139: (CRASH, "SIGSEGV")}


def explain(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return {"kind", "title", "lines", "advice"} of a run that has ended, None of a success.

    The run's part of the log must not have its footer yet.
    """
    exit_code, reason = record.get("exit_code"), str(record.get("reason") or "")
    if exit_code == 0 and reason == "finished":
        return None
    lines = _without_header(log_tail.shown_lines(log_tail.read(record)))
    return _render(_find_cause(record, exit_code, reason, lines))


def _without_header(lines: list[str]) -> list[str]:
    """Return the lines after the run's own header, if they begin with it (run_header.py)."""
    if len(lines) > 1 and lines[1].startswith("====== "):
        for number, line in enumerate(lines[:HEADER_LINES]):
            if line.startswith("COMMIT: "):
                return lines[number + 1 :]
    return lines


def _find_cause(record: dict[str, Any], exit_code: int | None, reason: str, lines: list[str]) -> Cause:
    """Return the cause: what ended the run from outside, before what its log says, before its exit code."""
    asked = next((kind for pattern, kind in REASONS if pattern.search(reason)), None)
    if asked is not None:
        return Cause(asked, limits_text.describe(record, reason), _lines_of(in_log(lines)) if asked is LOST else [])
    if reason == "environment failed":
        return in_installation(lines)
    if reason == "supervisor killed" or (exit_code == 137 and reason.startswith("killed by SIGKILL")):
        return _of_kill(record, reason, lines)
    if reason.startswith("supervisor failed: "):
        sign = first_sign(reason)
        return Cause(sign[0], sign[1], []) if sign else Cause(SUPERVISOR_FAILED, reason.partition(": ")[2], [])
    return (
        usage(exit_code, lines)
        or in_log(lines)
        or _without_words(record, exit_code)
        or in_metrics(lines)
        or _of_exit_code(exit_code, last(lines, 3))
    )


def _of_kill(record: dict[str, Any], reason: str, lines: list[str]) -> Cause:
    """Return why a process was killed that nobody asked to end: for want of memory, as far as can be told."""
    found = in_log(lines)
    shown = found.lines if found is not None and found.kind is HOST_MEMORY else []
    before, now = record.get("memory_kills_before"), memory_events.count_kills()
    killed = before is not None and now is not None and now > before
    if reason == "supervisor killed" and not (killed or shown):
        return Cause(SUPERVISOR_KILLED, "", [])
    sure = (
        HOST_MEMORY.title
        if killed or shown
        else "The training was killed, most likely because the pod ran out of memory."
    )
    return Cause(HOST_MEMORY._replace(title=sure), "", shown)


def _without_words(record: dict[str, Any], exit_code: int | None) -> Cause | None:
    """Return what an end without a word can mean: a disk so full that no word fitted, or a signal."""
    if record.get("volume") and _is_full(str(record["volume"])):
        return Cause(DISK_FULL, "", [])
    if exit_code == 135:
        return Cause(SHARED_MEMORY, "", [])
    kind, name = SIGNAL_KINDS.get(exit_code or 0, (None, ""))
    return None if kind is None else Cause(kind, name, [])


def _of_exit_code(exit_code: int | None, lines: list[str]) -> Cause:
    """Return what is left to say when nothing but the exit code and the last lines are known."""
    if exit_code == 126:
        return Cause(PERMISSION, "the program may not be run", lines)
    if exit_code == 127:
        return Cause(MISSING_FILE, "the program that was to be run", lines)
    if exit_code is not None and exit_code > 128:
        return Cause(SIGNALLED, f"signal {exit_code - 128}", lines)
    is_told = any(not FIGURES.search(line) for line in lines)
    return Cause(SPOKE if is_told else UNKNOWN, str(exit_code), lines)


def _is_full(volume: str) -> bool:
    """Say whether the volume takes nothing more. A quota shows only in a write that is refused."""
    probe = os.path.join(volume, f".podtasks-probe-{os.getpid()}")
    try:
        with open(probe, "wb", buffering=0) as file:
            return file.write(b"\0" * PROBE_BYTES) < PROBE_BYTES
    except OSError as error:
        return error.errno in (28, 122)
    finally:
        if os.path.exists(probe):
            os.unlink(probe)


def _lines_of(cause: Cause | None) -> list[str]:
    return [] if cause is None else cause.lines


def _render(cause: Cause) -> dict[str, Any]:
    """Return the cause as the record has it."""
    title = cause.kind.title.replace("{what}", cause.what.strip().rstrip(".") or "no name given")
    return {
        "kind": cause.kind.name,
        "title": _cut(title, LONGEST_TITLE),
        "lines": [_cut(line.rstrip(), LONGEST_LINE) for line in cause.lines if line.strip()][:MOST_LINES],
        "advice": list(cause.kind.advice),
    }


def _cut(text: str, longest: int) -> str:
    """Return a text on one line, its control characters escaped, cut at a length."""
    escaped = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[:longest])
    return escaped if len(escaped) <= longest else f"{escaped[: longest - 1]}…"
