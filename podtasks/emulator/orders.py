"""From the input of a GraphQL mutation to an order for a pod: defaults, price, place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podtasks.emulator import catalogue
from podtasks.emulator.catalogue import GpuType
from podtasks.emulator.cloud import Cloud
from podtasks.emulator.errors import CapacityError, CloudError, InputError, SpotCapacityError
from podtasks.emulator.pod import PodOrder
from podtasks.emulator.views import centers_for

DEFAULT_CONTAINER_DISK_GB = 10
DEFAULT_MOUNT_PATH = "/workspace"

Input = Mapping[str, Any]


@dataclass(frozen=True)
class _Place:
    gpu: GpuType
    data_center: str
    cloud: str


def gpu_order(cloud: Cloud, wish: Input) -> PodOrder:
    """Return the order of podFindAndDeployOnDemand.

    Raises:
        CapacityError: nothing fits.
        InputError, CloudError: a value makes no sense.
    """
    count = _gpu_count(wish)
    place = _find_place(cloud, wish, count)
    price = place.gpu.usd_per_hour(place.cloud)
    if price is None:
        raise CapacityError
    return _gpu_order(wish, place, count, round(price * count, 4), None)


def spot_order(cloud: Cloud, wish: Input) -> PodOrder:
    """Return the order of podRentInterruptable.

    Raises:
        SpotCapacityError: nothing fits, or the bid is below the lowest price.
        InputError, CloudError: a value makes no sense.
    """
    count = _gpu_count(wish)
    try:
        place = _find_place(cloud, wish, count)
    except CapacityError:
        raise SpotCapacityError from None
    lowest = place.gpu.spot_usd_per_hour(place.cloud)
    bid = wish.get("bidPerGpu")
    if bid is None:
        raise InputError("bidPerGpu is needed")
    if lowest is None or bid < lowest:
        raise SpotCapacityError
    return _gpu_order(wish, place, count, round(bid * count, 4), float(bid))


def cpu_order(cloud: Cloud, wish: Input) -> PodOrder:
    """Return the order of deployCpuPod.

    Raises:
        CapacityError: there is no such instance, or none is free; CPU pods are in Secure Cloud only.
        InputError, CloudError: a value makes no sense.
    """
    instance = catalogue.parse_cpu_instance(wish.get("instanceId") or catalogue.DEFAULT_CPU_INSTANCE)
    if instance is None or "SECURE" not in _cloud_kinds(wish):
        raise CapacityError
    flavour, vcpu_count, memory_gb = instance
    centers = [
        name
        for name in centers_for(catalogue.EVERYWHERE, _wished_center(cloud, wish), wish.get("countryCode"))
        if cloud.stock.free_cpus(flavour.id, name)
    ]
    if not centers:
        raise CapacityError
    return PodOrder(
        cloud="SECURE",
        data_center=centers[0],
        usd_per_hour=round(vcpu_count * flavour.usd_per_vcpu_hour, 4),
        vcpu_count=vcpu_count,
        memory_gb=memory_gb,
        cpu_flavour=flavour.id,
        **_common_fields(wish),
    )


def _gpu_order(wish: Input, place: _Place, count: int, usd_per_hour: float, bid_usd: float | None) -> PodOrder:
    return PodOrder(
        cloud=place.cloud,
        data_center=place.data_center,
        usd_per_hour=usd_per_hour,
        gpu_type_id=place.gpu.id,
        gpu_count=count,
        vcpu_count=place.gpu.vcpu_per_gpu * count,
        memory_gb=place.gpu.memory_gb_per_gpu * count,
        bid_usd=bid_usd,
        **_common_fields(wish),
    )


def _common_fields(wish: Input) -> dict[str, Any]:
    mount_path = wish.get("volumeMountPath") or DEFAULT_MOUNT_PATH
    if not mount_path.startswith("/") or mount_path == "/" or ".." in mount_path.split("/"):
        raise InputError("volumeMountPath must be an absolute path below /")
    return {
        "name": wish.get("name") or "my pod",
        "image": _image(wish),
        "env": _environment(wish),
        "docker_args": wish.get("dockerArgs") or "",
        "ports": _checked_ports(wish.get("ports")),
        "container_disk_gb": _size(wish, "containerDiskInGb", DEFAULT_CONTAINER_DISK_GB),
        "volume_gb": _size(wish, "volumeInGb", 0),
        "volume_mount_path": mount_path,
        "network_volume_id": wish.get("networkVolumeId") or None,
        "template_id": wish.get("templateId") or None,
        "start_ssh": bool(wish.get("startSsh")),
        "support_public_ip": bool(wish.get("supportPublicIp")),
    }


def _image(wish: Input) -> str:
    template_id = wish.get("templateId")
    if template_id and template_id not in catalogue.TEMPLATE_IMAGES:
        raise InputError(f"template {template_id} not found")
    image = wish.get("imageName") or catalogue.TEMPLATE_IMAGES.get(template_id or "")
    if not image:
        raise InputError("imageName is needed")
    return str(image)


def _environment(wish: Input) -> dict[str, str]:
    result = {item["key"]: item["value"] for item in wish.get("env") or [] if item is not None}
    for key, value in result.items():
        if not key or "=" in key or "\0" in key + value:
            raise InputError(f"{key!r} cannot be an environment variable")
    return result


def _checked_ports(ports: str | None) -> str | None:
    for item in (ports or "").split(","):
        number, _, kind = item.strip().partition("/")
        if item.strip() and not (number.isdigit() and kind in ("tcp", "http")):
            raise InputError(f'ports are written like "8888/http,22/tcp", not {ports!r}')
    return ports


def _size(wish: Input, name: str, default: int) -> int:
    value = wish.get(name)
    if value is not None and value < 0:
        raise InputError(f"{name} cannot be negative")
    return default if value is None else int(value)


def _gpu_count(wish: Input) -> int:
    count = wish.get("gpuCount")
    if count is not None and count < 1:
        raise InputError("gpuCount must be at least 1")
    return int(count or 1)


def _find_place(cloud: Cloud, wish: Input, count: int) -> _Place:
    """Find the first GPU type of the wish that is free somewhere; RunPod's types are in order of wish too."""
    kinds = _cloud_kinds(wish)
    center = _wished_center(cloud, wish)
    for gpu in _wished_gpus(wish):
        if not _fits(gpu, wish, count):
            continue
        offered = [kind for kind in kinds if gpu.usd_per_hour(kind) is not None]
        free = [
            name
            for name in centers_for(gpu.data_centers, center, wish.get("countryCode"))
            if cloud.stock.free_gpus(gpu.id, name) >= count
        ]
        if offered and free:
            cheapest = min(offered, key=lambda kind: gpu.usd_per_hour(kind) or 0.0)
            return _Place(gpu, free[0], cheapest)
    raise CapacityError


