"""The CPU catalogue and the network volumes over REST v2, and who may read them."""

from __future__ import annotations

from types import ModuleType

import pytest
from runpod.error import QueryError

from tests.contract.local_cloud import Emulator, Pods, wait_for

READS = [
    "/v2/billing",
    "/v2/billing/pods",
    "/v2/billing/network-volumes",
    "/v2/catalog/cpus",
    "/v2/catalog/cpus/cpu3c",
    "/v2/network-volumes",
    "/v2/network-volumes/some",
]


@pytest.mark.parametrize("path", READS)
def test_reading_needs_the_accounts_key(emulator: Emulator, pods: Pods, path: str) -> None:
    key = pods.environment(pods.ready_pod())["RUNPOD_API_KEY"] if path == READS[0] else "rpa_WRONG"
    answer = emulator.call("GET", path, key=key)
    assert answer.status_code == (403 if path == READS[0] else 401)
    assert answer.headers["content-type"] == "application/problem+json"


def test_cpu_flavours_have_prices_and_sizes(emulator: Emulator) -> None:
    cpus = {cpu["id"]: cpu for cpu in emulator.call("GET", "/v2/catalog/cpus").json()["cpus"]}
    assert cpus["cpu3c"] == {
        "id": "cpu3c",
        "name": "Compute-Optimized",
        "group": "Gen 3",
        "vcpu": {"min": 2, "max": 32},
        "ramGbPerVcpu": 2,
        "price": {"securePerVcpu": 0.03, "serverlessPerVcpu": 0.036},
    }
    assert emulator.call("GET", "/v2/catalog/cpus/cpu3c").json() == cpus["cpu3c"]
    assert emulator.call("GET", "/v2/catalog/cpus/cpu9x").status_code == 404


def test_cpu_stock_is_a_dial(emulator: Emulator, sdk: ModuleType) -> None:
    path = "/v2/catalog/cpus/cpu3c?include=AVAILABILITY&product=POD"
    assert emulator.call("GET", path).json()["availability"] == "HIGH"
    emulator.turn(stock={"cpu3c": {"EU-RO-1": 1, "US-KS-2": "None"}})
    shown = emulator.call("GET", path).json()
    centers = {center["id"]: center["availability"] for center in shown["dataCenters"]}
    assert centers["EU-RO-1"] == "LOW"
    assert "US-KS-2" not in centers
    wish = {"image_name": "i", "instance_id": "cpu3c-2-4", "network_volume_id": emulator.info["volume_id"]}
    pod = sdk.create_pod("one", **wish)
    with pytest.raises(QueryError, match="no longer any instances available"):
        sdk.create_pod("two", **wish)
    sdk.stop_pod(pod["id"])
    sdk.create_pod("two", **wish)
    with pytest.raises(QueryError, match="does not have the resources"):
        sdk.resume_pod(pod["id"], 0)
    emulator.turn(stock={"cpu3c": "None"})
    shown = emulator.call("GET", path).json()
    assert (shown["availability"], "dataCenters" in shown) == ("NONE", False)


@pytest.mark.parametrize(
    "query",
    [
        "include=AVAILABILITY",
        "include=PRICES",
        "product=POD",
        "include=AVAILABILITY&product=TOASTER",
        "include=AVAILABILITY&product=POD&vcpuCount=3",
        "include=AVAILABILITY&product=POD&vcpuCount=1",
        "vcpuCount=4",
    ],
)
def test_a_wrong_question_for_availability_is_refused(emulator: Emulator, query: str) -> None:
    for path in ("/v2/catalog/cpus", "/v2/catalog/cpus/cpu3c"):
        assert emulator.call("GET", f"{path}?{query}").status_code == 400


def test_too_many_vcpus_are_nowhere_available(emulator: Emulator) -> None:
    path = "/v2/catalog/cpus/cpu3c?include=AVAILABILITY&product=POD&vcpuCount=64"
    assert emulator.call("GET", path).json()["availability"] == "NONE"


def test_network_volumes_are_listed(emulator: Emulator, sdk: ModuleType) -> None:
    volumes = emulator.call("GET", "/v2/network-volumes").json()["networkVolumes"]
    known = {volume["id"]: (volume["size"], volume["dataCenterId"]) for volume in sdk.get_user()["networkVolumes"]}
    assert {volume["id"]: (volume["size"], volume["dataCenter"]) for volume in volumes} == known
    assert {volume["type"] for volume in volumes} == {"STANDARD"}
    for volume in volumes:
        assert emulator.call("GET", f"/v2/network-volumes/{volume['id']}").json() == volume
    assert emulator.call("GET", "/v2/network-volumes/nothing").status_code == 404


def test_reads_can_be_struck_and_are_logged(emulator: Emulator) -> None:
    emulator.control("POST", "/faults", {"operation": "GET /v2/billing/pods", "kind": "html"})
    assert emulator.call("GET", "/v2/catalog/cpus").status_code == 200
    assert emulator.call("GET", "/v2/billing/pods").status_code == 502
    calls = emulator.control("GET", "/calls")[-2:]
    assert [call["operation"] for call in calls] == ["GET /v2/catalog/cpus", "GET /v2/billing/pods"]


def test_a_cpu_pod_works_like_any_other(emulator: Emulator, pods: Pods, sdk: ModuleType) -> None:
    pod_id = pods.ready_pod(
        gpu_type_id=None,
        instance_id="cpu3g-4-16",
        env={"COLOUR": "blue"},
        docker_args="bash -c 'echo $COLOUR >/root/colour; exec /start.sh'",
    )
    pod = sdk.get_pod(pod_id)
    assert (pod["gpuCount"], pod["vcpuCount"], pod["memoryInGb"]) == (0, 4, 16)
    assert (pod["costPerHr"], pod["machine"]["gpuDisplayName"]) == (0.16, None)
    query = f'query {{ pod(input: {{podId: "{pod_id}"}}) {{ cpuFlavorId gpus {{ id }} runtime {{ gpus {{ id }} }} }} }}'
    shown = emulator.graphql(query)["data"]["pod"]
    assert shown == {"cpuFlavorId": "cpu3g", "gpus": [], "runtime": {"gpus": []}}
    assert pods.ssh(pod_id, "cat /root/colour; echo kept >/workspace/cpu-file") == "blue\n"
    assert pods.environment(pod_id)["RUNPOD_GPU_COUNT"] == "0"
    assert pods.environment(pod_id)["RUNPOD_CPU_COUNT"] == "4"
    sdk.stop_pod(pod_id)
    assert sdk.get_pod(pod_id)["desiredStatus"] == "EXITED"
    sdk.resume_pod(pod_id, 0)
    assert pods.ssh(pods.ready(pod_id), "cat /workspace/cpu-file") == "kept\n"
    sdk.terminate_pod(pod_id)
    wait_for(lambda: sdk.get_pod(pod_id) is None, "it is gone")


def test_only_the_instances_of_the_catalogue_can_be_rented(emulator: Emulator, sdk: ModuleType) -> None:
    assert emulator.info
    for instance in ("cpu3c-3-6", "cpu3c-2-5", "cpu3c-64-128", "cpu3c-1-2", "cpu3c", "cpu9-2-4"):
        with pytest.raises(QueryError, match="no longer any instances available"):
            sdk.create_pod("odd", "i", instance_id=instance)
    with pytest.raises(QueryError, match="no longer any instances available"):
        sdk.create_pod("odd", "i", instance_id="cpu3c-2-4", cloud_type="COMMUNITY")
