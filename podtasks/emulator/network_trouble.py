"""What the network in front of a pod shall do, as a control route is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from podtasks.emulator.errors import InputError
from podtasks.emulator.relay import Relay

_LONGEST_S = 1e9
_STALLS = {"to_pod": ("to_pod",), "from_pod": ("from_pod",), "both": ("to_pod", "from_pod")}


@dataclass(frozen=True)
class NetworkTrouble:
    """Disturbances that begin now; each may be left out.

    Args:
        refuse_s: seconds in which new connections are refused; 0 ends a refusal.
        reset: all open connections are reset.
        stall: the directions whose bytes wait.
        stall_s: for how many seconds; 0 ends a stall.
        new_port: the public port changes, which resets all open connections.
    """

    refuse_s: float | None = None
    reset: bool = False
    stall: tuple[str, ...] = ()
    stall_s: float = 0.0
    new_port: bool = False

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> NetworkTrouble:
        """Check and read a trouble.

        Raises:
            InputError: it has an unknown key or a wrong value, half a stall, or nothing to do.
        """
        unknown = set(value) - set(cls.__dataclass_fields__)
        if unknown:
            raise InputError(f"network trouble has no {', '.join(sorted(unknown))}")
        if ("stall" in value) != ("stall_s" in value):
            raise InputError("stall and stall_s go together")
        trouble = cls(
            refuse_s=_seconds(value, "refuse_s") if "refuse_s" in value else None,
            reset=_flag(value, "reset"),
            stall=_stall(value["stall"]) if "stall" in value else (),
            stall_s=_seconds(value, "stall_s") if "stall_s" in value else 0.0,
            new_port=_flag(value, "new_port"),
        )
        if trouble == cls():
            raise InputError("name some network trouble: refuse_s, reset, stall with stall_s, new_port")
        return trouble

    def strike(self, relay: Relay) -> None:
        """Disturb a pod's network; a new port is up to whoever knows which are free."""
        if self.stall:
            relay.stall(self.stall, self.stall_s)
        if self.refuse_s is not None:
            relay.refuse(self.refuse_s)
        if self.reset:
            relay.reset()


def _seconds(value: dict[str, Any], name: str) -> float:
    number = value[name]
    if not isinstance(number, (int, float)) or isinstance(number, bool) or not 0 <= number <= _LONGEST_S:
        raise InputError(f"{name} cannot be {number!r}")
    return float(number)


def _flag(value: dict[str, Any], name: str) -> bool:
    flag = value.get(name, False)
    if not isinstance(flag, bool):
        raise InputError(f"{name} cannot be {flag!r}")
    return flag


def _stall(value: object) -> tuple[str, ...]:
    if not isinstance(value, str) or value not in _STALLS:
        raise InputError(f"stall is one of {', '.join(_STALLS)}, not {value!r}")
    return _STALLS[value]
