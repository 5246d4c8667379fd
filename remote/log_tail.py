"""The end of one run's own part of the log, as lines the way a terminal would show them."""

from __future__ import annotations

import os
from typing import Any

MOST_BYTES = 1 << 18
LONGEST_LINE = 4000


def read(record: dict[str, Any], most_bytes: int = MOST_BYTES) -> bytes:
    """Return the last bytes of a run's part of the log, b"" where there is none.

    A record without `log_start` (one that could not be read) has no part that could be told from others'.
    """
    start, end = record.get("log_start"), record.get("log_end")
    if start is None:
        return b""
    try:
        with open(record["log"], "rb") as file:
            end = os.fstat(file.fileno()).st_size if end is None else int(end)
            first = max(int(start), end - most_bytes)
            file.seek(first)
            return file.read(max(0, end - first))
    except (OSError, ValueError, KeyError, TypeError):
        return b""


def split_lines(data: bytes) -> list[str]:
    """Return the lines, of a progress line each state it showed, cut at a length that no pattern chokes on."""
    text = data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return [line[:LONGEST_LINE] for line in text.split("\n")]


def shown_lines(data: bytes) -> list[str]:
    """Return the lines, of a progress line what it showed last."""
    lines = data.decode("utf-8", "replace").split("\n")
    return [line.rstrip("\r").rpartition("\r")[2][:LONGEST_LINE] for line in lines]
