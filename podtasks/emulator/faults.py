"""Faults that were ordered for coming calls."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
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
CALLERS = ("any", "account", "pod")


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
        for_s: for how many seconds from now it strikes every call instead; None for `times` calls.
        caller: whose calls: the account's, a pod's with its own key, or any.
    """

    operation: str
    kind: str
    status: int = 502
    message: str = GENERIC_TEXT
    retry_after_s: int = 1
    seconds: float = 60.0
    times: int = 1
    for_s: float | None = None
    caller: str = "any"

    @classmethod
    def from_json(cls, value: Any) -> Fault:  # noqa: ANN401 (JSON)
        """Check and read a fault.

        Raises:
            InputError: it has an unknown key or kind, or a value that makes no sense.
        """
        if not isinstance(value, dict) or value.get("kind") not in KINDS:
            raise InputError(f"a fault is an object whose kind is one of {', '.join(KINDS)}")
        unknown = set(value) - set(cls.__dataclass_fields__)
        if unknown:
            raise InputError(f"a fault has no {', '.join(sorted(unknown))}")
        for name, given in value.items():
            if not _CHECKS[name](given):
                raise InputError(f"{name} of a fault cannot be {given!r}")
        return cls(**{"operation": "*", **value})

    def fits(self, operations: list[str], caller: str) -> bool:
        """Say whether it is meant for a call with some operations by "account", "pod" or "none"."""
        return (self.operation == "*" or self.operation in operations) and self.caller in ("any", caller)


def _is_amount(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < math.inf


def _is_number(value: object, least: int, most: float = math.inf) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_text(value: object) -> bool:
    return isinstance(value, str)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "operation": _is_text,
    "kind": _is_text,
    "status": lambda value: _is_number(value, 200, 599),
    "message": _is_text,
    "retry_after_s": lambda value: _is_number(value, 0),
    "seconds": _is_amount,
    "times": lambda value: _is_number(value, 1),
    "for_s": lambda value: value is None or _is_amount(value),
    "caller": lambda value: value in CALLERS,
}


class FaultQueue:
    """The faults still to come, in the order in which they were ordered; an end of the server drops them."""

    def __init__(self) -> None:
        self._ordered: list[tuple[Fault, float]] = []

    def add(self, fault: Fault) -> None:
        """Order a fault."""
        self._ordered.append((fault, math.inf if fault.for_s is None else time.monotonic() + fault.for_s))

    def clear(self, operation: str | None = None, kind: str | None = None) -> None:
        """Drop faults: those with an operation, of a kind, or all."""
        wanted = {"operation": operation, "kind": kind}
        self._ordered = [
            item
            for item in self._current()
            if any(value is not None and getattr(item[0], name) != value for name, value in wanted.items())
        ]

    def pending(self) -> list[Fault]:
        """Return the faults still to come, with the seconds that are left of them."""
        now = time.monotonic()
        return [
            fault if fault.for_s is None else dataclasses.replace(fault, for_s=until - now)
            for fault, until in self._current()
        ]

    def take(self, operations: list[str], caller: str) -> Fault | None:
        """Return the fault that strikes a call, and count it down.

        Args:
            operations: the call's.
            caller: "account", "pod" or "none".
        """
        self._ordered = self._current()
        for item in self._ordered:
            fault = item[0]
            if fault.fits(operations, caller):
                fault.times -= fault.for_s is None
                if fault.times <= 0:
                    self._ordered.remove(item)
                return fault
        return None

    def _current(self) -> list[tuple[Fault, float]]:
        now = time.monotonic()
        return [item for item in self._ordered if item[1] > now]
