"""Our pod: used if it runs, resumed if it is stopped, rented if there is none. Never two."""

from __future__ import annotations

from dataclasses import dataclass

from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.flows.own_pods import find_pod
from podtasks.flows.rent import PodRequest, create_pod, require_cap
from podtasks.pure.errors import CapacityError, PlanError, PodtasksError
from podtasks.pure.pod import Pod, PodStatus


@dataclass(frozen=True)
class OurPod:
    """A pod to train on. One that ran before this command is not this command's to stop."""

    pod: Pod
    ran_before: bool


def ensure_pod(cloud: Cloud, request: PodRequest, report: Reporter, clock: Clock) -> OurPod:
    """Return a pod that is meant to run: ours if it runs, ours resumed, or a new one.

    Raises CapacityError, PlanError, ApiError and what else the API gives; a pod that was made by then is
    remembered, and stops itself within its grace time.
    """
    pod = find_pod(cloud, request.project)
    if pod is not None and pod.status is PodStatus.RUNNING:
        cloud.remember_pod(pod.id)
        require_guarded(pod)
        return OurPod(_use_running(pod, request, report), ran_before=True)
    return OurPod(_start_pod(cloud, pod, request, report, clock), ran_before=False)


def _start_pod(cloud: Cloud, pod: Pod | None, request: PodRequest, report: Reporter, clock: Clock) -> Pod:
    """Resume our stopped pod, or rent one."""
    if pod is None:
        return create_pod(cloud, request, report, clock)
    cloud.remember_pod(pod.id)
    require_guarded(pod)
    if not _fits(pod, request):
        return _replace(cloud, pod, request, report, clock, f"it has {_describe(pod)}")
    try:
        cloud.api.resume_pod(pod.id, request.spec.gpu_count)
    except CapacityError as error:
        return _replace(cloud, pod, request, report, clock, f"it cannot be resumed ({error.what})")
    return _check_resumed(cloud, pod, request, report)


def _use_running(pod: Pod, request: PodRequest, report: Reporter) -> Pod:
    if not _fits(pod, request):
        raise PlanError(
            f"Pod {pod.id} runs already, with {_describe(pod)}, which is not what you ask for.",
            means=f"It is billed at ${pod.usd_per_hour:.2f}/h.",
            next_step="inv stop, then the same command again",
        )
    report.step(f"using pod {pod.id}: {pod.gpu}, ${pod.usd_per_hour:.2f}/h")
    return pod


def _check_resumed(cloud: Cloud, pod: Pod, request: PodRequest, report: Reporter) -> Pod:
    resumed = require_cap(cloud, cloud.api.find_pod(pod.id) or pod, request, report)
    report.step(f"pod {pod.id} resumed: {pod.gpu}, ${resumed.usd_per_hour:.2f}/h")
    return resumed


def _replace(cloud: Cloud, pod: Pod, request: PodRequest, report: Reporter, clock: Clock, why: str) -> Pod:
    """Rent a new pod on the same volume, and delete the stopped one, which then holds nothing."""
    if not pod.network_volume_id or pod.network_volume_id != request.spec.network_volume_id:
        tied = "" if pod.network_volume_id else " Its volume disk is tied to its host."
        raise CapacityError(
            f"The stopped pod {pod.id} cannot be used: {why}.{tied}",
            means="Nothing was changed; its data is kept (and billed as storage) until you terminate it.",
            next_step="try again later; or, if you do not need its data, inv terminate and start anew",
        )
    report.note(f"the stopped pod {pod.id} is replaced: {why}")
    new = create_pod(cloud, request, report, clock)
    if new.id != pod.id:
        _terminate_quietly(cloud, pod, report)
    return new


def _terminate_quietly(cloud: Cloud, pod: Pod, report: Reporter) -> None:
    """Delete a stopped pod, or say that it is still there: it costs nothing, so training goes on."""
    try:
        cloud.api.terminate_pod(pod.id)
    except PodtasksError as error:
        report.note(f"the stopped pod {pod.id} could not be deleted ({error.what}); it is not billed")


def require_guarded(pod: Pod) -> None:
    """Raise PlanError for a pod that podtasks did not make: nothing can prove that it is the one that answers."""
    if not pod.host_public_key:
        raise PlanError(
            f"Pod {pod.id} was not made by podtasks: it has no guard and its host key is not known.",
            means="It was not touched. If it runs, it is billed.",
            next_step="remove POD_ID from .runpod.env; the next inv train makes a pod of its own",
        )


def _fits(pod: Pod, request: PodRequest) -> bool:
    names = {name for offer in request.offers for name in (offer.id, offer.name)}
    return (
        pod.gpu in names
        and pod.image == request.spec.image
        and pod.network_volume_id == (request.spec.network_volume_id or "")
        # A stopped pod gets the wanted number when it is resumed.
        and (pod.status is not PodStatus.RUNNING or pod.gpu_count == request.spec.gpu_count)
    )


def _describe(pod: Pod) -> str:
    volume = f"network volume {pod.network_volume_id}" if pod.network_volume_id else "no network volume"
    return f"{pod.gpu_count} x {pod.gpu}, image {pod.image} and {volume}"
