"""The log of API calls: who asked for what and how it went; never a key."""

from __future__ import annotations

import time
from collections import deque
from heapq import merge
from itertools import takewhile
from typing import Any

_KEPT = 10_000


class CallLog:
    """The last calls, oldest first; the many of the S3 API push out only each other."""

    def __init__(self) -> None:
        self._calls: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self._s3_calls: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    def add(self, operations: list[str], key: str, status: int, fault: str | None, error: str | None) -> None:
        """Log a call.

        Args:
            operations: GraphQL fields or one REST operation.
            key: "account", "pod <id>" or "none".
            status: the HTTP status.
            fault: the kind of the fault that struck it.
            error: the first error's text.
        """
        self._calls.append(_call(" ".join(operations), key, status, fault, error))

    def add_s3(self, operation: str, key: str, status: int, fault: str | None, error: str | None) -> None:
        """Log a call of the S3 API, such as "s3:PutObject"."""
        self._s3_calls.append(_call(operation, key, status, fault, error))

    def read(self, after: float = 0.0) -> list[dict[str, Any]]:
        """Return the calls made after a time, in epoch seconds."""
        return list(
            merge(_newer(self._calls, after), _newer(self._s3_calls, after), key=lambda call: float(call["time"]))
        )


def _newer(calls: deque[dict[str, Any]], after: float) -> list[dict[str, Any]]:
    found = list(takewhile(lambda call: float(call["time"]) > after, reversed(calls)))
    return found[::-1]


def _call(operation: str, key: str, status: int, fault: str | None, error: str | None) -> dict[str, Any]:
    return {
        "time": time.time(),
        "operation": operation,
        "key": key,
        "status": status,
        "fault": fault,
        "error": error,
    }
