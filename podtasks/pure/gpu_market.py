"""All GPU types there are, with price and stock: the question, its answer, and which one a training would get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podtasks.pure.graphql_text import escape
from podtasks.pure.pod import GpuOffer


@dataclass(frozen=True)
class GpuType:
    """A GPU type: prices in US dollars for one GPU and an hour, None where it is not rented out.

    `stock` is RunPod's word for the data centre and cloud that were asked for, "unknown" where it has none.
    `most_gpus` is how many one pod can have there, None where that is not known.
    """

    id: str
    name: str
    memory_gb: int
    secure_usd_per_hour: float | None
    community_usd_per_hour: float | None
    stock: str
    most_gpus: int | None = None

    def takes(self, gpu_count: int) -> bool:
        """Return whether a pod can have so many, as far as is known."""
        return not self.most_gpus or gpu_count <= self.most_gpus

    def offer(self, *, secure: bool) -> GpuOffer:
        """Return what it costs in one of the two clouds."""
        price = self.secure_usd_per_hour if secure else self.community_usd_per_hour
        return GpuOffer(self.id, self.name, self.memory_gb, price, self.stock)


@dataclass(frozen=True)
class Market:
    """The GPU types there are, the cheapest pod first, and what `inv train` makes of them.

    Args:
        data_center: where stock was asked for, None for anywhere.
        secure: whether pods are rented in the Secure Cloud.
        gpu_count: how many GPUs the pod has.
        wanted: the ids of the settings, in the order in which they are tried.
    """

    types: tuple[GpuType, ...]
    data_center: str | None
    secure: bool
    gpu_count: int
    max_usd_per_hour: float
    wanted: tuple[str, ...]

    def pod_usd_per_hour(self, gpu: GpuType) -> float | None:
        """Return what a pod with these GPUs costs an hour in the cloud that is rented in, None where it is not sold."""
        price = gpu.offer(secure=self.secure).usd_per_hour
        return None if price is None or not gpu.takes(self.gpu_count) else price * self.gpu_count

    def is_within_cap(self, gpu: GpuType) -> bool:
        """Return whether such a pod costs no more than the cap."""
        price = self.pod_usd_per_hour(gpu)
        # 3 x $0.10 is a little more than $0.30 in binary fractions.
        return price is not None and price <= self.max_usd_per_hour + 1e-9

    @property
    def chosen(self) -> GpuType | None:
        """The type that would be tried first: wanted, within the cap, not out of stock (flows/rent.create_pod)."""
        by_id = {gpu.id: gpu for gpu in self.types}
        wanted = (by_id[gpu_id] for gpu_id in self.wanted if gpu_id in by_id)
        return next((g for g in wanted if self.is_within_cap(g) and g.offer(secure=self.secure).in_stock), None)


def build_market_query(*, gpu_count: int, data_center: str | None, secure: bool) -> str:
    """Return the GraphQL query for all GPU types (fields: RunPod facts, section 2)."""
    where = f', dataCenterId: "{escape(data_center)}"' if data_center else ""
    lowest = f"lowestPrice(input: {{gpuCount: {gpu_count}{where}, secureCloud: {str(secure).lower()}}})"
    most = "maxGpuCountSecureCloud" if secure else "maxGpuCountCommunityCloud"
    known = f"id displayName memoryInGb {most} securePrice communityPrice"
    return f"query {{ gpuTypes {{ {known} {lowest} {{ stockStatus }} }} }}"


def parse_market(answer: Mapping[str, Any]) -> list[GpuType]:
    """Given the answer's data, return the GPU types. Raises TypeError where there is null instead of them."""
    return [_parse_type(gpu) for gpu in answer["gpuTypes"] if gpu["id"] != "unknown"]


def _parse_type(gpu: Mapping[str, Any]) -> GpuType:
    return GpuType(
        id=str(gpu["id"]),
        name=str(gpu.get("displayName") or gpu["id"]),
        memory_gb=int(gpu.get("memoryInGb") or 0),
        secure_usd_per_hour=_price(gpu.get("securePrice")),
        community_usd_per_hour=_price(gpu.get("communityPrice")),
        most_gpus=gpu.get("maxGpuCountSecureCloud", gpu.get("maxGpuCountCommunityCloud")),
        stock=str((gpu.get("lowestPrice") or {}).get("stockStatus") or "unknown"),
    )


