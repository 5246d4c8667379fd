"""What tasks with results share: flags, and how a result is written."""

from __future__ import annotations

import shutil
import sys

from podtasks.doors.console import printable, wrap, write_result
from podtasks.pure.errors import UsageError

CLOUD_HELP = {"cloud": "which cloud: auto, runpod or local"}
VIA_HELP = {"via": "the way to the volume: s3, ssh, or auto (s3 where there are S3 keys, else ssh)"}
JSON_HELP = {"json": "print one JSON document instead (docs/json.md)"}


def parse_count(flag: str, text: str, *, example: int, least: int = 0) -> int:
    """Return a number as the user typed it behind --`flag`. Raises UsageError for anything but a whole number."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10) or int(text) < least:
        above = f" of at least {least}" if least else ""
        raise UsageError(f"--{flag} {text} is not a whole number{above}.", next_step=f"--{flag} {example}")
    return int(text)


def write_json(document: object) -> None:
    """Print one JSON document on standard output."""
    import json

    write_result(json.dumps(document, indent=2))


def write_text(text: str) -> None:
    """Print text on standard output, long lines wrapped at words on a terminal; safe for any terminal."""
    columns = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    write_result(wrap(printable(text), columns))
