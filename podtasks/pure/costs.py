"""What was spent, by the UTC day: RunPod's bills beside what the runs' records account for, and storage prices."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podtasks.pure.bills import PodBill, VolumeBill
from podtasks.pure.run_costs import cost_usd, ended_at, launched_at, usd_per_hour

# RunPod docs, pods/pricing (August 2026), per GB and month.
VOLUME_USD_PER_GB_MONTH = 0.07
VOLUME_ABOVE_1TB_USD_PER_GB_MONTH = 0.05
TB_GB = 1000
DAYS_PER_MONTH = 730 / 24
DAY_S = 86400.0


@dataclass(frozen=True)
class Storage:
    """The project's network volume: its id, its size, and what it costs a month, in US dollars."""

    volume_id: str
    size_gb: int

    @property
    def usd_per_month(self) -> float:
        """Return the price of a month."""
        above_gb = max(0, self.size_gb - TB_GB)
        return (self.size_gb - above_gb) * VOLUME_USD_PER_GB_MONTH + above_gb * VOLUME_ABOVE_1TB_USD_PER_GB_MONTH


@dataclass(frozen=True)
class Bills:
    """What RunPod billed on the account."""

    pods: tuple[PodBill, ...]
    volumes: tuple[VolumeBill, ...]


@dataclass
class Day:
    """What one UTC day cost, in US dollars. `runs_usd` is what runs account for; the rest is RunPod's bill."""

    day: datetime.date
    runs_usd: float = 0.0
    gpu_usd: float = 0.0
    cpu_usd: float = 0.0
    disk_usd: float = 0.0
    storage_usd: float = 0.0

    @property
    def total_usd(self) -> float:
        """All that is billed."""
        return self.gpu_usd + self.cpu_usd + self.disk_usd + self.storage_usd


@dataclass(frozen=True)
class Costs:
    """What the days and runs cost.

    Args:
        days: the oldest first, each of the days asked for.
        runs: each run of these days, the newest first: its record, and what these days saw of its cost.
        is_billed: whether the days are RunPod's bills; else they are worked out from records and prices.
        parts: what the total is made of, for people; in US dollars, it adds up to the total.
    """

    days: tuple[Day, ...]
    runs: tuple[tuple[Mapping[str, Any], float], ...]
    storage: Storage | None
    is_billed: bool
    parts: tuple[tuple[str, float], ...] = field(default=())

    @property
    def total_usd(self) -> float:
        """All that is billed, or estimated, for these days."""
        return sum(day.total_usd for day in self.days)


def count_costs(
    records: Sequence[Mapping[str, Any]],
    active_run_id: str | None,
    bills: Bills | None,
    storage: Storage | None,
    *,
    days: int,
    now: float,
) -> Costs:
    """Return what the last `days` UTC days cost, today included; estimated where there are no bills."""
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    by_day = {today - datetime.timedelta(days=back): Day(today - datetime.timedelta(days=back)) for back in range(days)}
    runs = []
    for record in records:
        shares = [(day, usd) for day, usd in _split_run(record, active_run_id, now) if day in by_day]
        for day, usd in shares:
            by_day[day].runs_usd += usd
        if shares:
            runs.append((record, sum(usd for _, usd in shares)))
    if bills is None:
        _estimate(by_day.values(), storage, now)
        parts = _estimated_parts(by_day.values())
    else:
        _add_bills(by_day, bills)
        parts = _billed_parts(by_day, bills, {_pod_id(record) for record in records})
    return Costs(tuple(sorted(by_day.values(), key=lambda d: d.day)), tuple(runs), storage, bills is not None, parts)