def _price(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value else None


def sort_by_price(types: Sequence[GpuType], *, secure: bool) -> list[GpuType]:
    """Return GPU types, the cheapest first; those not sold in that cloud at the end."""

    def key(gpu: GpuType) -> tuple[float, float, str]:
        ours = gpu.secure_usd_per_hour if secure else gpu.community_usd_per_hour
        other = gpu.community_usd_per_hour if secure else gpu.secure_usd_per_hour
        return (ours or float("inf"), other or float("inf"), gpu.id)

    return sorted(types, key=key)


def describe_market(market: Market, types: Sequence[GpuType]) -> dict[str, Any]:
    """Return the document of `inv gpus --json` (docs/json.md) for these of the market's types."""
    chosen = market.chosen
    return {
        "data_center": market.data_center,
        "cloud_type": "secure" if market.secure else "community",
        "gpu_count": market.gpu_count,
        "max_usd_per_hour": market.max_usd_per_hour,
        "chosen": chosen.id if chosen else None,
        "gpus": [
            {
                "id": gpu.id,
                "name": gpu.name,
                "memory_gb": gpu.memory_gb,
                "secure_usd_per_hour": gpu.secure_usd_per_hour,
                "community_usd_per_hour": gpu.community_usd_per_hour,
                "pod_usd_per_hour": market.pod_usd_per_hour(gpu),
                "stock": gpu.stock.lower(),
                "is_wanted": gpu.id in market.wanted,
                "is_within_cap": market.is_within_cap(gpu),
                "is_chosen": gpu is chosen,
            }
            for gpu in types
        ],
    }


def build_rows(market: Market, types: Sequence[GpuType]) -> list[list[str]]:
    """Return the rows of the table: id, memory, prices of one GPU, of the pod, stock, remark."""
    return [
        [
            gpu.id,
            f"{gpu.memory_gb} GB",
            _money(gpu.secure_usd_per_hour),
            _money(gpu.community_usd_per_hour),
            _money(market.pod_usd_per_hour(gpu)),
            gpu.stock.lower(),
            _remark(market, gpu),
        ]
        for gpu in types
    ]


def explain_choice(market: Market) -> str:
    """Return which GPU type a pod would be rented with, or why none, in one sentence."""
    chosen = market.chosen
    cap = f"the cap of ${market.max_usd_per_hour:.2f}/h (max_usd_per_hour)"
    if chosen is not None:
        price = market.pod_usd_per_hour(chosen) or 0.0
        return f"inv train would rent {market.gpu_count} x {chosen.id} at ${price:.2f}/h, within {cap}"
    if market.types and not any(gpu.takes(market.gpu_count) for gpu in market.types):
        most = max(gpu.most_gpus or 0 for gpu in market.types)
        return f"no GPU type is rented with {market.gpu_count} GPUs in one pod; the most is {most}"
    by_id = {gpu.id: gpu for gpu in market.types}
    reasons = [f"{gpu_id}: {_refusal(market, by_id.get(gpu_id))}" for gpu_id in market.wanted]
    return f"inv train would find none of gpu_types; {'; '.join(reasons)}"


def _refusal(market: Market, gpu: GpuType | None) -> str:
    if gpu is None:
        return "no such type"
    if gpu.most_gpus and not gpu.takes(market.gpu_count):
        return f"at most {gpu.most_gpus} in one pod"
    price = market.pod_usd_per_hour(gpu)
    if price is None:
        return "not rented out there"
    if not market.is_within_cap(gpu):
        return f"${price:.2f}/h is above the cap of ${market.max_usd_per_hour:.2f}/h"
    return "none in stock"


def _remark(market: Market, gpu: GpuType) -> str:
    if gpu is market.chosen:
        return "<- inv train"
    parts = ["wanted"] if gpu.id in market.wanted else []
    if market.pod_usd_per_hour(gpu) is not None and not market.is_within_cap(gpu):
        parts.append("above cap")
    return ", ".join(parts)


def _money(usd: float | None) -> str:
    return "-" if usd is None else f"${usd:.2f}"
