"""What is known of a run that may have to be started again: how it ended, how far it came, what it took."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from podtasks.pure.budget import amount
from podtasks.pure.chain import Chain
from podtasks.pure.reasons import UNTRAINED
from podtasks.pure.run_costs import LATEST, ended_at, launched_at, usd_per_hour

BY_A_PERSON = ("user", "interrupted in tmux")
LIMITS = ("max_hours", "max_cost_usd")
REFUSED = "not launched"
# As remote/end_reasons.py has it; a supervisor that was killed is none here: its pod may have been short of memory
# for once, and nobody knows what the training was at.
OWN_FAILURES = ("failed", "killed by ", "supervisor failed")
# One that stands still at the same step again is no better than one that fails there.
STALLED = "stalled"


class Ending(enum.Enum):
    """How a run ended."""

    NONE = "not on record"
    FINISHED = "finished"
    BY_A_PERSON = "ended by a person"
    LIMIT = "ended at a limit"
    FAILED = "failed by itself"
    UNTRAINED = "ended before its training began"
    LOST = "ended from outside"


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run that may have to be started again.

    Args:
        chain: the runs before it, and the bounds for all.
        exit_code, reason: how it ended, by its record or its log stream.
        has_ended: whether an end is known.
        is_whole: whether `step` and `checkpoint_step` are from its record, so that None means that nobody knows.
        step: how far its training came.
        checkpoint_step: the step of the checkpoint it began from.
        used_hours, used_usd: what its pod was billed from its launch on, and the price for that.
        price: of its pod, in US dollars per hour.
    """

    run_id: str
    chain: Chain
    exit_code: int | None
    reason: str
    has_ended: bool
    is_whole: bool
    step: int | None
    checkpoint_step: int | None
    used_hours: float
    used_usd: float
    price: float


def read_facts(
    record: Mapping[str, Any], chain: Chain, now: float, *, heartbeat: bytes | None = None
) -> RunFacts:
    """Return what a run's record tells; a run without a recorded end counts until its last heartbeat, or until `now`.

    The time for which its pod was kept counts as well. `now` and the heartbeat's time are seconds since 1970.
    """
    checkpoint = record.get("checkpoint")
    began, price = launched_at(record), usd_per_hour(record) or 0.0
    end = _billed_until(record, now) or _beat_at(heartbeat) or now
    hours = 0.0 if began is None else max(0.0, end - began) / 3600
    limit = record.get("max_hours")
    if isinstance(limit, int | float):
        # The guard stops the pod then, whoever looks later.
        hours = min(hours, float(limit))
    return RunFacts(
        run_id=str(record.get("run_id")),
        chain=chain,
        exit_code=_whole(record.get("exit_code")),
        # One that was asked to end, and whose pod went before it had: why it was asked.
        reason=str(record.get("reason") or record.get("ending") or ""),
        has_ended=ended_at(record) is not None,
        is_whole=True,
        step=_whole(record.get("last_step")),
        checkpoint_step=_whole(checkpoint.get("step")) if isinstance(checkpoint, Mapping) else None,
        used_hours=hours,
        used_usd=hours * price,
        price=price,
    )


def with_outcome(facts: RunFacts, exit_code: int | None, reason: str) -> RunFacts:
    """Return the facts of a run whose end was seen in its log stream before its record told of it."""
    return replace(facts, exit_code=exit_code, reason=reason, has_ended=True, is_whole=False)


def classify(run: RunFacts) -> Ending:
    """Return how a run ended. One that was ended from outside is not finished, whatever its exit code."""
    if not run.has_ended:
        return Ending.NONE
    if run.exit_code == 0 and run.reason in ("finished", ""):
        return Ending.FINISHED
    if run.reason in BY_A_PERSON:
        return Ending.BY_A_PERSON
    if run.reason in LIMITS:
        return Ending.LIMIT
    if run.reason in UNTRAINED or run.reason.startswith(REFUSED):
        return Ending.UNTRAINED
    if run.reason == STALLED or run.reason.startswith(OWN_FAILURES) or (not run.reason and run.exit_code is not None):
        return Ending.FAILED
    return Ending.LOST


def _billed_until(record: Mapping[str, Any], now: float) -> float | None:
    """Return until when the pod of a run with an end on record may have been billed: longer, where it was kept."""
    ended = ended_at(record)
    if ended is None:
        return None
    reason = str(record.get("reason") or "")
    failed = reason.startswith(OWN_FAILURES) or reason in UNTRAINED
    kept_s = (amount(record, "keep_failed_s") or 0.0) if failed else 0.0
    return max(ended, now if record.get("when_done") == "keep" else min(now, ended + kept_s))


def _beat_at(heartbeat: bytes | None) -> float | None:
    """Return when a heartbeat was written, by the pod's clock, which the run's launch is told by as well."""
    try:
        value = json.loads(heartbeat or b"null")
        at = value.get("at") if isinstance(value, dict) else None
    except (ValueError, RecursionError):
        return None
    return float(at) if isinstance(at, int | float) and not isinstance(at, bool) and 0 < at < LATEST else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
