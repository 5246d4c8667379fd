"""What shall go wrong at the coming starts of pods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podtasks.emulator.errors import InputError

NO_CONTAINER = "no_container"
NO_PORT = "no_port"
DIES = "dies"
KINDS = (NO_CONTAINER, NO_PORT, DIES)
_LONGEST_S = 1e9


@dataclass
class StartTrouble:
    """One kind of bad start, and how often.

    Args:
        kind: no_container: the pod is RUNNING, billed, and never boots; no_port: its container runs and
            the API never shows a port; dies: its host is lost a while after the start.
        after_s: that while.
        times: how many starts it strikes.
    """

    kind: str
    after_s: float = 0.0
    times: int = 1

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StartTrouble:
        """Check and read a trouble.

        Raises:
            InputError: it has an unknown key or kind, or a value that makes no sense.
        """
        unknown = set(value) - set(cls.__dataclass_fields__)
        if unknown or value.get("kind") not in KINDS:
            raise InputError(f"a start's trouble has a kind ({', '.join(KINDS)}), after_s and times, not {dict(value)}")
        after_s, times = value.get("after_s", 0.0), value.get("times", 1)
        if not isinstance(after_s, (int, float)) or isinstance(after_s, bool) or not 0 <= after_s <= _LONGEST_S:
            raise InputError(f"after_s cannot be {after_s!r}")
        if not isinstance(times, int) or isinstance(times, bool) or times < 1:
            raise InputError(f"times cannot be {times!r}")
        return cls(value["kind"], float(after_s), times)


class StartTroubles:
    """The troubles still to come, in the order in which they were ordered; an end of the server drops them."""

    def __init__(self) -> None:
        self._troubles: list[StartTrouble] = []

    def add(self, trouble: StartTrouble) -> None:
        """Order a trouble."""
        self._troubles.append(trouble)

    def clear(self) -> None:
        """Drop all troubles to come; pods that have started badly stay as they are."""
        self._troubles.clear()

    def pending(self) -> list[StartTrouble]:
        """Return the troubles still to come."""
        return list(self._troubles)

    def take(self) -> StartTrouble | None:
        """Return the trouble that strikes the next start, and count it down."""
        if not self._troubles:
            return None
        trouble = self._troubles[0]
        trouble.times -= 1
        if not trouble.times:
            self._troubles.pop(0)
        return trouble
