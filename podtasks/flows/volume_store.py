"""The network volume through RunPod's S3 API, where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from podtasks.flows.cloud import Cloud
from podtasks.pure.s3_account import DATA_CENTERS, S3Account, build_endpoint_url

if TYPE_CHECKING:
    from podtasks.doors.s3 import S3Volume  # boto3 costs 0.3 s, so not before it is needed

MAKE_KEYS = (
    "S3 keys are made in RunPod's console under Settings > S3 API Keys and belong into .runpod.env as "
    "RUNPOD_S3_ACCESS_KEY and RUNPOD_S3_SECRET_KEY"
)


def open_s3_volume(cloud: Cloud) -> S3Volume | None:
    """Return the cloud's network volume through the S3 API; None where that is not possible.

    `explain_no_s3` says why. Nothing is asked of the S3 API yet. Raises what the API's list of volumes raises.
    """
    account = _find_account(cloud)
    if isinstance(account, str):
        return None
    from podtasks.doors.s3 import S3Volume

    return S3Volume(account, use_proxies=not cloud.is_local)


def explain_no_s3(cloud: Cloud) -> str | None:
    """Return why the volume cannot be reached by the S3 API, in one sentence without a full stop; None if it can."""
    account = _find_account(cloud)
    return account if isinstance(account, str) else None


def _find_account(cloud: Cloud) -> S3Account | str:
    if cloud.s3_keys is None:
        return f"there are no S3 keys; {MAKE_KEYS}"
    if not cloud.network_volume_id:
        return "there is no network volume: the S3 API reaches no other disk"
    data_center = _find_data_center(cloud)
    if data_center is None:
        return f"network volume {cloud.network_volume_id} is not in this account"
    if cloud.s3_endpoint_url is None and data_center not in DATA_CENTERS:
        return f"RunPod has no S3 API in {data_center}, where the network volume is"
    return S3Account(
        cloud.s3_endpoint_url or build_endpoint_url(data_center), data_center, cloud.network_volume_id, *cloud.s3_keys
    )


def _find_data_center(cloud: Cloud) -> str | None:
    if cloud.data_center:
        return cloud.data_center
    volumes = cloud.api.list_network_volumes()
    return next((volume.data_center for volume in volumes if volume.id == cloud.network_volume_id), None)
