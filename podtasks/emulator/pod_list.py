"""The account's pods, those that exist and those that only the meter still knows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from podtasks.emulator.errors import PodNotFoundError
from podtasks.emulator.pod import Pod

_REMOVED_PODS_KEPT = 200


class PodList:
    """All pods, oldest first; iterating gives removed ones too.

    Args:
        pods: those known from the start.
    """

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._by_id = {pod.id: pod for pod in pods}

    def __iter__(self) -> Iterator[Pod]:
        """Return every pod, removed ones included."""
        return iter(list(self._by_id.values()))

    def add(self, pod: Pod) -> None:
        """Add a new pod."""
        self._by_id[pod.id] = pod

    def listed(self) -> list[Pod]:
        """Return the pods that exist."""
        return [pod for pod in self if not pod.is_removed]

    def find(self, pod_id: str) -> Pod | None:
        """Return the pod with an id, unless it has been removed."""
        pod = self._by_id.get(pod_id)
        return None if pod is None or pod.is_removed else pod

    def get(self, pod_id: str, verb: str) -> Pod:
        """Return a pod.

        Args:
            pod_id: its id.
            verb: what is wanted of it, for the error's text.

        Raises:
            PodNotFoundError: there is none.
        """
        pod = self.find(pod_id)
        if pod is None:
            raise PodNotFoundError(verb)
        return pod

    def ports_in_use(self) -> set[int]:
        """Return the ports of this machine that are some pod's."""
        return {port for pod in self.listed() for port in pod.ports_in_use}

    def forget_oldest(self) -> None:
        """Drop the removed pods of long ago."""
        removed = [pod for pod in self if pod.is_removed]
        for pod in removed[:-_REMOVED_PODS_KEPT]:
            del self._by_id[pod.id]
