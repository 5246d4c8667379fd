"""What a run's record says of its time and its cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podtasks.pure.run_ids import made_at

LATEST = 1e11  # seconds since 1970; further moments than this year 5138 are no dates


def launched_at(record: Mapping[str, Any]) -> float | None:
    """Return when a run was launched, seconds since 1970: by its record, else by its id; None where neither says."""
    moment = _moment(record.get("launched_at") or record.get("started_at"))
    return made_at(str(record.get("run_id"))) if moment is None else moment


def ended_at(record: Mapping[str, Any]) -> float | None:
    """Return when a run ended, None where it runs or nobody could record it."""
    return _moment(record.get("ended_at"))


def _moment(value: object) -> float | None:
    """Return a moment that a date can be made of, None for what a broken record may hold instead."""
    return float(value) if isinstance(value, int | float) and 0 <= value < LATEST else None


def lasted_s(record: Mapping[str, Any], now: float, *, is_running: bool) -> float | None:
    """Return how long a run took so far, in seconds; None for one that is over without a recorded end."""
    began, ended = launched_at(record), ended_at(record)
    if ended is None and is_running:
        ended = now
    return None if began is None or ended is None else max(0.0, ended - began)


def usd_per_hour(record: Mapping[str, Any]) -> float | None:
    """Return the price of the run's pod, None where its record does not say."""
    price = (record.get("pod") or {}).get("usd_per_hour")
    return float(price) if isinstance(price, int | float) else None


def cost_usd(record: Mapping[str, Any], now: float, *, is_running: bool) -> float | None:
    """Return what the pod cost from the run's launch to its end, so far; None where that is not known."""
    lasted, price = lasted_s(record, now, is_running=is_running), usd_per_hour(record)
    return None if lasted is None or price is None else lasted / 3600 * price
