"""A training that is kept going: the runs that follow one another until it is done, and the bounds of all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

STEPS = ("step", "checkpoint_step")


@dataclass(frozen=True)
class FailedAt:
    """Where a training failed by itself.

    Args:
        step: the step it had reached, None where that is not known.
        checkpoint_step: the step of the checkpoint it had begun from, None for a fresh start.
        trained: whether the training began at all; git, pip or a refused launch may end a run before.
    """

    step: int | None
    checkpoint_step: int | None
    trained: bool = True


@dataclass(frozen=True)
class Chain:
    """What a run knows of those before it; kept in its record, so that the newest record tells all.

    Args:
        first_run: the id of the first run.
        restarts: how many runs were started after the first.
        used_hours: billed hours of the runs before this one.
        used_usd: what they cost in US dollars.
        max_restarts, max_hours, max_cost_usd: the bounds for all runs together; None: no bound.
        last_failure: where the run before this one failed by itself, None where it was lost or ended otherwise.
    """

    first_run: str
    restarts: int
    used_hours: float
    used_usd: float
    max_restarts: int
    max_hours: float
    max_cost_usd: float | None
    last_failure: FailedAt | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the chain as it stands in a run's record."""
        return asdict(self)


def parse_chain(value: object) -> Chain | None:
    """Given the `chain` of a run's record, return it; None where there is none, or it cannot be read."""
    if not isinstance(value, Mapping):
        return None
    try:
        failure = value.get("last_failure")
        return Chain(
            first_run=str(value["first_run"]),
            restarts=int(_amount(value["restarts"])),
            used_hours=_amount(value["used_hours"]),
            used_usd=_amount(value["used_usd"]),
            max_restarts=int(_amount(value["max_restarts"])),
            max_hours=_amount(value["max_hours"]),
            max_cost_usd=None if value.get("max_cost_usd") is None else _amount(value["max_cost_usd"]),
            last_failure=None if failure is None else _parse_failure(failure),
        )
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _amount(value: Any) -> float:  # noqa: ANN401 - whatever a record holds
    """Return a number that a bound can be kept by. Raises ValueError for any other: none is ever more than NaN."""
    amount = float(value)
    if not 0 <= amount < math.inf:
        raise ValueError("no amount")
    return amount


def _parse_failure(value: Mapping[str, Any]) -> FailedAt:
    step, checkpoint_step = (None if value.get(name) is None else int(value[name]) for name in STEPS)
    return FailedAt(step, checkpoint_step, trained=bool(value.get("trained", True)))
