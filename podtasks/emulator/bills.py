"""The account's bills in buckets of time, under the names of REST v2.

Source: RunPod's REST v2 specification, GET /billing, /billing/pods and /billing/network-volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from podtasks.emulator import meter
from podtasks.emulator.account import NetworkVolume
from podtasks.emulator.billing_window import Window, parse_window, write_moment
from podtasks.emulator.cloud import Cloud
from podtasks.emulator.meter import Charge
from podtasks.emulator.pod import Pod

Amounts = dict[str, float]
Query = Mapping[str, str]

_POD_PARTS = ("gpuAmount", "cpuAmount", "diskAmount")
_VOLUME_PARTS = ("standardAmount", "highPerformanceAmount")
_ALL_PARTS = (
    *("podGpuAmount", "podCpuAmount", "podDiskAmount"),
    *("serverlessGpuAmount", "serverlessCpuAmount", "serverlessDiskAmount", "serverlessFeeAmount"),
    *("storageStandardAmount", "storageHighPerformanceAmount", "endpointAmount"),
    *("clusterGpuAmount", "clusterDiskAmount", "clusterNetworkingAmount"),
)


def list_pods(cloud: Cloud, query: Query, now: float) -> dict[str, Any]:
    """Return the answer of GET /billing/pods: a record for each pod in each bucket in which it cost something.

    Raises:
        InputError, SchemaError: a parameter makes no sense.
    """
    window, wanted = parse_window(query, now), query.get("podId")
    pods = [pod for pod in cloud.pods if wanted in (None, pod.id)]
    charges = {pod.id: _pod_charges(pod, now) for pod in pods}
    records = _records(window, charges, _POD_PARTS, "podId")
    return _answer(window, records, _POD_PARTS, {"podId": wanted}, {"uniquePodCount": _count(records, "podId")})


def list_volumes(cloud: Cloud, query: Query, now: float) -> dict[str, Any]:
    """Return the answer of GET /billing/network-volumes, likewise.

    Raises:
        InputError, SchemaError: a parameter makes no sense.
    """
    window, wanted = parse_window(query, now), query.get("networkVolumeId")
    volumes = [volume for volume in cloud.account.volumes if wanted in (None, volume.id)]
    charges = {volume.id: _volume_charges(volume, now) for volume in volumes}
    records = _records(window, charges, _VOLUME_PARTS, "networkVolumeId")
    count = {"uniqueNetworkVolumeCount": _count(records, "networkVolumeId")}
    return _answer(window, records, _VOLUME_PARTS, {"networkVolumeId": wanted}, count)


def list_all(cloud: Cloud, query: Query, now: float) -> dict[str, Any]:
    """Return the answer of GET /billing: one record for each bucket in which the account spent something.

    Raises:
        InputError, SchemaError: a parameter makes no sense.
    """
    window = parse_window(query, now)
    charges = [
        *(_renamed("pod", part, charge) for pod in cloud.pods for part, charge in _pod_charges(pod, now)),
        *(
            _renamed("storage", part, charge)
            for volume in cloud.account.volumes
            for part, charge in _volume_charges(volume, now)
        ),
    ]
    records = _records(window, {"": charges}, _ALL_PARTS, None)
    return _answer(window, records, _ALL_PARTS, {}, {})


def _pod_charges(pod: Pod, now: float) -> list[tuple[str, Charge]]:
    compute = "gpuAmount" if pod.order.gpu_type_id else "cpuAmount"
    return [
        *((compute, charge) for charge in meter.compute_charges(pod, now)),
        *(("diskAmount", charge) for charge in meter.disk_charges(pod, now)),
    ]


def _volume_charges(volume: NetworkVolume, now: float) -> list[tuple[str, Charge]]:
    usd_per_hour = meter.network_volume_usd_per_hour(volume.size_gb)
    return [("standardAmount", Charge(volume.created_at, now, usd_per_hour))]


def _renamed(family: str, part: str, charge: Charge) -> tuple[str, Charge]:
    return f"{family}{part[0].upper()}{part[1:]}", charge


def _records(
    window: Window, charges_of: Mapping[str, list[tuple[str, Charge]]], parts: Iterable[str], id_name: str | None
) -> list[dict[str, Any]]:
    found: dict[tuple[float, float, str], Amounts] = {}
    for owner, charges in charges_of.items():
        for part, charge in charges:
            for start, end in window.buckets(charge.start, charge.end):
                usd = charge.usd_between(start, end)
                if usd > 0:
                    amounts = found.setdefault((start, end, owner), dict.fromkeys(parts, 0.0))
                    amounts[part] += usd
    return [
        {
            **_span(start, end),
            **({} if id_name is None else {id_name: owner}),
            "totalAmount": sum(amounts.values()),
            **amounts,
        }
        for (start, end, owner), amounts in sorted(found.items(), key=lambda item: item[0])
    ]


def _answer(
    window: Window,
    records: list[dict[str, Any]],
    parts: Iterable[str],
    filters: Mapping[str, str | None],
    counts: Mapping[str, int],
) -> dict[str, Any]:
    total: Callable[[str], float] = lambda part: sum(record[part] for record in records)  # noqa: E731
    return {
        "records": records,
        "metadata": {
            "query": {**_span(window.start, window.end), "bucketSize": window.bucket_size, **filters},
            "recordCount": len(records),
            **counts,
            "totals": {part: total(part) for part in ("totalAmount", *parts)},
        },
    }


def _span(start: float, end: float) -> dict[str, str]:
    return {"startTime": write_moment(start), "endTime": write_moment(end)}


def _count(records: Iterable[Mapping[str, Any]], id_name: str) -> int:
    return len({record[id_name] for record in records})
