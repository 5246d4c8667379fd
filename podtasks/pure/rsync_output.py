"""What rsync writes while it copies, and why files stayed behind."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

# rsync(1), EXIT VALUES: socket, protocol stream, timeouts; 255 is ssh's own.
LINK_BROKEN = frozenset({10, 12, 30, 35, 255})
# File I/O, file selection, partial transfer, vanished source files: the others may have arrived.
INCOMPLETE = frozenset({3, 11, 23, 24})
INTERRUPTED = 20

PARTIAL_FOLDER = ".rsync-partial"

# %i what was done (rsync(1), --itemize-changes), %l length, %b bytes on the wire. Only with %b in it does rsync
# write the line once the file is through, not before.
FILE_FORMAT = "file %i %l %b %n"
_FILE = re.compile(rb"file (\S+) (\d+) \d+ (.*)", re.DOTALL)
_PROGRESS = re.compile(rb"\s*(\d+)\s+\d+%\s")
# A file in a message: in quotation marks, or at the end.
_QUOTED = re.compile(r'"(.+?)"(?: ->|: | failed|$)', re.DOTALL)
_LAST = re.compile(r": ([^:]+)$")
_TEMPORARY = re.compile(r"\.(.+)\.[A-Za-z0-9]{6}", re.DOTALL)
_ESCAPE = re.compile(rb"\\#([0-7]{3})")
_REASON = re.compile(r'(?:.*": |.*failed: |.*: )(.+?)(?: \(\d+\))?$', re.DOTALL)


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


def parse_complaints(stderr: bytes, roots: Sequence[str]) -> dict[str, str]:
    """Return for each file that rsync's messages name why it stayed behind.

    Names are those below `roots`, the folders at both ends.
    """
    found = {}
    for line in _complaints(stderr):
        named = _QUOTED.search(line) or _LAST.search(line)
        path = named[1] if named else ""
        for root in roots:
            path = path[len(root) + 1 :] if path.startswith(f"{root}/") else path
        found[_without_temporary(path)] = _reason(line)
    return found


def find_general_reason(stderr: bytes) -> str:
    """Return why files stayed behind of which rsync said nothing: what it said last."""
    complaints = _complaints(stderr)
    return _reason(complaints[-1]) if complaints else "rsync gave no reason"


def last_words(stderr: bytes) -> str:
    """Return the line that tells most of why rsync or ssh gave up."""
    lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(("rsync error:", "rsync: connection unexpectedly closed"))]
    return (telling or lines or ["no reason given"])[-1].strip()


def is_missing_there(exit_code: int, stderr: bytes) -> bool:
    """Return whether the other side has no rsync."""
    return exit_code == 127 or b"rsync: command not found" in stderr or b"rsync: not found" in stderr


def _complaints(stderr: bytes) -> list[str]:
    lines = [_as_name(line) for line in stderr.splitlines()]
    return [line for line in lines if line and not line.startswith("rsync error:")]


def _without_temporary(name: str) -> str:
    """Return a file's own name for what it is received into: .NAME.XXXXXX, or the folder for partial files."""
    folder, slash, last = name.rpartition("/")
    if folder == PARTIAL_FOLDER or folder.endswith(f"/{PARTIAL_FOLDER}"):
        return f"{folder[: -len(PARTIAL_FOLDER)]}{last}"
    temporary = _TEMPORARY.fullmatch(last)
    return f"{folder}{slash}{temporary[1]}" if temporary else name


def _reason(line: str) -> str:
    if line.startswith("file has vanished"):
        return "it vanished meanwhile"
    if "could not make way" in line or line.startswith("cannot delete non-empty directory"):
        return "a folder with files is in its place"
    found = _REASON.match(line)
    return found[1] if found else line


def _as_name(text: bytes) -> str:
    """Return a name as it is on the disk: rsync writes control characters as \\#ooo."""
    return os.fsdecode(_ESCAPE.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), text))
