"""Where the S3 API is, and why there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podtasks.flows.cloud import Cloud
from podtasks.flows.volume_store import explain_no_s3, open_s3_volume
from podtasks.pure.pod import NetworkVolume
from podtasks.pure.secret import Secret
from tests.unit.fakes import StrictApi, make_cloud

KEYS = (Secret("user_x"), Secret("rps_x"))


def cloud_with(tmp_path: Path, *volumes: NetworkVolume, **changes: Any) -> Cloud:  # noqa: ANN401
    api = StrictApi().on("list_network_volumes", list(volumes))
    return replace(make_cloud(api, tmp_path), **{"s3_keys": KEYS, **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"s3_keys": None}, "there are no S3 keys; S3 keys are made in RunPod's console under Settings > S3 API Keys"),
        ({"network_volume_id": None}, "there is no network volume"),
        ({"data_center": "EU-SE-1"}, "RunPod has no S3 API in EU-SE-1"),
        ({}, "network volume vol1 is not in this account"),
    ],
)
def test_what_is_missing_is_told(tmp_path: Path, changes: dict[str, object], why: str) -> None:
    cloud = cloud_with(tmp_path, **changes)
    assert open_s3_volume(cloud) is None
    assert (explain_no_s3(cloud) or "").startswith(why)


def test_the_data_center_is_the_volumes(tmp_path: Path) -> None:
    cloud = cloud_with(tmp_path, NetworkVolume("vol1", "data", 100, "EU-RO-1"))
    assert explain_no_s3(cloud) is None
    volume = open_s3_volume(cloud)
    assert volume is not None and volume.volume_id == "vol1"
    meta = volume._client._client.meta
    assert (meta.endpoint_url, meta.region_name) == ("https://s3api-eu-ro-1.runpod.io", "EU-RO-1")
    volume.close()


def test_the_local_cloud_answers_at_its_own_address_whatever_the_data_center(tmp_path: Path) -> None:
    cloud = cloud_with(tmp_path, s3_endpoint_url="http://127.0.0.1:1", data_center="XX-1", is_local=True)
    volume = open_s3_volume(cloud)
    assert volume is not None and volume._client._client.meta.endpoint_url == "http://127.0.0.1:1"
    volume.close()
