"""Which limit ended a run, and what it had used by then, in words."""

from __future__ import annotations

import math
import time
from typing import Any


def describe(record: dict[str, Any], reason: str) -> str:
    """Return what is to be said of an end for this reason, "" where that is nothing."""
    if reason.startswith("max_hours"):
        return _hours(record)
    if reason.startswith("max_cost_usd"):
        return _money(record)
    return stall(record) if reason.startswith("stalled") else ""


def stall(record: dict[str, Any]) -> str:
    """Return what a stalled training did not do, and for how long."""
    minutes = number(record.get("stall_minutes"))
    time_text = "a long time" if minutes is None else f"{minutes:g} minute{'' if minutes == 1 else 's'}"
    if record.get("stall_gpu_known") is False:
        return f"no byte of log for {time_text}; whether it used its GPU is not known"
    return f"no byte of log and no GPU use for {time_text}"


def _hours(record: dict[str, Any]) -> str:
    most = number(record.get("max_hours"))
    return "all of them" if most is None else f"{most:g} h"


def _money(record: dict[str, Any]) -> str:
    """Return the setting, and the hours and the price that made it up."""
    most, price = number(record.get("max_cost_usd")), number((record.get("pod") or {}).get("usd_per_hour"))
    begun = number(record.get("launched_at"))
    limit = "all of it" if most is None else f"{_usd(most)} for this run"
    if price is None or begun is None:
        return limit
    ended = number(record.get("ended_at")) or time.time()
    hours = max(0.0, ended - begun) / 3600
    return f"{limit}, {hours:.2f} h at {_usd(price)}/h cost {_usd(hours * price)}{_before(record)}"


def _before(record: dict[str, Any]) -> str:
    """Return what the runs before cost, where one training is kept going by many."""
    chain = record.get("chain")
    used = number(chain.get("used_usd")) if isinstance(chain, dict) else None
    return f", after {_usd(used)} for the runs before" if used else ""


def _usd(amount: float) -> str:
    return f"${amount:.2f}" if amount >= 0.01 or not amount else f"${amount:.2g}"


def number(value: object) -> float | None:
    """Return a finite number of a record, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
