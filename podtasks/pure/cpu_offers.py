"""What a CPU pod costs: RunPod's catalogue of CPU flavors, and the instance ids that name one with its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CpuOffer:
    """What a CPU instance costs.

    Args:
        id: the instance's id, such as cpu3c-2-4: flavor, vCPUs, GB of memory.
        name: what RunPod calls the flavor.
        vcpus: how many virtual CPUs it has.
        memory_gb: its memory in GB.
        usd_per_hour: the price of the whole pod.
    """

    id: str
    name: str
    vcpus: int
    memory_gb: float
    usd_per_hour: float


def parse_cpu_offer(answer: Mapping[str, Any], instance_id: str) -> CpuOffer | None:
    """Given the catalogue of CPU flavors, return what an instance costs, None where there is none of that name.

    RunPod REST v2, GET /catalog/cpus: prices are per vCPU; `id` is a flavor, in one example an instance.
    """
    flavor, vcpus, memory_gb = split_instance_id(instance_id)
    for cpu in answer["cpus"]:
        if cpu["id"] == instance_id or (cpu["id"] == flavor and _has_size(cpu["vcpu"], vcpus)):
            price = float(cpu["price"]["securePerVcpu"]) * vcpus
            return CpuOffer(instance_id, str(cpu.get("name") or flavor), vcpus, memory_gb, price)
    return None


def split_instance_id(instance_id: str) -> tuple[str, int, float]:
    """Return flavor, vCPUs and GB of memory that an instance id such as cpu3c-2-4 names. Raises ValueError."""
    flavor, vcpus, memory_gb = instance_id.rsplit("-", 2)
    return flavor, int(vcpus), float(memory_gb)


def _has_size(vcpu: Mapping[str, Any], vcpus: int) -> bool:
    return int(vcpu["min"]) <= vcpus <= int(vcpu["max"])