def _cloud_kinds(wish: Input) -> list[str]:
    kind = wish.get("cloudType") or "ALL"
    if wish.get("networkVolumeId"):
        if kind == "COMMUNITY":
            # Network volumes exist in Secure Cloud only; RunPod says no more than this (runpodctl#172).
            raise CloudError
        return ["SECURE"]
    return ["SECURE", "COMMUNITY"] if kind == "ALL" else [kind]


def _wished_center(cloud: Cloud, wish: Input) -> str | None:
    center = wish.get("dataCenterId") or None
    volume_id = wish.get("networkVolumeId")
    if not volume_id:
        return center
    volume = cloud.account.find_volume(volume_id)
    if volume is None:
        raise InputError(f"network volume {volume_id} not found")
    if center not in (None, volume.data_center):
        raise CloudError
    return volume.data_center


def _wished_gpus(wish: Input) -> list[GpuType]:
    names = [wish["gpuTypeId"]] if wish.get("gpuTypeId") else list(wish.get("gpuTypeIdList") or [])
    if not names:
        raise InputError("gpuTypeId is needed")
    unknown = [name for name in names if name not in catalogue.GPU_TYPES]
    if unknown:
        raise InputError(f"gpu type {unknown[0]} not found")
    return [catalogue.GPU_TYPES[name] for name in names]


def _fits(gpu: GpuType, wish: Input, count: int) -> bool:
    versions = [*(wish.get("allowedCudaVersions") or []), *filter(None, [wish.get("cudaVersion")])]
    return (
        count <= gpu.max_count
        and gpu.memory_gb_per_gpu * count >= (wish.get("minMemoryInGb") or 0)
        and gpu.vcpu_per_gpu * count >= (wish.get("minVcpuCount") or 0)
        and (not versions or any(version in catalogue.CUDA_VERSIONS for version in versions))
        and _version(wish.get("minCudaVersion") or "0") <= _version(catalogue.CUDA_VERSIONS[-1])
    )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdigit())
