"""The plan of a training: everything decided before money is spent, and its text."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from podtasks.pure.amounts import format_minutes
from podtasks.pure.budget import describe_end
from podtasks.pure.gpu_offers import pod_usd_per_hour
from podtasks.pure.pod import GpuOffer, Pod, PodSpec, PodStatus
from podtasks.pure.run import Launch


@dataclass(frozen=True)
class PodPlan:
    """Which pod will be had.

    Args:
        cloud: RunPod, or the local cloud.
        project: whose stamp the pod carries.
        pod: our pod as it was when the plan was made, None when one must be rented.
        offers: the GPU types that may be rented, in order.
    """

    cloud: str
    project: str
    spec: PodSpec
    offers: tuple[GpuOffer, ...]
    max_usd_per_hour: float
    pod: Pod | None
    grace_minutes: float
    pod_ready_timeout_s: float

    @property
    def runs_already(self) -> bool:
        """Whether our pod runs, so that nothing is rented."""
        return self.pod is not None and self.pod.status is PodStatus.RUNNING

    @property
    def prices(self) -> tuple[float, ...]:
        """What the pod costs in US dollars an hour if it runs already, else what it may cost."""
        if self.pod is not None and self.runs_already:
            return (self.pod.usd_per_hour,)
        return tuple(pod_usd_per_hour(offer, self.spec.gpu_count) for offer in self.offers)


@dataclass(frozen=True)
class Plan(PodPlan):
    """What will be done; what is printed of it is what is executed.

    Args:
        notes: what the user should know before paying.
    """

    launch: Launch
    commit_subject: str
    forward_agent: bool
    notes: tuple[str, ...]


def render(plan: Plan) -> str:
    """Return the plan as the lines that the user reads before it is carried out."""
    return "\n".join([_render_rows(list(_rows(plan))), *(f"  note: {note}" for note in plan.notes)])


def render_pod(plan: PodPlan) -> str:
    """Return the plan for a pod that nothing is launched on, likewise."""
    rows = [
        ("pod", _describe_pod(plan)),
        ("image", plan.spec.image),
        ("volume", _describe_volume(plan.spec)),
        ("ends", f"the pod stops itself after {format_minutes(plan.grace_minutes)} without a run"),
    ]
    return _render_rows(rows)


def _render_rows(rows: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in rows)
    return "\n".join(["Plan", *(f"  {name:<{width}}  {text}" for name, text in rows)])


def _rows(plan: Plan) -> Iterator[tuple[str, str]]:
    launch, spec = plan.launch, plan.spec
    yield "config", launch.config
    yield "code", f"{launch.branch} at {launch.commit[:10]}, {_describe_code(launch)}: '{plan.commit_subject}'"
    yield "pod", _describe_pod(plan)
    yield "image", spec.image
    yield "volume", _describe_volume(spec)
    yield "outputs", launch.output_dir
    yield "checkpoint", _describe_checkpoint(launch)
    yield "command", shlex.join([launch.python, *launch.words])
    if launch.secrets:
        yield "secrets", f"{', '.join(launch.secrets)}: to the training alone"
    yield "ends", describe_end(launch, plan.prices)


def _describe_code(launch: Launch) -> str:
    ways = {
        "origin": f"fetched from {launch.repository}",
        "local": "sent from here",
        "snapshot": "sent from here with uncommitted changes",
    }
    return ways[launch.code]


def _describe_pod(plan: PodPlan) -> str:
    if plan.pod is not None and plan.runs_already:
        return f"use {plan.pod.id}, which runs: {plan.pod.gpu}, ${plan.pod.usd_per_hour:.2f}/h"
    offers = ", or ".join(_describe_offer(offer, plan.spec.gpu_count) for offer in plan.offers)
    where = (
        f"{plan.cloud}, {plan.spec.data_center or 'any data centre'}, {plan.spec.cloud_type.lower()} cloud"
    )
    if plan.pod is not None:
        return f"resume {plan.pod.id}; if that fails a new one: {offers} ({where})"
    return f"a new one: {offers} ({where})"


def _describe_offer(offer: GpuOffer, gpu_count: int) -> str:
    price = pod_usd_per_hour(offer, gpu_count)
    return f"{gpu_count} x {offer.name} {offer.memory_gb} GB ${price:.2f}/h, stock {offer.stock.lower()}"


def _describe_volume(spec: PodSpec) -> str:
    if spec.network_volume_id:
        return f"network volume {spec.network_volume_id} at {spec.mount_path}"
    return f"{spec.volume_disk_gb} GB on the pod's host at {spec.mount_path}, lost when the pod is terminated"


def _describe_checkpoint(launch: Launch) -> str:
    if launch.resume_from:
        return f"resume from {launch.resume_from}"
    if launch.force_restart:
        return f"ignored; old ones in {launch.checkpoint_dir} are moved aside, not deleted"
    return f"newest complete {launch.checkpoint_pattern} in {launch.checkpoint_dir}, else a fresh start"
