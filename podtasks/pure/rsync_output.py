"""What rsync writes while it copies, and why files stayed behind."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

# rsync(1), EXIT VALUES: socket, protocol stream, timeouts; 255 is ssh's own.
LINK_BROKEN = frozenset({10, 12, 30, 35, 255})
# File I/O, file selection, partial transfer, vanished source files: the others may have arrived.
INCOMPLETE = frozenset({3, 11, 23, 24})
INTERRUPTED = 20

# %i what was done (rsync(1), --itemize-changes), %l length, %b bytes on the wire. Only with %b in it does rsync
# write the line once the file is through, not before.
FILE_FORMAT = "file %i %l %b %n"
_FILE = re.compile(rb"file (\S+) (\d+) \d+ (.*)", re.DOTALL)
_PROGRESS = re.compile(rb"\s*(\d+)\s+\d+%\s")
_ESCAPE = re.compile(rb"\\#([0-7]{3})")
_REASON = re.compile(r'(?:.*": |.*failed: |.*: )(.+?)(?: \(\d+\))?$')


@dataclass(frozen=True)
class FileMoved:
    """A file went through: its name as rsync was given it, and its size."""

    name: str
    size_bytes: int


@dataclass(frozen=True)
class BytesMoved:
    """How many bytes have gone through since rsync began, of whole files and of the one on its way."""

    size_bytes: int


def parse_line(line: bytes) -> FileMoved | BytesMoved | None:
    """Given a line of rsync's output (a carriage return ends one too), return what it says of the transfer."""
    found = _FILE.fullmatch(line)
    if found:
        what, size, name = found.groups()
        return FileMoved(_as_name(name), int(size)) if what[:2] in (b"<f", b">f") else None
    moved = _PROGRESS.match(line)
    return BytesMoved(int(moved[1])) if moved else None


def explain_failures(names: Iterable[str], stderr: bytes) -> dict[str, str]:
    """Return for each file that stayed behind why, as far as rsync's messages tell."""
    lines = [_as_name(line) for line in stderr.splitlines()]
    complaints = [line for line in lines if line and not line.startswith("rsync error:")]
    general = _reason(complaints[-1]) if complaints else "rsync gave no reason"
    return {name: next((_reason(line) for line in complaints if _is_about(line, name)), general) for name in names}


def last_words(stderr: bytes) -> str:
    """Return the line that tells most of why rsync or ssh gave up."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("rsync error:", "rsync: connection unexpectedly closed"))]
    return (telling or lines or ["no reason given"])[-1].strip()


def is_missing_there(exit_code: int, stderr: bytes) -> bool:
    """Return whether the other side has no rsync."""
    return exit_code == 127 or b"rsync: command not found" in stderr or b"rsync: not found" in stderr


def _is_about(line: str, name: str) -> bool:
    """Return whether a message names this file, or the temporary one that it is received into: .NAME.XXXXXX."""
    folder, _, last = name.rpartition("/")
    temporary = f"{folder}/.{last}." if folder else f"/.{last}."
    return f'/{name}"' in line or f'"{name}"' in line or temporary in line or line.endswith(f": {name}")


def _reason(line: str) -> str:
    if line.startswith("file has vanished"):
        return "it vanished meanwhile"
    found = _REASON.match(line)
    return found[1] if found else line


def _as_name(text: bytes) -> str:
    """Return a name as it is on the disk: rsync writes control characters as \\#ooo."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), text))
