"""What RunPod has billed, as frozen values: REST v2's records of pods and of network volumes, by the UTC day."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PodBill:
    """What one pod cost on one UTC day, in US dollars."""

    day: datetime.date
    pod_id: str
    gpu_usd: float
    cpu_usd: float
    disk_usd: float

    @property
    def total_usd(self) -> float:
        """All of it."""
        return self.gpu_usd + self.cpu_usd + self.disk_usd


@dataclass(frozen=True)
class VolumeBill:
    """What one network volume cost on one UTC day, in US dollars."""

    day: datetime.date
    volume_id: str
    total_usd: float


def parse_pod_bills(answer: Mapping[str, Any]) -> list[PodBill]:
    """Given GET /billing/pods, return its records. Raises KeyError, TypeError or ValueError when it makes no sense."""
    return [
        PodBill(
            _day(record),
            str(record["podId"]),
            float(record["gpuAmount"] or 0),
            float(record["cpuAmount"] or 0),
            float(record["diskAmount"] or 0),
        )
        for record in answer["records"] or []
    ]


def parse_volume_bills(answer: Mapping[str, Any]) -> list[VolumeBill]:
    """Given GET /billing/network-volumes, return its records. Raises KeyError, TypeError or ValueError likewise."""
    return [
        VolumeBill(_day(record), str(record["networkVolumeId"]), float(record["totalAmount"] or 0))
        for record in answer["records"] or []
    ]


def _day(record: Mapping[str, Any]) -> datetime.date:
    return datetime.date.fromisoformat(str(record["startTime"])[:10])
