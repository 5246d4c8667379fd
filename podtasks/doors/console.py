"""The terminal: the story goes to standard error, results to standard output."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
import time
from typing import Protocol

from podtasks.pure.secret import hide_secrets


class Reporter(Protocol):
    """Who is told how a flow gets on."""

    def step(self, text: str) -> None:
        """Something was done or begins."""

    def note(self, text: str) -> None:
        """Something the user should know, that stops nothing."""


def printable(text: str) -> str:
    """Return text without what would steer the terminal, and without any secret that this command knows.

    Names from git, the API and the pod are anybody's, and what refuses a key may quote it.
    """
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in hide_secrets(text))


def terminal_columns() -> int | None:
    """Return the width of the terminal that hears the story, None where it is no terminal."""
    return shutil.get_terminal_size().columns if sys.stderr.isatty() else None


def wrap(text: str, columns: int | None) -> str:
    """Return text with lines over `columns` broken at words, under the column where their text begins.

    That is behind a label and two spaces. A path longer than a line stays whole, so that it can be copied.
    """
    return "\n".join(_wrap_line(line, columns) if columns else line for line in text.split("\n"))


def _wrap_line(line: str, columns: int) -> str:
    label = re.match(r"\[[^]]*\]\s+|\s*\S.*?\s{2,}", line)
    indent = len(label.group()) if label and len(label.group()) < columns // 2 else len(line) - len(line.lstrip())
    pieces = textwrap.wrap(
        line,
        columns,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
    return "\n".join(pieces) or line


class Console:
    """Tells a flow's story on standard error, each line with the seconds since the command began."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def step(self, text: str) -> None:
        """Print one step with the time it was reached."""
        self._tell(f"[{time.monotonic() - self._began_s:6.1f} s]  {text}")

    def note(self, text: str) -> None:
        """Print one remark."""
        self._tell(f"            note: {text}")

    def tell(self, text: str) -> None:
        """Print text, long lines wrapped at words on a terminal."""
        self._tell(text)

    def confirm(self, question: str, *, default: bool) -> bool:
        """Ask, and return True for yes; Enter means `default`, an end of input no.

        Where nobody can answer, because input or output is no terminal, return True.
        """
        if not self.can_ask():
            return True
        sys.stderr.write(f"{printable(question)} [{'Y/n' if default else 'y/N'}] ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        answer = line.strip().lower()
        return bool(line) and (answer in ("y", "yes") or (answer == "" and default))

    def can_ask(self) -> bool:
        """Return whether somebody sits here who can answer a question."""
        return bool(sys.stdin and sys.stdin.isatty() and sys.stderr.isatty())

    def _tell(self, text: str) -> None:
        try:
            sys.stderr.write(wrap(printable(text), terminal_columns()) + "\n")
            sys.stderr.flush()
        except OSError:
            # The terminal is gone; what runs must not end for that.
            pass


def write_result(text: str) -> None:
    """Print a result on standard output; what would steer the terminal, or its encoding has not, becomes a `?`."""
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(printable(text).encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


def write_log(data: bytes) -> None:
    """Write log bytes to standard output as they are: carriage returns and odd bytes included."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
