"""Our pod: finding it, using, resuming or renting it, and waiting until it answers. Never two."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace

from podtasks.doors import ssh
from podtasks.doors.clock import Clock, WaitTimeoutError, growing_pauses, wait_until
from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.pure.api_answer import ApiCallError
from podtasks.pure.errors import (
    ApiUnreachableError,
    CapacityError,
    PlanError,
    PodFailedError,
    PodtasksError,
    PodTimeoutError,
)
from podtasks.pure.gpu_offers import pod_usd_per_hour
from podtasks.pure.pod import GpuOffer, Pod, PodSpec, PodStatus, SshEndpoint

CREATE_TRIES = 3
LONGEST_PAUSE_S = 60.0
LAUNCH_MARK = "PODTASKS_LAUNCH"
BANNER_TIMEOUT_S = 2.0
# A pod that was just made or started may still read as absent or stopped.
BAD_READINGS_TO_BELIEVE = 3


@dataclass(frozen=True)
class PodRequest:
    """The pod that a launch needs: its spec, the GPU offers to try in order, and the most it may cost."""

    project: str
    spec: PodSpec
    offers: tuple[GpuOffer, ...]
    max_usd_per_hour: float


def find_pod(cloud: Cloud, project: str) -> Pod | None:
    """Return this project's pod: the remembered one, else the one that carries the project's stamp.

    A running pod goes before a stopped one. None when there is none.
    """
    if cloud.pod_id:
        remembered = cloud.api.find_pod(cloud.pod_id)
        if remembered is not None and remembered.status is not PodStatus.TERMINATED:
            return remembered
    return _first(list_own_pods(cloud, project))


def list_own_pods(cloud: Cloud, project: str) -> list[Pod]:
    """Return the pods that carry the project's stamp, running ones first, each in the order of their ids."""
    ours = [pod for pod in cloud.api.list_pods() if pod.project == project and pod.status is not PodStatus.TERMINATED]
    return sorted(ours, key=lambda pod: (pod.status is not PodStatus.RUNNING, pod.id))


def ensure_pod(cloud: Cloud, request: PodRequest, report: Reporter, clock: Clock) -> Pod:
    """Return a pod that is meant to run: ours if it runs, ours resumed, or a new one.

    Raises CapacityError, PlanError, ApiError and what else the API gives; then no pod was left running
    that was not running before.
    """
    pod = find_pod(cloud, request.project)
    if pod is None:
        return create_pod(cloud, request, report, clock)
    cloud.remember_pod(pod.id)
    _require_guarded(pod)
    if pod.status is PodStatus.RUNNING:
        return _use_running(pod, request, report)
    if not _fits(pod, request):
        return _replace(cloud, pod, request, report, clock, f"it has {_describe(pod)}")
    try:
        cloud.api.resume_pod(pod.id, request.spec.gpu_count)
    except CapacityError as error:
        return _replace(cloud, pod, request, report, clock, f"it cannot be resumed ({error.what})")
    return _check_resumed(cloud, pod, request, report)


def create_pod(cloud: Cloud, request: PodRequest, report: Reporter, clock: Clock) -> Pod:
    """Rent a pod of the first GPU type that is to be had, and remember it. Raises CapacityError."""
    refusals = []
    for offer in request.offers:
        if not offer.in_stock:
            refusals.append(f"{offer.id} (none in stock)")
            continue
        try:
            pod_id = _create_once(cloud, request.spec, offer.id, clock)
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


def stop_pod(cloud: Cloud, pod: Pod, report: Reporter) -> None:
    """Stop a pod and say so. What is on its volume stays."""
    cloud.api.stop_pod(pod.id)
    report.step(f"pod {pod.id} stopped: no GPU is billed any more")


def wait_for_ssh(
    cloud: Cloud, pod: Pod, report: Reporter, clock: Clock, *, timeout_s: float
) -> tuple[Pod, SshEndpoint]:
    """Wait until the pod's SSH server greets on the live port; return the pod's newest reading and the port.

    The port is probed often and the API, which is rate-limited, seldom. Raises PodTimeoutError and
    PodFailedError; the pod is stopped first.
    """
    probe = _ReadinessProbe(cloud, pod, clock)
    try:
        ready = wait_until(
            probe.read,
            lambda reading: reading.greets,
            timeout_s=timeout_s,
            pauses=growing_pauses(0.05, 1.2, 0.5),
            clock=clock,
            on_change=lambda reading: _tell_stage(reading, report),
        )
    except WaitTimeoutError as error:
        raise _give_up(cloud, pod, report, timeout_s, str(error.last)) from error
    assert ready.endpoint is not None
    return probe.pod, ready.endpoint


@dataclass(frozen=True)
class _Readiness:
    """How far a pod has got."""

    endpoint: SshEndpoint | None
    greets: bool

    def __str__(self) -> str:
        if self.endpoint is None:
            return "no port published yet"
        return f"SSH answers at {self.endpoint}" if self.greets else f"no SSH at {self.endpoint} yet"


