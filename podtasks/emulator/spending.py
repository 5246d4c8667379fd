"""What the whole account spends and has spent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from podtasks.emulator import meter
from podtasks.emulator.account import Account
from podtasks.emulator.pod import Pod


def spend_usd_per_hour(account: Account, pods: Iterable[Pod]) -> float:
    """Return what the account spends per hour as things are."""
    volumes = sum(meter.network_volume_usd_per_hour(volume.size_gb) for volume in account.volumes)
    return volumes + sum(meter.spend_usd_per_hour(pod) for pod in pods)


def read_meter(account: Account, pods: Iterable[Pod], now: float) -> dict[str, Any]:
    """Return the bills of pods, removed ones included, and of the network volumes, as JSON values.

    Args:
        account: the account.
        pods: every pod that ever was.
        now: up to when, in epoch seconds.
    """
    bills = [meter.read_pod(pod, now) for pod in pods]
    volumes = [
        {
            "id": volume.id,
            "usd": meter.network_volume_usd_per_hour(volume.size_gb) * (now - volume.created_at) / 3600,
        }
        for volume in account.volumes
    ]
    total = sum(item["usd"] for item in [*bills, *volumes])
    return {"now": now, "pods": bills, "network_volumes": volumes, "usd": total}
