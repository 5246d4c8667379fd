"""The tracebacks in the lines of a log."""

from __future__ import annotations

import re
from typing import NamedTuple

HEADER = "Traceback (most recent call last)"
# torchrun and torch.distributed put the process before each line: "[rank0]: ", "[default1]:".
_PROCESS = re.compile(r"^\[(?:rank|default)\d+\]: ?")
_LINK = re.compile(r"^(?:During handling of the above exception|The above exception was the direct cause)")
# Tracebacks that end nothing: from destructors, exit functions and logging itself.
_NOISE = re.compile(r"^(?:Exception ignored in|Error in atexit|--- Logging error ---|Exception in thread QueueFeeder)")
_RICH_FRAME = re.compile(r"^[│|]?\s*(?P<place>/?\S+\.py:\d+ in \S+)")
MESSAGE_LINES = 6


class Traceback(NamedTuple):
    """One traceback: where it stands, its frames ("File ..." with the code below it), and its error's text.

    `error` has the exception's line and what follows it directly. `is_linked`: it follows from the one before.
    """

    start: int
    end: int
    frames: list[list[str]]
    error: list[str]
    is_linked: bool
    is_noise: bool


def find(lines: list[str]) -> list[Traceback]:
    """Return the tracebacks in the lines of a log, in their order."""
    plain = [_PROCESS.sub("", line) for line in lines]
    starts = [number for number, line in enumerate(plain) if HEADER in line]
    found = (_read(plain, start) for start in starts)
    return [traceback for traceback in found if traceback is not None]


def _read(lines: list[str], start: int) -> Traceback | None:
    """Return the traceback that begins at a line, None where its error never came."""
    frames: list[list[str]] = []
    is_boxed = not lines[start].rstrip().endswith(":")
    for number in range(start + 1, len(lines)):
        line = lines[number]
        if HEADER in line:
            return None
        if _is_frame_line(line, is_boxed):
            _add_to_frames(frames, line)
            continue
        error = _message(lines, number)
        before = [text for text in lines[max(0, start - 3) : start] if text.strip()]
        return Traceback(
            start,
            number + len(error),
            frames,
            error,
            any(_LINK.match(text) for text in before),
            any(_NOISE.match(text) for text in before),
        )
    return None


def _is_frame_line(line: str, is_boxed: bool) -> bool:
    """Say whether a line belongs to the frames: they are indented, or in the box that `rich` draws."""
    return not line.strip() or line[0] in (" ", "\t") or (is_boxed and line[0] in "│╭╰|+")


def _add_to_frames(frames: list[list[str]], line: str) -> None:
    """Add a line to the frames: a place begins one, the first line below it is its code."""
    boxed = _RICH_FRAME.match(line)
    text = boxed["place"] if boxed else line.strip()
    if text.startswith('File "') or boxed:
        frames.append([text])
    elif frames and len(frames[-1]) == 1 and text.strip("│ ~^") and not boxed:
        frames[-1].append(text)


def _message(lines: list[str], start: int) -> list[str]:
    """Return an exception's line with what follows it until an empty line or the next traceback."""
    message = [lines[start].strip()]
    for line in lines[start + 1 : start + MESSAGE_LINES]:
        if not line.strip() or HEADER in line or _LINK.match(line) or _NOISE.match(line):
            break
        message.append(line.strip())
    return message
