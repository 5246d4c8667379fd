"""Stopping pods, and making sure that they stopped."""

from __future__ import annotations

from podtasks.doors.clock import Clock, WaitTimeoutError, growing_pauses, wait_until
from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.pure.errors import PodtasksError
from podtasks.pure.pod import Pod, PodStatus

# The guard gives followers up to 5 s, and its stop call takes a moment.
STOP_WAIT_S = 20.0
# A pod whose run has ended stops itself, or deletes itself where the run says so.
SELF_STOP_S = 6.0


def stop_pod(cloud: Cloud, pod: Pod, report: Reporter) -> None:
    """Stop a pod and say so. What is on its volume stays."""
    cloud.api.stop_pod(pod.id)
    report.step(f"pod {pod.id} stopped: no GPU is billed any more")


def stop_quietly(cloud: Cloud, pod: Pod, report: Reporter) -> str:
    """Stop a pod that could not be used, and return what that means for the user's money."""
    try:
        stop_pod(cloud, pod, report)
    except PodtasksError as error:
        return f"The pod could NOT be stopped ({error.what}) and may be billed: stop it in RunPod's console."
    return "The pod was stopped, so no GPU is billed."


def confirm_stopped(cloud: Cloud, pod: Pod, clock: Clock, *, timeout_s: float = STOP_WAIT_S) -> bool:
    """Wait for a pod that is stopping and return whether it did."""

    def read() -> bool:
        reading = cloud.api.find_pod(pod.id)
        return reading is None or reading.status is not PodStatus.RUNNING

    try:
        return wait_until(read, bool, timeout_s=timeout_s, pauses=growing_pauses(0.1, 1.7, 4.0), clock=clock)
    except WaitTimeoutError:
        return False
