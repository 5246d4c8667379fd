"""What the API shows of the cloud's things, under GraphQL's names.

Source: RunPod's GraphQL types; runpodctl#315 for what the platform really shows (runtime null until the
container runs, stale afterwards; uptimeSeconds always 0).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

from podtasks.emulator import catalogue, meter
from podtasks.emulator.account import NetworkVolume
from podtasks.emulator.catalogue import GpuType
from podtasks.emulator.cloud import Cloud
from podtasks.emulator.dials import stock_level
from podtasks.emulator.environment import LOOPBACK
from podtasks.emulator.pod import RUNNING, Pod
from podtasks.emulator.spending import read_meter, spend_usd_per_hour
from podtasks.emulator.start_troubles import NO_CONTAINER, NO_PORT


def view_account(cloud: Cloud) -> dict[str, Any]:
    """Return GraphQL's User."""
    account, spent = cloud.account, read_meter(cloud.account, cloud.pods, time.time())["usd"]
    return {
        "id": account.id,
        "email": account.email,
        "pubKey": account.public_key,
        "clientBalance": round(cloud.dials.balance_usd - spent, 6),
        "currentSpendPerHr": round(spend_usd_per_hour(cloud.account, cloud.pods.listed()), 6),
        "spendLimit": 80,
        "minBalance": 0.0,
        "underBalance": spent > cloud.dials.balance_usd,
        "pods": [view_pod(cloud, pod) for pod in cloud.pods.listed()],
        "networkVolumes": [view_network_volume(volume) for volume in account.volumes],
    }


def view_network_volume(volume: NetworkVolume) -> dict[str, Any]:
    """Return GraphQL's NetworkVolume."""
    return {
        "id": volume.id,
        "name": volume.name,
        "size": volume.size_gb,
        "dataCenterId": volume.data_center,
    }


def view_rest_volume(volume: NetworkVolume) -> dict[str, Any]:
    """Return REST v2's NetworkVolume."""
    return {
        "id": volume.id,
        "name": volume.name,
        "size": volume.size_gb,
        "dataCenter": volume.data_center,
        "type": "STANDARD",
    }


def _listed_environment(cloud: Cloud, pod: Pod) -> dict[str, str]:
    return {**pod.order.env, **cloud.host.sandbox.listed_environment(pod)}


def view_pod(cloud: Cloud, pod: Pod) -> dict[str, Any]:
    """Return GraphQL's Pod."""
    order = pod.order
    volume = cloud.account.find_volume(order.network_volume_id or "")
    return {
        "id": pod.id,
        "adjustedCostPerHr": round(meter.spend_usd_per_hour(pod), 6),
        "apiKey": None,
        "consumerUserId": cloud.account.id,
        "containerDiskInGb": order.container_disk_gb,
        "costMultiplier": 1.0,
        "costPerHr": pod.usd_per_hour,
        "cpuFlavorId": order.cpu_flavour,
        "createdAt": rfc3339(pod.created_at),
        "desiredStatus": pod.desired,
        "dockerArgs": order.docker_args,
        "dockerId": None,
        "env": [f"{key}={value}" for key, value in _listed_environment(cloud, pod).items()],
        "gpuCount": pod.gpu_count,
        "gpus": [{"id": f"{pod.machine_id}-{index}", "podId": pod.id} for index in range(pod.gpu_count)],
        "imageName": order.image,
        "lastStartedAt": rfc3339(pod.started_at),
        "lastStatusChange": pod.last_status_change,
        "locked": False,
        "lowestBidPriceToResume": _lowest_bid(pod),
        "machine": _view_machine(cloud, pod),
        "machineId": pod.machine_id,
        "machineType": "SECURE_CLOUD" if order.cloud == "SECURE" else "COMMUNITY_CLOUD",
        "memoryInGb": order.memory_gb,
        "name": order.name,
        "networkVolume": None if volume is None else view_network_volume(volume),
        "networkVolumeId": order.network_volume_id,
        "podType": "INTERRUPTABLE" if pod.is_spot else "RESERVED",
        "port": None,
        "ports": order.ports,
        "runtime": view_runtime(cloud, pod),
        "templateId": order.template_id,
        "uptimeSeconds": 0,
        "vcpuCount": order.vcpu_count,
        "version": pod.version,
        "volumeEncrypted": False,
        "volumeInGb": 0 if order.network_volume_id else order.volume_gb,
        "volumeKey": None,
        "volumeMountPath": cloud.host.sandbox.volume_mount_path(pod),
    }


