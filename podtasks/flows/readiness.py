"""Waiting until a pod's SSH server answers on its live port."""

from __future__ import annotations

from dataclasses import dataclass, replace

from podtasks.doors import ssh
from podtasks.doors.clock import Clock, WaitTimeoutError, growing_pauses, wait_until
from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.flows.stopping import stop_quietly
from podtasks.pure.errors import PodFailedError, PodTimeoutError
from podtasks.pure.pod import Pod, PodStatus, SshEndpoint

BANNER_TIMEOUT_S = 2.0
# A pod that was just made or started may still read as absent or stopped.
BAD_READINGS_TO_BELIEVE = 3


def wait_for_ssh(
    cloud: Cloud, pod: Pod, report: Reporter, clock: Clock, *, timeout_s: float, may_stop: bool
) -> tuple[Pod, SshEndpoint]:
    """Wait until the pod's SSH server greets on the live port; return the pod's newest reading and the port.

    The port is probed often and the API, which is rate-limited, seldom. Raises PodFailedError for a pod
    that went away, PodTimeoutError for one that does not answer; `may_stop` says to stop that one first.
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
        outcome = stop_quietly(cloud, pod, report) if may_stop else _left_running(pod)
        raise _give_up(pod, outcome, timeout_s, str(error.last)) from error
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
        return (
            f"SSH answers at {self.endpoint}" if self.greets else f"port published, waiting for SSH at {self.endpoint}"
        )


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


def _left_running(pod: Pod) -> str:
    return (
        f"It ran before this command and was left alone; it is billed at ${pod.usd_per_hour:.2f}/h. "
        "A training on it goes on and the pod stops itself at its end; inv stop --now stops it."
    )


def _give_up(pod: Pod, outcome: str, timeout_s: float, last: str) -> PodTimeoutError:
    return PodTimeoutError(
        f"Pod {pod.id} did not answer on SSH within {timeout_s:.0f} s; last seen: {last}.",
        means=outcome,
        next_step="run the same command again; if it lasts, inv terminate and try another GPU type",
    )
