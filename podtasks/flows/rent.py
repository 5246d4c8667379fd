"""Renting a pod: in the user's order of GPU types, never twice for one order, never two for one project."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from podtasks.doors.clock import Clock, WaitTimeoutError, growing_pauses, wait_until
from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.flows.own_pods import list_own_pods
from podtasks.flows.stopping import stop_quietly
from podtasks.pure.api_answer import ApiCallError
from podtasks.pure.errors import ApiUnreachableError, CapacityError, PlanError, PodFailedError
from podtasks.pure.gpu_offers import pod_usd_per_hour
from podtasks.pure.plan import PodPlan
from podtasks.pure.pod import GpuOffer, Pod, PodSpec, PodStatus

CREATE_TRIES = 3
LONGEST_PAUSE_S = 60.0
LAUNCH_MARK = "PODTASKS_LAUNCH"
# Longer than the other launch may wait to see its own pod.
TWIN_WAIT_S = 25.0


@dataclass(frozen=True)
class PodRequest:
    """The pod that a launch needs: its spec, the GPU offers to try in order, and the most it may cost."""

    project: str
    spec: PodSpec
    offers: tuple[GpuOffer, ...]
    max_usd_per_hour: float


def build_request(plan: PodPlan) -> PodRequest:
    """Return what a plan asks for."""
    return PodRequest(plan.project, plan.spec, plan.offers, plan.max_usd_per_hour)


def create_pod(cloud: Cloud, request: PodRequest, report: Reporter, clock: Clock) -> Pod:
    """Rent a pod of the first GPU type that is to be had, and remember it. Raises CapacityError."""
    refusals = []
    for offer in request.offers:
        if not offer.in_stock:
            refusals.append(f"{offer.id} (none in stock)")
            continue
        try:
            pod_id = create_once(cloud, request.spec, functools.partial(_order, cloud, offer.id), clock)
        except CapacityError as error:
            refusals.append(offer.id)
            report.note(error.what)
            continue
        cloud.remember_pod(pod_id)
        price = pod_usd_per_hour(offer, request.spec.gpu_count)
        report.step(f"pod {pod_id} created: {request.spec.gpu_count} x {offer.name}, ${price:.2f}/h")
        return _settle(cloud, pod_id, request, report, clock)
    raise CapacityError(
        f"No GPU is to be had now. Tried: {', '.join(refusals)}.",
        means="No pod was created.",
        next_step="try again later, or allow other types: --gpu 'TYPE', repeated in your order",
    )


def require_cap(cloud: Cloud, pod: Pod, request: PodRequest, report: Reporter) -> Pod:
    """Return the pod if it costs no more than the cap; else stop it and raise PlanError."""
    if pod.usd_per_hour <= request.max_usd_per_hour + 1e-9:
        return pod
    outcome = stop_quietly(cloud, pod, report)
    raise PlanError(
        f"Pod {pod.id} costs ${pod.usd_per_hour:.2f}/h, above your cap of ${request.max_usd_per_hour:.2f}/h.",
        means=outcome,
        next_step="raise max_usd_per_hour in invoke.yaml, or inv terminate and choose another GPU with --gpu",
    )


def _order(cloud: Cloud, gpu_type: str, spec: PodSpec) -> str:
    return cloud.api.create_pod(spec, gpu_type)


def create_once(cloud: Cloud, spec: PodSpec, order: Callable[[PodSpec], str], clock: Clock) -> str:
    """Create one pod and return its id, however the answer gets lost: look first, then ask again.

    `order` is tried up to three times, with a spec that carries the mark by which the pod is found.
    """
    nonce = secrets.token_hex(8)
    marked = replace(spec, env={**spec.env, LAUNCH_MARK: nonce})
    pauses = growing_pauses(1.0, 2.0, 8.0)
    for _ in range(CREATE_TRIES):
        try:
            return order(marked)
        except ApiCallError as error:
            last = error
            pause_s = next(pauses) if error.retry_after_s is None else min(error.retry_after_s, LONGEST_PAUSE_S)
            looks = 3 if error.may_have_acted else 0
            try:
                found = _find_created(cloud, nonce, clock, pause_s, looks)
            except ApiUnreachableError as silence:
                silence.means = "A pod may have been made all the same; it stops itself within its grace time."
                raise
            if found is not None:
                return found
    raise ApiUnreachableError(
        f"RunPod gave no usable answer when asked for a pod: {last}.",
        means="No pod of this launch is in your account's list; look once more in the console to be sure.",
        next_step="run the same command again: it finds a pod that appeared late, and uses it",
    )


def _find_created(cloud: Cloud, nonce: str, clock: Clock, pause_s: float, looks: int) -> str | None:
    for _ in range(looks):
        clock.sleep(pause_s / 2)
        made = _first([p for p in cloud.api.list_pods() if _launch_mark(p) == nonce])
        if made is not None:
            return made.id
    clock.sleep(pause_s)
    return None


def _settle(cloud: Cloud, pod_id: str, request: PodRequest, report: Reporter, clock: Clock) -> Pod:
    """Check a pod just made: within the cap, and the only one of this project."""
    pod = require_cap(cloud, read_new(cloud, pod_id, clock), request, report)
    delete_late_orders(cloud, pod, _running(cloud, request.project), report)
    twin = _find_twin(cloud, pod, request.project)
    if twin is not None and pod.id < twin.id:
        twin = _outwait_twin(cloud, pod, request.project, clock)
    if twin is None:
        return pod
    cloud.api.terminate_pod(pod.id)
    cloud.remember_pod(twin.id)
    report.note(f"another launch made pod {twin.id} at the same moment; it is used, {pod.id} is deleted")
    return twin


def delete_late_orders(cloud: Cloud, pod: Pod, running: Sequence[Pod], report: Reporter) -> None:
    """Delete those of `running` that are of the same order as `pod`: one whose answer was lost was carried out late."""
    mark = _launch_mark(pod)
    for late in running:
        if late.id != pod.id and mark is not None and _launch_mark(late) == mark:
            cloud.api.terminate_pod(late.id)
            report.note(f"RunPod made pod {late.id} for the same order; it is deleted")


def _find_twin(cloud: Cloud, pod: Pod, project: str) -> Pod | None:
    """Return the pod that another launch, say on another machine, made at the same moment."""
    mark = _launch_mark(pod)
    twins = [p for p in _running(cloud, project) if p.id != pod.id and (mark is None or _launch_mark(p) != mark)]
    return _first(twins)


def _outwait_twin(cloud: Cloud, pod: Pod, project: str, clock: Clock) -> Pod | None:
    """Return the twin that does not give way, None once there is none: who sees a lower id than its own yields.

    One that had settled before this pod was there never does; then this one must.
    """
    try:
        return wait_until(
            lambda: _find_twin(cloud, pod, project),
            lambda twin: twin is None,
            timeout_s=TWIN_WAIT_S,
            pauses=growing_pauses(0.5, 1.5, 3.0),
            clock=clock,
        )
    except WaitTimeoutError:
        return _find_twin(cloud, pod, project)


def _running(cloud: Cloud, project: str) -> list[Pod]:
    return [pod for pod in list_own_pods(cloud, project) if pod.status is PodStatus.RUNNING]


def _launch_mark(pod: Pod) -> str | None:
    return pod.env.get(LAUNCH_MARK)


def read_new(cloud: Cloud, pod_id: str, clock: Clock) -> Pod:
    """Wait until RunPod shows a pod that it has just made, and return it. Raises PodFailedError."""
    try:
        pod = wait_until(
            lambda: cloud.api.find_pod(pod_id),
            lambda reading: reading is not None,
            timeout_s=20,
            pauses=growing_pauses(0.2, 1.5, 3.0),
            clock=clock,
        )
    except WaitTimeoutError as error:
        raise PodFailedError(
            f"RunPod made pod {pod_id}, but does not show it.",
            means="It may be billed. If it boots, it stops itself within its grace time.",
            next_step="look for it in RunPod's console; then run the same command again",
        ) from error
    assert pod is not None
    return pod


def _first(pods: list[Pod]) -> Pod | None:
    return next(iter(pods), None)