def view_runtime(cloud: Cloud, pod: Pod) -> dict[str, Any] | None:
    """Return GraphQL's PodRuntime as the telemetry has it at this moment: late, and stale after changes."""
    ports = _ports_shown(cloud, pod, time.time())
    if ports is None:
        return None
    use = dict.fromkeys(("gpuUtilPercent", "memoryUtilPercent"), cloud.dials.gpu_util_percent)
    return {
        "uptimeInSeconds": int(time.time() - pod.started_at),
        "ports": [*_view_tcp_ports(pod, ports), *_view_http_ports(pod)],
        "gpus": [{"id": f"{pod.machine_id}-{index}", **use} for index in range(pod.gpu_count)],
        "container": {"cpuPercent": 0.0, "memoryPercent": 0.0},
    }


def view_gpu_type(cloud: Cloud, gpu: GpuType) -> dict[str, Any]:
    """Return GraphQL's GpuType; its lowestPrice is a function of the field's input."""
    return {
        "id": gpu.id,
        "displayName": gpu.display_name,
        "manufacturer": "Nvidia",
        "memoryInGb": gpu.memory_gb,
        "cudaCores": gpu.cuda_cores,
        "maxGpuCount": gpu.max_count,
        "maxGpuCountSecureCloud": gpu.max_count,
        "maxGpuCountCommunityCloud": gpu.max_count if gpu.community_usd else 0,
        "secureCloud": True,
        "communityCloud": gpu.community_usd is not None,
        "securePrice": gpu.secure_usd,
        "communityPrice": gpu.community_usd,
        "secureSpotPrice": gpu.spot_usd_per_hour("SECURE"),
        "communitySpotPrice": gpu.spot_usd_per_hour("COMMUNITY"),
        "oneWeekPrice": None,
        "oneMonthPrice": None,
        "threeMonthPrice": None,
        "sixMonthPrice": None,
        "lowestPrice": lambda filters: view_lowest_price(cloud, gpu, filters),
    }


def view_lowest_price(cloud: Cloud, gpu: GpuType, filters: Mapping[str, Any]) -> dict[str, Any]:
    """Return GraphQL's LowestPrice for a number of GPUs, a data centre or country, and a kind of cloud."""
    count = filters.get("gpuCount") or 1
    centers = centers_for(gpu.data_centers, filters.get("dataCenterId"), filters.get("countryCode"))
    most_free = max((cloud.stock.free_gpus(gpu.id, center) for center in centers), default=0)
    total = sum(cloud.dials.amount(gpu.id, center) for center in centers)
    is_available = most_free >= count and count <= gpu.max_count
    secure = filters.get("secureCloud")
    kinds = ["SECURE", "COMMUNITY"] if secure is None else ["SECURE" if secure else "COMMUNITY"]
    return {
        "gpuName": gpu.display_name,
        "gpuTypeId": gpu.id,
        "minimumBidPrice": _lowest(gpu.spot_usd_per_hour(kind) for kind in kinds) if is_available else None,
        "uninterruptablePrice": _lowest(gpu.usd_per_hour(kind) for kind in kinds) if is_available else None,
        "minMemory": gpu.memory_gb_per_gpu * count if is_available else None,
        "minVcpu": gpu.vcpu_per_gpu * count if is_available else None,
        "stockStatus": stock_level(most_free) if is_available else "None",
        "maxUnreservedGpuCount": min(most_free, gpu.max_count),
        "availableGpuCounts": list(range(1, min(most_free, gpu.max_count) + 1)),
        "totalCount": total,
        "rentedCount": total - sum(cloud.stock.free_gpus(gpu.id, center) for center in centers),
        "rentalPercentage": None,
        "countryCode": catalogue.country_of(centers[0]) if centers else None,
        "supportPublicIp": True,
        "compliance": None,
    }


