"""The time a bill is asked for, and its buckets; all in UTC.

Source: RunPod's REST v2 specification, the parameters startTime, endTime, bucketSize and lastN.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from podtasks.emulator.errors import InputError
from podtasks.emulator.problems import SchemaError

BUCKET_SIZES = ("hour", "day", "week", "month", "year")
_DEFAULT_DAYS = 30


@dataclass(frozen=True)
class Window:
    """From the start of one bucket to the end of another; epoch seconds."""

    start: float
    end: float
    bucket_size: str

    def buckets(self, first: float, last: float) -> Iterator[tuple[float, float]]:
        """Yield the buckets that something between two times falls into."""
        start = _floor(max(first, self.start), self.bucket_size)
        while start.timestamp() < min(last, self.end):
            end = _step(start, self.bucket_size, 1)
            yield start.timestamp(), end.timestamp()
            start = end


def parse_window(query: Mapping[str, str], now: float) -> Window:
    """Read the window of a request.

    Args:
        query: the request's parameters.
        now: epoch seconds.

    Raises:
        SchemaError: a value has the wrong form.
        InputError: lastN together with startTime or endTime, or the end is not after the start.
    """
    size = query.get("bucketSize", "day")
    if size not in BUCKET_SIZES:
        raise SchemaError(f"bucketSize must be one of {', '.join(BUCKET_SIZES)}")
    if "lastN" in query and ("startTime" in query or "endTime" in query):
        raise InputError("lastN and startTime/endTime exclude each other")
    try:
        start, end = _last_n(query["lastN"], size, now) if "lastN" in query else _range(query, size, now)
    except (OverflowError, OSError):
        raise InputError("the billing period is out of range") from None
    if start >= end:
        raise InputError("endTime must be after startTime")
    return Window(start.timestamp(), end.timestamp(), size)


def write_moment(moment: float) -> str:
    """Return a bucket's border as the API writes it."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _last_n(text: str, size: str, now: float) -> tuple[datetime, datetime]:
    if not text.isdecimal() or int(text) < 1:
        raise SchemaError("lastN must be an integer of at least 1")
    current = _floor(now, size)
    return _step(current, size, 1 - int(text)), _step(current, size, 1)


def _range(query: Mapping[str, str], size: str, now: float) -> tuple[datetime, datetime]:
    start = _parse_moment(query, "startTime", now - _DEFAULT_DAYS * 86400)
    end = _parse_moment(query, "endTime", now)
    last = _floor(end, size)
    return _floor(start, size), last if last.timestamp() == end else _step(last, size, 1)


def _parse_moment(query: Mapping[str, str], name: str, default: float) -> float:
    if name not in query:
        return default
    # A plus sign that was not percent-encoded arrives as a space.
    text = query[name].replace(" ", "+")
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None or "T" not in text:
        raise SchemaError(f"{name} must be an RFC 3339 time")
    return moment.timestamp()


def _floor(moment: float, size: str) -> datetime:
    hour = datetime.fromtimestamp(moment, timezone.utc).replace(minute=0, second=0, microsecond=0)
    if size == "hour":
        return hour
    day = hour.replace(hour=0)
    if size == "week":
        return day - timedelta(days=day.weekday())
    if size == "day":
        return day
    return day.replace(day=1) if size == "month" else day.replace(month=1, day=1)


def _step(start: datetime, size: str, count: int) -> datetime:
    if size in ("hour", "day", "week"):
        return start + count * timedelta(**{f"{size}s": 1})
    months = start.year * 12 + start.month - 1 + count * (12 if size == "year" else 1)
    if not 12 <= months < 9999 * 12:
        raise OverflowError
    return start.replace(year=months // 12, month=months % 12 + 1)
