"""Who calls the API, by the key."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from podtasks.emulator.account import Account
from podtasks.emulator.errors import ForbiddenError
from podtasks.emulator.pod import Pod


@dataclass(frozen=True)
class Caller:
    """Who calls: the account (pod_id None) or one pod with its own key."""

    pod_id: str | None

    def require_account(self) -> None:
        """Refuse a pod-scoped key.

        Raises:
            ForbiddenError: the caller is a pod.
        """
        if self.pod_id is not None:
            raise ForbiddenError

    def may_touch(self, pod_id: str) -> bool:
        """Say whether the caller may read, stop and terminate a pod."""
        return self.pod_id in (None, pod_id)


def find_caller(key: str, account: Account, pods: Iterable[Pod]) -> Caller | None:
    """Return whom an API key belongs to.

    Args:
        key: the key.
        account: the account.
        pods: the pods that exist; a pod's key dies with the pod.
    """
    if secrets.compare_digest(key.encode(), account.key.encode()):
        return Caller(None)
    owners = (pod for pod in pods if secrets.compare_digest(key.encode(), pod.key.encode()))
    return next((Caller(pod.id) for pod in owners), None)