def _split_run(
    record: Mapping[str, Any], active_run_id: str | None, now: float
) -> Iterator[tuple[datetime.date, float]]:
    """Yield what a run cost on each UTC day; nothing where that is not known."""
    is_running = record.get("run_id") == active_run_id and ended_at(record) is None
    began, price = launched_at(record), usd_per_hour(record)
    if began is None or price is None or cost_usd(record, now, is_running=is_running) is None:
        return
    end = max(began, ended_at(record) or now)
    while True:
        midnight = (began // DAY_S + 1) * DAY_S
        until = min(end, midnight)
        yield datetime.datetime.fromtimestamp(began, datetime.timezone.utc).date(), (until - began) / 3600 * price
        if end <= midnight:
            return
        began = midnight


def _estimate(days: Iterable[Day], storage: Storage | None, now: float) -> None:
    """Fill in what can be worked out: the runs' time as GPU, and the volume's price, today as far as it has come."""
    today = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).date()
    daily = 0.0 if storage is None else storage.usd_per_month / DAYS_PER_MONTH
    for day in days:
        day.gpu_usd = day.runs_usd
        day.storage_usd = daily * (now % DAY_S / DAY_S if day.day == today else 1.0)


def _add_bills(by_day: Mapping[datetime.date, Day], bills: Bills) -> None:
    for pod in bills.pods:
        if pod.day in by_day:
            day = by_day[pod.day]
            day.gpu_usd, day.cpu_usd = day.gpu_usd + pod.gpu_usd, day.cpu_usd + pod.cpu_usd
            day.disk_usd += pod.disk_usd
    for volume in bills.volumes:
        if volume.day in by_day:
            by_day[volume.day].storage_usd += volume.total_usd


def _estimated_parts(days: Iterable[Day]) -> tuple[tuple[str, float], ...]:
    listed = list(days)
    return (
        ("runs, from launch to end", sum(day.runs_usd for day in listed)),
        ("network volume", sum(day.storage_usd for day in listed)),
    )


def _billed_parts(
    by_day: Mapping[datetime.date, Day], bills: Bills, pod_ids: set[str]
) -> tuple[tuple[str, float], ...]:
    """Return what the bills are for; parts that came to nothing are left out."""
    pods = [pod for pod in bills.pods if pod.day in by_day]
    runs_usd = sum(day.runs_usd for day in by_day.values())
    training = sum(pod.gpu_usd for pod in pods if pod.pod_id in pod_ids)
    parts = [
        ("runs, from launch to end", runs_usd),
        ("boot and idle time of their pods", max(0.0, training - runs_usd)),
        ("not billed yet", min(0.0, training - runs_usd)),
        ("other GPU pods of the account", sum(pod.gpu_usd for pod in pods if pod.pod_id not in pod_ids)),
        ("CPU pods, such as those that copy files", sum(pod.cpu_usd for pod in pods)),
        ("pods' own disks", sum(pod.disk_usd for pod in pods)),
        ("network volumes", sum(day.storage_usd for day in by_day.values())),
    ]
    always = ("runs, from launch to end", "network volumes")
    return tuple((name, usd) for name, usd in parts if usd or name in always)


def _pod_id(record: Mapping[str, Any]) -> str:
    return str((record.get("pod") or {}).get("id"))


def describe_costs(costs: Costs, note: str) -> dict[str, Any]:
    """Return the document of `inv cost --json` (docs/json.md)."""
    storage = costs.storage
    return {
        "source": "bills" if costs.is_billed else "estimate",
        "note": note or None,
        "total_usd": costs.total_usd,
        "days": [
            {
                "day": day.day.isoformat(),
                "runs_usd": day.runs_usd,
                "gpu_usd": day.gpu_usd,
                "cpu_usd": day.cpu_usd,
                "disk_usd": day.disk_usd,
                "storage_usd": day.storage_usd,
                "total_usd": day.total_usd,
            }
            for day in costs.days
        ],
        "runs": [
            {
                "run_id": record.get("run_id"),
                "launched_at": launched_at(record),
                "ended_at": ended_at(record),
                "usd_per_hour": usd_per_hour(record),
                "cost_usd": usd,
            }
            for record, usd in costs.runs
        ],
        "parts": [{"name": name, "usd": usd} for name, usd in costs.parts],
        "storage": storage
        and {"volume_id": storage.volume_id, "size_gb": storage.size_gb, "usd_per_month": storage.usd_per_month},
    }
