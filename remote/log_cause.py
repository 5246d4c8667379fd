"""What the lines of a log tell of why a training ended."""

from __future__ import annotations

import re
from typing import NamedTuple

import log_traceback
from failure_kinds import NAN_METRICS, NCCL, PIP_OTHER, PIP_SIGNS, SIGNS, USAGE, Kind
from log_traceback import Traceback

MOST_LINES = 6
LAST_LINES = 80  # how far from the end a line can be the reason of the end
NEAR_LINES = 15  # how far before a traceback a line can explain it
MOST_MATCHED = 2000

PYTHON_ERROR = Kind(
    "python_error",
    "The script failed: {what}",
    ("The last lines of the traceback show where; commit the correction and run inv train again.",),
)
# Exceptions that only tell that another process failed, whose own error stands before theirs.
WRAPPER = re.compile(
    r"ChildFailedError|ProcessExitedException|ProcessRaisedException|^\S*CalledProcessError(?!.*'(?:git|pip))"
)
SYNTAX_ERROR = re.compile(r"^(?:SyntaxError|IndentationError|TabError): .+")
USAGE_ERROR = re.compile(
    r"^\S+: error: |^[Uu]sage: |^Error: (?:No such option|Missing (?:option|argument))|[Uu]nrecognized arg"
)
# Lines that tell of something the training went on after: libraries' warnings, and what is tried again.
PASSED_OVER = re.compile(r": [IW] (?:tensorflow|external|tsl|xla)/|\bretry(?:ing)?\b", re.IGNORECASE)
# Mistakes in a script, which no trouble that was spoken of before explains.
OWN_MISTAKE = re.compile(r"^(?:Key|Name|UnboundLocal|Attribute|Index|Type|ZeroDivision)Error\b")
BESIDE_TRACEBACK = ("shared_memory", "host_memory", "gpu_memory", "disk_full", "cuda_error", "cuda_driver", "nan_loss")


class Cause(NamedTuple):
    """A kind of failure, what its title names, and the lines that show it."""

    kind: Kind
    what: str
    lines: list[str]


def in_log(lines: list[str]) -> Cause | None:
    """Return what the end of the log says: its last traceback, or a line that says more."""
    tracebacks = [found for found in log_traceback.find(lines) if not found.is_noise]
    traceback = _own_traceback(tracebacks)
    error = None if traceback is None else _of_traceback(traceback, tracebacks)
    line = _of_line(lines, tracebacks, traceback)
    if error is None or traceback is None:
        return line
    if line is not None and (error.kind is NCCL or error.kind is PYTHON_ERROR):
        return Cause(line.kind, line.what, [*line.lines[:3], *error.lines][:MOST_LINES])
    return error


def in_installation(lines: list[str]) -> Cause:
    """Return why the requirements could not be installed."""
    tail = lines[-LAST_LINES:]
    for sign in PIP_SIGNS:
        if any(sign.pattern.search(line[:MOST_MATCHED]) for line in tail):
            shown = [line for line in tail if any(other.pattern.search(line[:MOST_MATCHED]) for other in PIP_SIGNS)]
            return Cause(sign.kind, "", [*shown[: MOST_LINES - 1], *last(lines, 1)])
    return Cause(PIP_OTHER, "", last(lines, 4))


def usage(exit_code: int | None, lines: list[str]) -> Cause | None:
    """Return that the script refused its arguments, which argparse and click say with exit code 2."""
    shown = [line for line in lines[-30:] if USAGE_ERROR.search(line)]
    return Cause(USAGE, "", shown[-MOST_LINES:]) if exit_code == 2 and shown else None


def in_metrics(lines: list[str]) -> Cause | None:
    """Return that the loss was no number in the last line that has one: a training may end so without a word."""
    with_loss = [line[:MOST_MATCHED] for line in lines[-LAST_LINES:] if "loss" in line.lower()]
    shown = [line for line in with_loss if NAN_METRICS.pattern.search(line)]
    return Cause(NAN_METRICS.kind, "", shown[-3:]) if shown and shown[-1] is with_loss[-1] else None


def _own_traceback(tracebacks: list[Traceback]) -> Traceback | None:
    """Return the traceback that tells the cause: the last one that does not merely tell of another's failure."""
    own = [found for found in tracebacks if not WRAPPER.search(found.error[0])]
    first_hand = [found for found in own if not _is_nccl(found)]
    return next(reversed(first_hand or own or tracebacks), None)


def _is_nccl(traceback: Traceback) -> bool:
    """Say whether a traceback tells that other processes were lost."""
    sign = first_sign("\n".join(traceback.error), of_error=True)
    return sign is not None and sign[0] is NCCL


def _of_traceback(traceback: Traceback, tracebacks: list[Traceback]) -> Cause:
    """Return the cause a traceback tells, or the one that it followed from."""
    number = tracebacks.index(traceback)
    chain = [traceback]
    while chain[-1].is_linked and number > 0:
        number -= 1
        chain.append(tracebacks[number])
    for found in chain:
        sign = first_sign("\n".join(found.error), of_error=True)
        if sign is not None:
            shown = _frame(found) + [line for line in found.error if line in (found.error[0], sign[2])]
            return Cause(sign[0], sign[1], shown + ([] if found is traceback else traceback.error[:1]))
    return Cause(PYTHON_ERROR, traceback.error[0], _frame(traceback) + traceback.error[:1])


def _frame(traceback: Traceback) -> list[str]:
    """Return the last frame, and before it the last one outside installed packages, if that is another."""
    own = [frame for frame in traceback.frames if "-packages/" not in frame[0] and "/lib/python" not in frame[0]]
    chosen = traceback.frames[-1:]
    if own and chosen and own[-1] is not chosen[0]:
        chosen = [own[-1], *chosen]
    return [line for frame in chosen for line in frame]


def _of_line(lines: list[str], tracebacks: list[Traceback], traceback: Traceback | None) -> Cause | None:
    """Return what the last telling line says that is no part of a traceback.

    Lines before the traceback count only near it, and only those that a traceback often follows.
    """
    inside = {number for found in tracebacks for number in range(found.start, found.end)}
    first = max(0, len(lines) - LAST_LINES)
    if traceback is not None:
        first = traceback.end if OWN_MISTAKE.search(traceback.error[0]) else max(0, traceback.start - NEAR_LINES)
    for number in range(len(lines) - 1, first - 1, -1):
        if number in inside or PASSED_OVER.search(lines[number]):
            continue
        if SYNTAX_ERROR.search(lines[number]) and traceback is None:
            return Cause(PYTHON_ERROR, lines[number], [line for line in lines[max(0, number - 3) : number + 1]])
        sign = first_sign(lines[number])
        if sign is not None and (
            traceback is None
            or (sign[0].name in BESIDE_TRACEBACK and (number > traceback.start or sign[0].name != "nan_loss"))
        ):
            return Cause(sign[0], sign[1], [lines[number]])
    return None


def first_sign(text: str, *, of_error: bool = False) -> tuple[Kind, str, str] | None:
    """Return the kind whose sign a text bears, what its title names, and the line that bears it."""
    cut = "\n".join(line[:MOST_MATCHED] for line in text.split("\n"))
    for sign in SIGNS:
        if not (of_error or sign.anywhere):
            continue
        for line in cut.split("\n"):
            match = sign.pattern.search(line)
            if match:
                return sign.kind, match.groupdict().get("what") or "", line
    return None


def last(lines: list[str], count: int) -> list[str]:
    """Return the last lines that are not empty."""
    return [line for line in lines if line.strip()][-count:]
