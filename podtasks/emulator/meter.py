"""What pods and volumes have cost: seconds run times price, and disks.

Source: RunPod docs, pods/pricing (compute by the second; container disk only while running; volume disk
at twice the price while stopped; network volumes always).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from podtasks.emulator import catalogue
from podtasks.emulator.pod import RUNNING, Pod


@dataclass(frozen=True)
class Charge:
    """A time, in epoch seconds, in which something cost the same all along."""

    start: float
    end: float
    usd_per_hour: float

    def usd_between(self, start: float, end: float) -> float:
        """Return what it cost between two times."""
        return max(0.0, min(end, self.end) - max(start, self.start)) / 3600 * self.usd_per_hour


def compute_charges(pod: Pod, now: float) -> list[Charge]:
    """Return what a pod's GPUs or CPUs have cost up to now."""
    return [Charge(item.start, now if item.end is None else item.end, item.usd_per_hour) for item in pod.intervals]


def disk_charges(pod: Pod, now: float) -> list[Charge]:
    """Return what a pod's own disks have cost up to now, running and stopped in turn."""
    running, stopped = disk_usd_per_hour(pod, running=True), disk_usd_per_hour(pod, running=False)
    result, place = [], pod.created_at
    for item in compute_charges(pod, now):
        result += [Charge(place, item.start, stopped), Charge(item.start, item.end, running)]
        place = item.end
    end = now if pod.removed_at is None else pod.removed_at
    return [*result, Charge(place, end, stopped)]


def running_s(pod: Pod, now: float) -> float:
    """Return for how many seconds a pod has been billed for compute."""
    return sum(interval.seconds(now) for interval in pod.intervals)


def stopped_s(pod: Pod, now: float) -> float:
    """Return for how many seconds a pod has existed without running."""
    end = now if pod.removed_at is None else pod.removed_at
    return max(0.0, end - pod.created_at - running_s(pod, now))


def disk_usd_per_hour(pod: Pod, *, running: bool) -> float:
    """Return what a pod's own disks cost in one hour (a network volume is billed by itself)."""
    volume_gb = 0 if pod.order.network_volume_id else pod.order.volume_gb
    if running:
        monthly = (
            pod.order.container_disk_gb * catalogue.CONTAINER_DISK_USD_PER_GB_MONTH
            + volume_gb * catalogue.VOLUME_DISK_USD_PER_GB_MONTH
        )
    else:
        monthly = volume_gb * catalogue.STOPPED_VOLUME_DISK_USD_PER_GB_MONTH
    return monthly / catalogue.HOURS_PER_MONTH


def spend_usd_per_hour(pod: Pod) -> float:
    """Return what a pod costs per hour as it is now."""
    if pod.is_removed:
        return 0.0
    is_running = pod.desired == RUNNING
    return (pod.usd_per_hour if is_running else 0.0) + disk_usd_per_hour(pod, running=is_running)


def network_volume_usd_per_hour(size_gb: int) -> float:
    """Return what a network volume costs per hour, attached or not."""
    cheap_gb = max(0, size_gb - 1000)
    monthly = (
        size_gb - cheap_gb
    ) * catalogue.NETWORK_VOLUME_USD_PER_GB_MONTH + cheap_gb * catalogue.NETWORK_VOLUME_ABOVE_1TB_USD_PER_GB_MONTH
    return monthly / catalogue.HOURS_PER_MONTH


def read_pod(pod: Pod, now: float) -> dict[str, Any]:
    """Return a pod's bill so far as JSON values; times are epoch seconds."""
    run_h, rest_h = running_s(pod, now) / 3600, stopped_s(pod, now) / 3600
    compute = sum(interval.seconds(now) / 3600 * interval.usd_per_hour for interval in pod.intervals)
    disk = run_h * disk_usd_per_hour(pod, running=True) + rest_h * disk_usd_per_hour(pod, running=False)
    return {
        "id": pod.id,
        "name": pod.order.name,
        "gpu": pod.order.gpu_type_id,
        "gpu_count": pod.gpu_count,
        "usd_per_hour": pod.usd_per_hour,
        "is_running": pod.desired == RUNNING and not pod.is_removed,
        "intervals": [dataclasses.asdict(interval) for interval in pod.intervals],
        "running_s": running_s(pod, now),
        "stopped_s": stopped_s(pod, now),
        "usd_compute": compute,
        "usd_disk": disk,
        "usd": compute + disk,
    }