class _ReadinessProbe:
    """Reads the API at growing distances and the published port each time."""

    def __init__(self, cloud: Cloud, pod: Pod, clock: Clock) -> None:
        self.pod = pod
        self._cloud = cloud
        self._clock = clock
        self._pauses = growing_pauses(0.1, 1.6, 10.0)
        self._next_api_reading = 0.0
        self._bad_readings = 0

    def read(self) -> _Readiness:
        if self._clock.now() >= self._next_api_reading:
            self._read_api()
        endpoint = self.pod.ssh
        return _Readiness(endpoint, endpoint is not None and ssh.read_banner(endpoint, BANNER_TIMEOUT_S) is not None)

    def _read_api(self) -> None:
        pod = self._cloud.api.find_pod(self.pod.id)
        self._next_api_reading = self._clock.now() + next(self._pauses)
        if pod is not None and pod.status is PodStatus.RUNNING:
            self._bad_readings = 0
            self.pod = pod
            return
        self._bad_readings += 1
        self.pod = replace(self.pod, ssh=None)
        if self._bad_readings >= BAD_READINGS_TO_BELIEVE:
            raise _gone(self.pod.id, pod)


def _tell_stage(reading: _Readiness, report: Reporter) -> None:
    if reading.endpoint is not None:
        report.step(f"{reading}")
    else:
        report.step("waiting for the pod to boot")


def _gone(pod_id: str, pod: Pod | None) -> PodFailedError:
    state = f"{pod.status.value}: {pod.status_change}" if pod else "no longer there"
    return PodFailedError(
        f"Pod {pod_id} went away while it was starting ({state}).",
        means="It is not billed any more. What is on the network volume is untouched.",
        next_step="run the same command again",
    )


def _give_up(cloud: Cloud, pod: Pod, report: Reporter, timeout_s: float, last: str) -> PodTimeoutError:
    outcome = _stop_quietly(cloud, pod, report)
    return PodTimeoutError(
        f"Pod {pod.id} did not answer on SSH within {timeout_s:.0f} s; last seen: {last}.",
        means=outcome,
        next_step="run the same command again; if it lasts, inv terminate and try another GPU type",
    )


def _stop_quietly(cloud: Cloud, pod: Pod, report: Reporter) -> str:
    try:
        stop_pod(cloud, pod, report)
    except PodtasksError as error:
        return f"It could NOT be stopped ({error.what}) and may be billed: stop it in RunPod's console."
    return "It was stopped, so no GPU is billed."


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
    resumed = _require_cap(cloud, cloud.api.find_pod(pod.id) or pod, request, report)
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
        cloud.api.terminate_pod(pod.id)
    return new


def _create_once(cloud: Cloud, spec: PodSpec, gpu_type: str, clock: Clock) -> str:
    """Create one pod and return its id, however the answer gets lost: look first, then ask again."""
    nonce = secrets.token_hex(8)
    marked = replace(spec, env={**spec.env, LAUNCH_MARK: nonce})
    pauses = growing_pauses(1.0, 2.0, 8.0)
    for _ in range(CREATE_TRIES):
        try:
            return cloud.api.create_pod(marked, gpu_type)
        except ApiCallError as error:
            last = error
            pause_s = next(pauses) if error.retry_after_s is None else min(error.retry_after_s, LONGEST_PAUSE_S)
            found = _find_created(cloud, nonce, clock, pause_s, looks=3 if error.may_have_acted else 0)
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
    pod = _read_new(cloud, pod_id, clock)
    pod = _require_cap(cloud, pod, request, report)
    running = [p for p in list_own_pods(cloud, request.project) if p.status is PodStatus.RUNNING]
    mark = _launch_mark(pod)
    late = [p for p in running if p.id != pod_id and mark is not None and _launch_mark(p) == mark]
    for one in late:
        # An order whose answer was lost was carried out after all, after the next one.
        cloud.api.terminate_pod(one.id)
        report.note(f"RunPod made pod {one.id} for the same order; it is deleted")
    twins = [p for p in running if p.id != pod_id and p not in late]
    if not twins:
        return pod
    # Two launches at once, say from two machines: both keep the pod whose id is first.
    kept = min([pod, *twins], key=lambda twin: twin.id)
    if kept.id != pod_id:
        cloud.api.terminate_pod(pod_id)
        cloud.remember_pod(kept.id)
        report.note(f"another launch made pod {kept.id} at the same moment; it is used, {pod_id} is deleted")
    return kept


def _launch_mark(pod: Pod) -> str | None:
    return pod.env.get(LAUNCH_MARK)


def _read_new(cloud: Cloud, pod_id: str, clock: Clock) -> Pod:
    try:
        pod = wait_until(
            lambda: cloud.api.find_pod(pod_id),
            lambda reading: reading is not None,
            timeout_s=20,
            pauses=growing_pauses(0.2, 1.5, 3.0),
            clock=clock,
        )
    except WaitTimeoutError as error:
        raise _gone(pod_id, None) from error
    assert pod is not None
    return pod


def _require_cap(cloud: Cloud, pod: Pod, request: PodRequest, report: Reporter) -> Pod:
    if pod.usd_per_hour <= request.max_usd_per_hour + 1e-9:
        return pod
    outcome = _stop_quietly(cloud, pod, report)
    raise PlanError(
        f"Pod {pod.id} costs ${pod.usd_per_hour:.2f}/h, above your cap of ${request.max_usd_per_hour:.2f}/h.",
        means=outcome,
        next_step="raise max_usd_per_hour in invoke.yaml, or inv terminate and choose another GPU with --gpu",
    )


def _require_guarded(pod: Pod) -> None:
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


def _first(pods: list[Pod]) -> Pod | None:
    return next(iter(pods), None)
