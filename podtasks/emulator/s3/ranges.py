"""The Range header of a read."""

from __future__ import annotations

import re

from podtasks.emulator.s3.errors import S3Error

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def parse_range(header: str | None, size_bytes: int) -> tuple[int, int] | None:
    """Return where a read begins and how many bytes it wants, or None for the whole object.

    What is no single range of bytes is passed over, as RFC 9110 and S3 have it.

    Raises:
        S3Error: the object has none of the bytes.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        size_wanted = min(int(last), size_bytes)
        start, end = size_bytes - size_wanted, size_bytes
    else:
        start, end = int(first), min(int(last) + 1, size_bytes) if last else size_bytes
        if last and int(last) < start:
            return None
    if start >= end:
        raise S3Error("InvalidRange", "The requested range is not satisfiable")
    return start, end - start
