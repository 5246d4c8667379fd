"""A pod that outlives its run because its own stop calls fail: stopped from here, with the account's key."""

from __future__ import annotations

from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import open_shell
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.stopping import STOP_WAIT_S, confirm_stopped
from podtasks.pure.errors import PodtasksError
from podtasks.pure.pod import Pod, PodStatus


def see_pod_end(
    cloud: Cloud, pod_id: str, when_done: str, report: Reporter, clock: Clock, *, timeout_s: float = STOP_WAIT_S
) -> bool:
    """Return whether an ended run's pod has stopped; stop it where it cannot do so itself, or delete it by `when_done`.

    That takes two signals: its guard says that it is to stop, and it still runs `timeout_s` later. A pod that does not
    answer, is kept, or has a new run on it is left alone.
    """
    try:
        pod = cloud.api.find_pod(pod_id)
        if pod is None or pod.status is not PodStatus.RUNNING:
            return True
        if not _means_to_stop(cloud, pod):
            return False
        if confirm_stopped(cloud, pod, clock, timeout_s=timeout_s):
            return True
        if not _means_to_stop(cloud, pod):
            return False
        _order(cloud, pod, when_done)
    except PodtasksError as error:
        report.note(f"whether pod {pod_id} has stopped is not known ({error.what}): inv reap looks again")
        return False
    report.note(f"pod {pod_id} could not stop itself: it was stopped from here")
    return confirm_stopped(cloud, pod, clock)


def _means_to_stop(cloud: Cloud, pod: Pod) -> bool:
    """Return whether the pod's guard says that it is to stop, and nobody has it."""
    with open_shell(cloud, pod) as shell:
        guard = PodPrograms(shell, pod).ask("status.py", {"lines": 0}).get("guard") or {}
    return bool(guard.get("stopping")) and not guard.get("lease")


def _order(cloud: Cloud, pod: Pod, when_done: str) -> None:
    # Without a network volume, what the run wrote would go with the pod.
    if when_done == "terminate" and pod.network_volume_id:
        cloud.api.terminate_pod(pod.id)
    else:
        cloud.api.stop_pod(pod.id)
