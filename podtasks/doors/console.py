"""The terminal: the story goes to standard error, results to standard output."""

from __future__ import annotations

import sys
import time
from typing import Protocol


class Reporter(Protocol):
    """Who is told how a flow gets on."""

    def step(self, text: str) -> None:
        """Something was done or begins."""

    def note(self, text: str) -> None:
        """Something the user should know, that stops nothing."""


class Console:
    """Tells a flow's story on standard error, each line with the seconds since the command began."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()

    def step(self, text: str) -> None:
        """Print one step with the time it was reached."""
        self._tell(f"[{time.monotonic() - self._began_s:6.1f} s] {text}")

    def note(self, text: str) -> None:
        """Print one remark."""
        self._tell(f"           note: {text}")

    def tell(self, text: str) -> None:
        """Print text as it is."""
        self._tell(text)

    def confirm(self, question: str, *, default: bool) -> bool:
        """Ask, and return True for yes; Enter means `default`, an end of input no.

        Where nobody can answer, because input or output is no terminal, return True.
        """
        if not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
            return True
        sys.stderr.write(f"{question} [{'Y/n' if default else 'y/N'}] ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        answer = line.strip().lower()
        return bool(line) and (answer in ("y", "yes") or (answer == "" and default))

    def _tell(self, text: str) -> None:
        try:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()
        except OSError:
            # The terminal is gone; what runs must not end for that.
            pass


def write_result(text: str) -> None:
    """Print a result on standard output."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def write_log(data: bytes) -> None:
    """Write log bytes to standard output as they are: carriage returns and odd bytes included."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
