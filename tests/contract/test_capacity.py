"""What can be rented, and RunPod's words when it cannot."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
from runpod.error import QueryError

from tests.contract.local_cloud import GPU, Emulator, Pods, wait_for

NO_INSTANCES = (
    "There are no longer any instances available with the requested specifications. Please refresh and try again."
)
GENERIC = "Something went wrong. Please try again later or contact support."
NO_FREE_GPUS = "There are not enough free GPUs on the host machine to start this pod."
SPOT = """mutation { podRentInterruptable(input: {gpuTypeId: "%s", imageName: "runpod/x", cloudType: SECURE,
          gpuCount: 1, bidPerGpu: %s}) { id podType costPerHr } }"""


def refusal(call: Any, *arguments: Any, **names: Any) -> str:  # noqa: ANN401
    with pytest.raises(QueryError) as caught:
        call(*arguments, **names)
    return str(caught.value)


def test_a_gpu_out_of_stock_is_refused(emulator: Emulator, pods: Pods) -> None:
    emulator.turn(stock={GPU: "None"})
    assert refusal(pods.create) == NO_INSTANCES


def test_stock_is_counted_per_data_center(emulator: Emulator, pods: Pods) -> None:
    emulator.turn(stock={GPU: {"EU-RO-1": 1, "US-KS-2": "High"}})
    pods.create()
    assert refusal(pods.create) == NO_INSTANCES
    query = """query { gpuTypes(input: {id: "%s"}) { lowestPrice(input: {gpuCount: 1, dataCenterId: "%s"})
               { stockStatus uninterruptablePrice availableGpuCounts } } }"""
    for center, stock, price in (("EU-RO-1", "None", None), ("US-KS-2", "High", 0.34)):
        found = emulator.graphql(query % (GPU, center))["data"]["gpuTypes"][0]["lowestPrice"]
        assert (found["stockStatus"], found["uninterruptablePrice"]) == (stock, price)


def test_a_gpu_that_a_data_center_does_not_offer_is_refused(pods: Pods) -> None:
    assert refusal(pods.create, gpu_type_id="NVIDIA H200") == NO_INSTANCES


def test_an_unknown_gpu_is_refused(emulator: Emulator) -> None:
    query = 'mutation { podFindAndDeployOnDemand(input: {gpuTypeId: "RTX 4090", imageName: "i"}) { id } }'
    assert emulator.graphql(query)["errors"][0]["message"] == "gpu type RTX 4090 not found"


def test_a_network_volume_in_community_cloud_is_refused_without_a_reason(pods: Pods) -> None:
    assert refusal(pods.create, cloud_type="COMMUNITY") == GENERIC


def test_a_network_volume_ties_the_pod_to_its_data_center(pods: Pods) -> None:
    assert pods.environment(pods.ready_pod(cloud_type="ALL"))["RUNPOD_DC_ID"] == "EU-RO-1"
    assert refusal(pods.create, data_center_id="US-KS-2") == GENERIC


def test_community_cloud_is_cheaper_and_has_a_public_ip_only_on_request(sdk: ModuleType, pods: Pods) -> None:
    public = pods.ready_pod(cloud_type="COMMUNITY", network_volume_id=None)
    hidden = pods.create(cloud_type="COMMUNITY", network_volume_id=None, support_public_ip=False)
    wait_for(lambda: sdk.get_pod(hidden)["runtime"], "runtime")
    shown = [sdk.get_pod(pod_id)["runtime"]["ports"][0]["isIpPublic"] for pod_id in (public, hidden)]
    assert shown == [True, False]
    assert sdk.get_pod(public)["costPerHr"] == 0.34


def test_a_resume_fails_when_the_host_has_no_free_gpu(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    pod_id = pods.create()
    sdk.stop_pod(pod_id)
    emulator.turn(resume_fails=True)
    assert refusal(sdk.resume_pod, pod_id, 1) == NO_FREE_GPUS
    emulator.turn(resume_fails=False, stock={GPU: 1})
    other = pods.create()
    assert refusal(sdk.resume_pod, pod_id, 1) == NO_FREE_GPUS
    sdk.stop_pod(other)
    assert sdk.resume_pod(pod_id, 1)["desiredStatus"] == "RUNNING"


def test_unknown_pods_are_not_found(sdk: ModuleType) -> None:
    assert sdk.get_pod("nothing") is None
    assert refusal(sdk.terminate_pod, "nothing") == "pod not found to terminate"
    assert refusal(sdk.stop_pod, "nothing") == "pod not found to stop"
    assert refusal(sdk.resume_pod, "nothing", 1) == "pod not found to resume"


def test_the_old_rule_forbids_stopping_with_a_network_volume(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    pod_id = pods.create()
    emulator.turn(allow_stop_with_network_volume=False)
    assert "cannot be stopped, only terminated" in refusal(sdk.stop_pod, pod_id)
    assert sdk.get_pod(pod_id)["desiredStatus"] == "RUNNING"


def test_a_spot_pod_is_rented_by_a_bid_and_resumed_by_one(emulator: Emulator, sdk: ModuleType) -> None:
    low = emulator.graphql(SPOT % (GPU, 0.1))["errors"][0]["message"]
    assert low == "There are no instances available with the request specifications. Please try again later."
    pod = emulator.graphql(SPOT % (GPU, 0.4))["data"]["podRentInterruptable"]
    assert (pod["podType"], pod["costPerHr"]) == ("INTERRUPTABLE", 0.4)
    sdk.stop_pod(pod["id"])
    assert refusal(sdk.resume_pod, pod["id"], 1) == "Cannot resume a spot pod as an on demand pod."
    query = 'mutation { podBidResume(input: {podId: "%s", gpuCount: 2, bidPerGpu: 0.5}) { costPerHr desiredStatus } }'
    resumed = emulator.graphql(query % pod["id"])["data"]["podBidResume"]
    assert resumed == {"costPerHr": 1.0, "desiredStatus": "RUNNING"}


def test_several_gpus_cost_several_times_as_much(sdk: ModuleType, pods: Pods) -> None:
    assert sdk.get_pod(pods.create(gpu_count=4))["costPerHr"] == 2.76
    assert refusal(pods.create, gpu_count=9) == NO_INSTANCES
