"""What bounds a training: hours, dollars, a stall; which of them comes first, in words for the plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from podtasks.pure.amounts import format_duration, format_usd
from podtasks.pure.run import Launch

# A pod boots and installs its packages on the same money.
LEAST_MINUTES = 10.0


def describe_end(launch: Launch, prices: Sequence[float]) -> str:
    """Return when a training ends at the latest, and what becomes of its pod.

    `prices` are what the pod may cost, in US dollars an hour.
    """
    ends = {
        "stop": "the pod stops itself",
        "terminate": "the pod deletes itself",
        "keep": "the pod is KEPT and billed on",
    }
    return f"{ends[launch.when_done]} when done{_describe_bound(launch, prices)}{_describe_stall(launch)}" + (
        _describe_failure(launch)
    )


def warn_budget(launch: Launch, prices: Sequence[float]) -> tuple[str, ...]:
    """Return what to say of a budget that would be used up before anything is trained; nothing of another one."""
    cheapest = min((price for price in prices if price > 0), default=None)
    if launch.max_cost_usd is None or cheapest is None:
        return ()
    minutes = launch.max_cost_usd / cheapest * 60
    if minutes >= LEAST_MINUTES:
        return ()
    return (
        f"max_cost_usd of {format_usd(launch.max_cost_usd)} is used up after {format_duration(minutes * 60)} at "
        f"${cheapest:.2f}/h, the lowest price there is here; the installation of packages counts too.",
    )


def _describe_bound(launch: Launch, prices: Sequence[float]) -> str:
    """Return the bound that comes first: hours or dollars, or both where that depends on the price."""
    hours, most_usd = launch.max_hours, launch.max_cost_usd
    dearest, cheapest = max(prices, default=0.0), min(prices, default=0.0)
    if most_usd is None or dearest * hours <= most_usd:
        return f", after {hours:g} h at the latest (${dearest * hours:.2f})"
    if cheapest * hours <= most_usd:
        return (
            f", after {hours:g} h or {format_usd(most_usd)} at the latest "
            f"(max_cost_usd comes first above ${most_usd / hours:.2f}/h)"
        )
    lasts = format_duration(most_usd / dearest * 3600)
    return f", after {format_usd(most_usd)} at the latest (max_cost_usd: {lasts} at ${dearest:.2f}/h)"


def _describe_stall(launch: Launch) -> str:
    if launch.on_stall != "stop" or not launch.stall_minutes:
        return ""
    return f", or {format_duration(launch.stall_minutes * 60)} after its last sign of work (on_stall)"


def _describe_failure(launch: Launch) -> str:
    if launch.when_done == "keep" or not launch.keep_failed_s:
        return ""
    kept = format_duration(launch.keep_failed_s)
    return f"; if training fails, the pod is billed {kept} more for a look (on_failure)"


def limit_s(usd_per_hour: float, guard: Mapping[str, Any]) -> float | None:
    """Return after how many seconds the hours or the money of a run are used up, by its guard; None for no bound."""
    hours, usd = amount(guard, "hours_left"), amount(guard, "usd_left")
    limits = [] if hours is None else [hours * 3600]
    if usd is not None and usd_per_hour > 0:
        limits.append(usd / usd_per_hour * 3600)
    return max(0.0, min(limits)) if limits else None


def amount(answer: Mapping[str, Any], name: str) -> float | None:
    """Return a number of what a pod tells, None for anything else."""
    value = answer.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
