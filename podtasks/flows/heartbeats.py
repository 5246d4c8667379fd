"""The heartbeat of a pod's newest run, read from the pod's own network volume by the S3 API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from podtasks.flows.cloud import Cloud
from podtasks.flows.stored_logs import VolumeReader, list_run_ids, read_newest_record, read_record
from podtasks.flows.volume_store import open_s3_volume
from podtasks.pure.pod import Pod
from podtasks.pure.reap import Beat
from podtasks.pure.run_costs import ended_at

# A volume may be shared by projects, so that the pod's own run need not be the newest one.
MOST_RUNS = 20


def open_volume(cloud: Cloud, pod: Pod) -> VolumeReader | None:
    """Return the network volume of a pod of this account; None where the S3 API does not reach it."""
    if not pod.network_volume_id:
        return None
    if pod.network_volume_id != cloud.network_volume_id:
        cloud = replace(cloud, network_volume_id=pod.network_volume_id, data_center=None)
    return open_s3_volume(cloud)


def read_beat(volume: VolumeReader, pod_id: str) -> Beat:
    """Return the heartbeat of the newest run that was launched on this pod."""
    record = _find_record(volume, pod_id)
    if record is None:
        return Beat("", None)
    run_id = str(record["run_id"])
    return Beat(run_id, volume.read(f"runs/{run_id}/heartbeat"), _is_kept(record))


def _find_record(volume: VolumeReader, pod_id: str) -> Mapping[str, Any] | None:
    newest = read_newest_record(volume)
    if newest is not None and _pod_of(newest) == pod_id:
        return newest
    records = (read_record(volume, run_id) for run_id in list_run_ids(volume)[:MOST_RUNS])
    return next((record for record in records if record is not None and _pod_of(record) == pod_id), None)


def _pod_of(record: Mapping[str, Any]) -> object:
    pod = record.get("pod")
    return pod.get("id") if isinstance(pod, Mapping) else None


def _is_kept(record: Mapping[str, Any]) -> bool:
    """Return whether the run's end may have left the pod up on purpose."""
    has_failed = record.get("exit_code") != 0
    keeps = record.get("when_done") == "keep" or (has_failed and bool(record.get("keep_failed_s")))
    return ended_at(record) is not None and keeps
