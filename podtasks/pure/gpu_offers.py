"""The question for prices and stock of GPU types, its answer, and the choice among the offers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from podtasks.pure.errors import PlanError
from podtasks.pure.graphql_text import escape
from podtasks.pure.pod import GpuOffer
from podtasks.pure.suggestion import find_nearest


def build_offers_query(
    gpu_types: Sequence[str], *, gpu_count: int, data_center: str | None, secure: bool
) -> str:
    """Return one GraphQL query for price and stock of all `gpu_types` (fields: RunPod facts, section 2)."""
    where = f', dataCenterId: "{escape(data_center)}"' if data_center else ""
    lowest = f"lowestPrice(input: {{gpuCount: {gpu_count}{where}, secureCloud: {str(secure).lower()}}})"
    fields = f"id displayName memoryInGb securePrice communityPrice {lowest} {{ stockStatus }}"
    parts = [
        f'g{number}: gpuTypes(input: {{id: "{escape(gpu)}"}}) {{ {fields} }}'
        for number, gpu in enumerate(gpu_types)
    ]
    return "query { " + " ".join(parts) + " }"


def parse_offers(answer: Mapping[str, Any], gpu_types: Sequence[str], *, secure: bool) -> list[GpuOffer]:
    """Given the answer's data, return an offer for each GPU type that exists, in the order asked."""
    found = [answer[f"g{number}"] for number in range(len(gpu_types))]
    if None in found:
        # An unknown GPU type is an empty list; null is an API in trouble.
        raise TypeError("a GPU type is null")
    return [_parse_offer(gpus[0], secure) for gpus in found if gpus]


def _parse_offer(gpu: Mapping[str, Any], secure: bool) -> GpuOffer:
    price = gpu.get("securePrice" if secure else "communityPrice")
    return GpuOffer(
        id=gpu["id"],
        name=gpu.get("displayName") or gpu["id"],
        memory_gb=int(gpu.get("memoryInGb") or 0),
        usd_per_hour=float(price) if price else None,
        stock=(gpu.get("lowestPrice") or {}).get("stockStatus") or "unknown",
    )


def choose_offers(
    offers: Sequence[GpuOffer], *, gpu_count: int, max_usd_per_hour: float, where: str
) -> list[GpuOffer]:
    """Return the offers that may be rented, in their order: sold there, and the whole pod within the cap.

    Stock is not looked at: a pod that is ours already needs none. Raises PlanError when none fits.
    """
    sold = [offer for offer in offers if offer.usd_per_hour is not None]
    # 3 x $0.10 is a little more than $0.30 in binary fractions.
    fitting = [offer for offer in sold if pod_usd_per_hour(offer, gpu_count) <= max_usd_per_hour + 1e-9]
    if not fitting:
        raise _too_dear(sold, offers, gpu_count, max_usd_per_hour, where)
    return fitting


def pod_usd_per_hour(offer: GpuOffer, gpu_count: int) -> float:
    """Return what a pod with `gpu_count` of these costs, in US dollars an hour."""
    return (offer.usd_per_hour or 0.0) * gpu_count


def _too_dear(
    sold: Sequence[GpuOffer],
    asked: Sequence[GpuOffer],
    gpu_count: int,
    max_usd_per_hour: float,
    where: str,
) -> PlanError:
    if not sold:
        return PlanError(
            f"None of these GPU types is rented out in {where}: {', '.join(offer.id for offer in asked)}.",
            means="No pod was created.",
            next_step="choose another with --gpu 'TYPE' or GPU_TYPE in .runpod.env",
        )
    prices = ", ".join(f"{offer.id} ${pod_usd_per_hour(offer, gpu_count):.2f}/h" for offer in sold)
    return PlanError(
        f"The price is above your cap of ${max_usd_per_hour:.2f}/h: {prices}.",
        means="No pod was created.",
        next_step="raise max_usd_per_hour in invoke.yaml, or choose a cheaper type with --gpu",
    )


def suggest_gpu_type(wanted: str, gpu_types: Sequence[str]) -> str | None:
    """Return the GPU type most like `wanted`: the first with all of its words, else the nearest spelling."""
    words = set(wanted.lower().split())
    full = (gpu for gpu in gpu_types if words <= set(gpu.lower().replace("-", " ").split()))
    return next(full, None) or find_nearest(wanted, gpu_types)
