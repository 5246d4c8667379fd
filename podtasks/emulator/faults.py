"""Faults that were ordered for coming calls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from podtasks.emulator.errors import GENERIC_TEXT, InputError

KINDS = (
    "error",
    "http",
    "html",
    "rate_limit",
    "timeout_after",
    "silence",
    "malformed_json",
    "null",
    "unauthorized",
    "drop",
)


@dataclass
class Fault:
    """What shall go wrong, and how often.

    Args:
        operation: a GraphQL field, a REST operation ("POST /v2/pods/{id}/action"), one of the S3 API
            ("s3:PutObject") or "*" for any.
        kind: one of KINDS.
        status: the HTTP status of kinds http and html.
        message: the text of the error.
        retry_after_s: the Retry-After header of kind rate_limit.
        seconds: how long kinds timeout_after and silence keep the caller waiting.
        times: how many calls it strikes.
    """

    operation: str
    kind: str
    status: int = 502
    message: str = GENERIC_TEXT
    retry_after_s: int = 1
    seconds: float = 60.0
    times: int = 1

    @classmethod
    def from_json(cls, value: Any) -> Fault:  # noqa: ANN401 (JSON)
        """Check and read a fault.

        Raises:
            InputError: it has an unknown key or kind.
        """
        if not isinstance(value, dict) or value.get("kind") not in KINDS:
            raise InputError(f"a fault is an object whose kind is one of {', '.join(KINDS)}")
        unknown = set(value) - set(cls.__dataclass_fields__)
        if unknown:
            raise InputError(f"a fault has no {', '.join(sorted(unknown))}")
        return cls(**{"operation": "*", **value})


class FaultQueue:
    """The faults still to come, in the order in which they were ordered."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Order a fault."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Drop all faults."""
        self._faults.clear()

    def pending(self) -> list[Fault]:
        """Return the faults still to come."""
        return list(self._faults)

    def take(self, operations: list[str]) -> Fault | None:
        """Return the fault that strikes a call with some operations, and count it down."""
        for fault in self._faults:
            if fault.operation == "*" or fault.operation in operations:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault
        return None
