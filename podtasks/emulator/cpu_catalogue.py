"""CPU flavours as REST v2's catalogue shows them.

Source: RunPod's REST v2 specification, GET /catalog/cpus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podtasks.emulator import catalogue
from podtasks.emulator.catalogue import CpuFlavour
from podtasks.emulator.cloud import Cloud
from podtasks.emulator.dials import stock_level
from podtasks.emulator.errors import InputError

_PRODUCTS = frozenset(("POD", "SERVERLESS"))


@dataclass(frozen=True)
class AvailabilityWish:
    """That availability is wanted, for instances of so many vCPUs."""

    vcpu_count: int


def parse_availability(query: Mapping[str, str]) -> AvailabilityWish | None:
    """Read include, product and vcpuCount; None when availability is not asked for.

    Raises:
        InputError: they do not fit together.
    """
    included, products = _words(query, "include"), _words(query, "product")
    if included - {"AVAILABILITY"}:
        raise InputError("include can be AVAILABILITY only")
    if not included:
        if products or "vcpuCount" in query:
            raise InputError("product and vcpuCount are valid only with include=AVAILABILITY")
        return None
    if not products or products - _PRODUCTS:
        raise InputError("include=AVAILABILITY needs product: POD or SERVERLESS")
    text = query.get("vcpuCount", "2")
    count = int(text) if text.isdecimal() else 0
    if count < 2 or count & (count - 1):
        raise InputError("vcpuCount must be a power of two of at least 2")
    return AvailabilityWish(count)


def view_cpu(cloud: Cloud, flavour: CpuFlavour, wish: AvailabilityWish | None) -> dict[str, Any]:
    """Return a CPU flavour, with its availability where that is wanted."""
    shown: dict[str, Any] = {
        "id": flavour.id,
        "name": flavour.name,
        "group": flavour.group,
        "vcpu": {"min": flavour.min_vcpus, "max": flavour.max_vcpus},
        "ramGbPerVcpu": flavour.memory_gb_per_vcpu,
        "price": {
            "securePerVcpu": flavour.usd_per_vcpu_hour,
            "serverlessPerVcpu": flavour.serverless_usd_per_vcpu_hour,
        },
    }
    return shown if wish is None else {**shown, **_availability(cloud, flavour, wish)}


def _availability(cloud: Cloud, flavour: CpuFlavour, wish: AvailabilityWish) -> dict[str, Any]:
    is_offered = flavour.min_vcpus <= wish.vcpu_count <= flavour.max_vcpus
    free = {center: cloud.stock.free_cpus(flavour.id, center) if is_offered else 0 for center in catalogue.DATA_CENTERS}
    centers = [
        {"id": center, "name": catalogue.DATA_CENTER_NAMES[center], "availability": stock_level(count).upper()}
        for center, count in free.items()
        if count
    ]
    availability: dict[str, Any] = {"availability": stock_level(max(free.values())).upper()}
    return {**availability, "dataCenters": centers} if centers else availability


def _words(query: Mapping[str, str], name: str) -> set[str]:
    return {word for word in query.get(name, "").split(",") if word}
