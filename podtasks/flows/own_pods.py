"""This project's pods: those that carry its stamp, and the one that is remembered."""

from __future__ import annotations

from collections.abc import Sequence

from podtasks.flows.cloud import Cloud
from podtasks.pure.pod import Pod, PodStatus


def find_pod(cloud: Cloud, project: str) -> Pod | None:
    """Return this project's pod, None when there is none: one API call."""
    return pick_pod(cloud, project, cloud.api.list_pods())


def pick_pod(cloud: Cloud, project: str, pods: Sequence[Pod]) -> Pod | None:
    """Return this project's pod among the account's pods, None when there is none.

    A running pod goes before a stopped one; among equals the remembered one, then the first by its id.
    """
    there = [pod for pod in pods if pod.status is not PodStatus.TERMINATED]
    ours = [pod for pod in there if pod.project == project or pod.id == cloud.pod_id]
    return min(
        ours, key=lambda pod: (pod.status is not PodStatus.RUNNING, pod.id != cloud.pod_id, pod.id), default=None
    )


def list_helper_pods(cloud: Cloud, project: str) -> list[Pod]:
    """Return the pods that copy the project's files, in the order of their ids."""
    there = [pod for pod in cloud.api.list_pods() if pod.status is not PodStatus.TERMINATED]
    return sorted((pod for pod in there if pod.helper_of == project), key=lambda pod: pod.id)


def list_own_pods(cloud: Cloud, project: str) -> list[Pod]:
    """Return the pods that carry the project's stamp, running ones first, each in the order of their ids."""
    ours = [pod for pod in cloud.api.list_pods() if pod.project == project and pod.status is not PodStatus.TERMINATED]
    return sorted(ours, key=lambda pod: (pod.status is not PodStatus.RUNNING, pod.id))
