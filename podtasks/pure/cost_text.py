"""The texts and tables of `inv cost`."""

from __future__ import annotations

from collections.abc import Iterator

from podtasks.pure.amounts import format_bytes, format_cents
from podtasks.pure.costs import Costs, Day
from podtasks.pure.moments import format_date_time, zone_name
from podtasks.pure.run_costs import launched_at, usd_per_hour


def explain_costs(costs: Costs, why: str, now: float, *, is_local: bool = False) -> Iterator[str]:
    """Yield what to know of the figures before reading them. `why` says why they are an estimate."""
    if costs.is_billed and is_local:
        yield "the local cloud's bills, in US dollars, at RunPod's prices; nothing has to be paid"
    elif costs.is_billed:
        yield "RunPod's bills of the whole account, in US dollars. It bills every 5 minutes, so the newest lag behind."
    else:
        yield f"an estimate, in US dollars, because the bills cannot be read: {why}"
        yield "from the runs' records and RunPod's storage prices; boot, idle time and other pods are not in it"
    if costs.runs:
        yield f"runs start in {zone_name(now)}; days are UTC days"


def build_cost_rows(costs: Costs) -> list[list[str]]:
    """Return the rows of the runs: id, start, price an hour, cost."""
    rows = []
    for record, usd in costs.runs:
        began, price = launched_at(record), usd_per_hour(record)
        rows.append(
            [
                str(record.get("run_id")),
                format_date_time(began) if began else "?",
                f"{price:.2f}" if price is not None else "?",
                format_cents(usd),
            ]
        )
    return rows


def shown_days(costs: Costs) -> tuple[Day, ...]:
    """Return the days from the first that cost anything on, today at least."""
    cost = (number for number, day in enumerate(costs.days) if day.total_usd or day.runs_usd)
    return costs.days[next(cost, -1) :]


def build_day_rows(costs: Costs) -> list[list[str]]:
    """Return the rows of the days: day, GPU, CPU, disk, storage, total."""
    return [
        [day.day.isoformat(), *map(format_cents, _amounts(day)), format_cents(day.total_usd)]
        for day in shown_days(costs)
    ]


def _amounts(day: Day) -> tuple[float, float, float, float]:
    return day.gpu_usd, day.cpu_usd, day.disk_usd, day.storage_usd


def build_part_rows(costs: Costs) -> list[list[str]]:
    """Return the rows of what the total is made of, and the total."""
    return [*([name, format_cents(usd)] for name, usd in costs.parts), ["total", format_cents(costs.total_usd)]]


def describe_storage(costs: Costs) -> str:
    """Return what the network volume costs a month, "" where there is none."""
    storage = costs.storage
    if storage is None:
        return ""
    size = format_bytes(storage.size_gb * 1e9)
    return f"network volume {storage.volume_id}, {size}: {format_cents(storage.usd_per_month)} a month, used or not"
