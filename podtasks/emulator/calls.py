"""The log of API calls: who asked for what and how it went; never a key."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

_KEPT = 10_000


class CallLog:
    """The last calls, oldest first."""

    def __init__(self) -> None:
        self._calls: deque[dict[str, Any]] = deque(maxlen=_KEPT)

    def add(self, operations: list[str], key: str, status: int, fault: str | None, error: str | None) -> None:
        """Log a call.

        Args:
            operations: GraphQL fields or one REST operation.
            key: "account", "pod <id>" or "none".
            status: the HTTP status.
            fault: the kind of the fault that struck it.
            error: the first error's text.
        """
        self._calls.append(
            {
                "time": time.time(),
                "operation": " ".join(operations),
                "key": key,
                "status": status,
                "fault": fault,
                "error": error,
            }
        )

    def read(self) -> list[dict[str, Any]]:
        """Return the calls."""
        return list(self._calls)
