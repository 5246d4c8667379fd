"""What can be rented: GPU types, CPU flavours, data centres and their prices.

Ids and memory: RunPod docs, references/gpu-types. Prices: the ones seen in RunPod's own samples and
public catalogues in 2026; they are examples, never to be taken for today's.
"""

from __future__ import annotations

from dataclasses import dataclass

DATA_CENTERS = {
    "EU-RO-1": "RO",
    "EU-CZ-1": "CZ",
    "EUR-IS-1": "IS",
    "US-KS-2": "US",
    "US-CA-2": "US",
    "US-GA-2": "US",
}
EVERYWHERE = tuple(DATA_CENTERS)

CUDA_VERSIONS = ("12.4", "12.6", "12.8", "12.9", "13.0")
CUDA_VERSION = "12.8.1"

CONTAINER_DISK_USD_PER_GB_MONTH = 0.10
VOLUME_DISK_USD_PER_GB_MONTH = 0.10
STOPPED_VOLUME_DISK_USD_PER_GB_MONTH = 0.20
NETWORK_VOLUME_USD_PER_GB_MONTH = 0.07
NETWORK_VOLUME_ABOVE_1TB_USD_PER_GB_MONTH = 0.05
HOURS_PER_MONTH = 730

DATA_CENTER_NAMES = {
    "EU-RO-1": "EU Romania 1",
    "EU-CZ-1": "EU Czechia 1",
    "EUR-IS-1": "Europe Iceland 1",
    "US-KS-2": "US Kansas 2",
    "US-CA-2": "US California 2",
    "US-GA-2": "US Georgia 2",
}

DEFAULT_CPU_INSTANCE = "cpu3c-2-4"

TEMPLATE_IMAGES = {
    "runpod-ubuntu": "runpod/base:1.0.3-ubuntu2204",
    "runpod-torch-v280": "runpod/pytorch:1.0.3-cu1281-torch280-ubuntu2404",
}


@dataclass(frozen=True)
class GpuType:
    """One kind of GPU and what it costs; prices in USD per GPU and hour, None where not offered."""

    id: str
    display_name: str
    memory_gb: int
    secure_usd: float
    community_usd: float | None
    cuda_cores: int
    max_count: int = 8
    vcpu_per_gpu: int = 8
    memory_gb_per_gpu: int = 62
    data_centers: tuple[str, ...] = EVERYWHERE

    def usd_per_hour(self, cloud: str) -> float | None:
        """Return the price of one GPU for an hour in SECURE or COMMUNITY cloud."""
        return self.secure_usd if cloud == "SECURE" else self.community_usd

    def spot_usd_per_hour(self, cloud: str) -> float | None:
        """Return the lowest bid taken for one GPU and hour: half the price on demand."""
        price = self.usd_per_hour(cloud)
        return None if price is None else round(price / 2, 3)


_GPU_TYPES = (
    GpuType("NVIDIA GeForce RTX 4090", "RTX 4090", 24, 0.69, 0.34, 16384),
    GpuType("NVIDIA GeForce RTX 5090", "RTX 5090", 32, 0.99, 0.69, 21760),
    GpuType("NVIDIA GeForce RTX 3090", "RTX 3090", 24, 0.46, 0.22, 10496),
    GpuType("NVIDIA RTX A4000", "RTX A4000", 16, 0.25, 0.17, 6144),
    GpuType("NVIDIA RTX A6000", "RTX A6000", 48, 0.49, 0.33, 10752, data_centers=("EU-RO-1", "US-KS-2")),
    GpuType("NVIDIA L40S", "L40S", 48, 0.86, 0.79, 18176, data_centers=("EU-RO-1", "US-KS-2", "US-GA-2")),
    GpuType("NVIDIA A100 80GB PCIe", "A100 PCIe", 80, 1.39, 1.19, 6912, memory_gb_per_gpu=117),
    GpuType("NVIDIA A100-SXM4-80GB", "A100 SXM", 80, 1.59, 1.39, 6912, memory_gb_per_gpu=125),
    GpuType("NVIDIA H100 PCIe", "H100 PCIe", 80, 2.79, 1.99, 14592, memory_gb_per_gpu=176),
    GpuType("NVIDIA H100 80GB HBM3", "H100 SXM", 80, 3.29, 2.69, 16896, memory_gb_per_gpu=220),
    GpuType("NVIDIA H200", "H200 SXM", 141, 4.59, None, 16896, memory_gb_per_gpu=276, data_centers=("US-CA-2",)),
    GpuType("NVIDIA B200", "B200", 180, 5.99, None, 18432, memory_gb_per_gpu=283, data_centers=("US-CA-2",)),
)
GPU_TYPES = {gpu.id: gpu for gpu in _GPU_TYPES}


@dataclass(frozen=True)
class CpuFlavour:
    """One kind of CPU instance; prices in USD per vCPU and hour."""

    id: str
    name: str
    group: str
    memory_gb_per_vcpu: int
    usd_per_vcpu_hour: float
    serverless_usd_per_vcpu_hour: float
    min_vcpus: int = 2
    max_vcpus: int = 32


_CPU_FLAVOURS = (
    CpuFlavour("cpu3c", "Compute-Optimized", "Gen 3", 2, 0.03, 0.036),
    CpuFlavour("cpu3g", "General Purpose", "Gen 3", 4, 0.04, 0.048),
    CpuFlavour("cpu3m", "Memory-Optimized", "Gen 3", 8, 0.05, 0.06),
    CpuFlavour("cpu5c", "Compute-Optimized", "Gen 5", 2, 0.035, 0.042),
)
CPU_FLAVOURS = {flavour.id: flavour for flavour in _CPU_FLAVOURS}


def parse_cpu_instance(instance_id: str) -> tuple[CpuFlavour, int, int] | None:
    """Split a CPU instance id such as "cpu3c-2-4" into flavour, vCPUs and memory in GB.

    Returns:
        None when it is not the id of an instance that is offered: vCPUs are a power of two within the
        flavour's limits, the memory follows from them.
    """
    flavour_id, _, sizes = instance_id.partition("-")
    flavour = CPU_FLAVOURS.get(flavour_id)
    vcpu_text, _, memory_text = sizes.partition("-")
    if flavour is None or not (vcpu_text.isdecimal() and memory_text.isdecimal()):
        return None
    vcpus, memory_gb = int(vcpu_text), int(memory_text)
    is_size = flavour.min_vcpus <= vcpus <= flavour.max_vcpus and vcpus & (vcpus - 1) == 0
    return (flavour, vcpus, memory_gb) if is_size and memory_gb == vcpus * flavour.memory_gb_per_vcpu else None


def country_of(data_center: str) -> str:
    """Return the two-letter country code of a data centre."""
    return DATA_CENTERS[data_center]