def centers_for(offered: tuple[str, ...], center: str | None, country: str | None) -> list[str]:
    """Return the data centres that offer something and fit; country codes must be upper case."""
    return [
        name
        for name in offered
        if (not center or name == center) and (not country or catalogue.country_of(name) == country)
    ]


def rfc3339(moment: float) -> str:
    """Return an epoch time as RunPod's API writes times."""
    return datetime.fromtimestamp(moment, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _ports_shown(cloud: Cloud, pod: Pod, now: float) -> dict[int, int] | None:
    dials = cloud.dials
    if pod.start_trouble in (NO_CONTAINER, NO_PORT):
        return None
    if pod.desired != RUNNING:
        is_stale = pod.stopped_at is not None and now < pod.stopped_at + dials.stale_runtime_s
        return pod.public_ports if is_stale else None
    since_start_s = now - pod.started_at
    if pod.stale_ports and since_start_s < dials.stale_port_s:
        return pod.stale_ports
    has_container = pod.container is not None or dials.ssh_s > dials.ports_s
    return pod.public_ports if has_container and since_start_s >= dials.ports_s else None


def _view_tcp_ports(pod: Pod, ports: dict[int, int]) -> list[dict[str, Any]]:
    is_public = pod.order.cloud == "SECURE" or pod.order.support_public_ip
    return [
        {
            "ip": LOOPBACK if is_public else "100.65.0.7",
            "isIpPublic": is_public,
            "privatePort": private,
            "publicPort": ports[private],
            "type": "tcp",
        }
        for private in pod.order.private_ports("tcp")
        if private in ports
    ]


def _view_http_ports(pod: Pod) -> list[dict[str, Any]]:
    return [
        {
            "ip": "100.65.0.7",
            "isIpPublic": False,
            "privatePort": private,
            "publicPort": 60000 + private % 1000,
            "type": "http",
        }
        for private in pod.order.private_ports("http")
    ]


def _view_machine(cloud: Cloud, pod: Pod) -> dict[str, Any]:
    order = pod.order
    gpu = catalogue.GPU_TYPES.get(order.gpu_type_id or "")
    return {
        "id": pod.machine_id,
        "podHostId": pod.host_id,
        "costPerHr": pod.usd_per_hour,
        "currentPricePerGpu": gpu.usd_per_hour(order.cloud) if gpu else None,
        "dataCenterId": order.data_center,
        "diskMBps": 2000,
        "gpuAvailable": cloud.stock.free_gpus(gpu.id, order.data_center) if gpu else 0,
        "gpuDisplayName": gpu.display_name if gpu else None,
        "gpuTypeId": order.gpu_type_id,
        "location": catalogue.country_of(order.data_center),
        "maxDownloadSpeedMbps": 5000,
        "maxUploadSpeedMbps": 5000,
        "minPodGpuCount": 1,
        "runpodIp": LOOPBACK,
        "secureCloud": order.cloud == "SECURE",
        "supportPublicIp": order.cloud == "SECURE" or order.support_public_ip,
    }


def _lowest_bid(pod: Pod) -> float | None:
    gpu = catalogue.GPU_TYPES.get(pod.order.gpu_type_id or "")
    return gpu.spot_usd_per_hour(pod.order.cloud) if gpu and pod.is_spot else None


def _lowest(prices: Any) -> float | None:  # noqa: ANN401 (an iterable of prices or None)
    return min((price for price in prices if price is not None), default=None)
