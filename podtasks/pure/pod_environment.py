"""The environment a pod is made with."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from podtasks.pure.secret import Secret


def build_pod_environment(
    user: Mapping[str, str],
    *,
    stamp: Mapping[str, str],
    public_key: str,
    host_private_key: Secret,
    host_public_key: str,
    network_volume_id: str,
    grace_minutes: float,
) -> dict[str, str | Secret]:
    """Return the variables of a pod: the user's, and those that boot, guard and later commands go by.

    `stamp` says whose pod it is and what for; see `training_stamp` and `helper_stamp`.

    RunPod's images let in whoever PUBLIC_KEY names (RunPod facts, section 6). The host key goes to the
    pod through its own environment, from which boot.sh takes it away; its public half is read back from
    the API by whoever connects, so no machine has to remember it.
    """
    private = base64.b64encode(host_private_key.reveal().encode()).decode()
    return {
        **user,
        "PUBLIC_KEY": public_key,
        **stamp,
        "PODTASKS_HOST_KEY": Secret(private),
        "PODTASKS_HOST_PUBLIC_KEY": host_public_key,
        "PODTASKS_NETWORK_VOLUME": network_volume_id,
        "PODTASKS_GRACE_MINUTES": f"{grace_minutes:g}",
    }


def training_stamp(project: str) -> dict[str, str]:
    """Return the variables by which a project's pod is found again."""
    return {"PODTASKS_PROJECT": project}


def helper_stamp(project: str) -> dict[str, str]:
    """Return the variables of a pod that copies a project's files; its guard deletes it when nobody uses it."""
    return {"PODTASKS_HELPER": project, "PODTASKS_GRACE_ACTION": "terminate"}
