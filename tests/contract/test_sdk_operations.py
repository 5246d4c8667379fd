"""Every pod function of the unmodified SDK."""

from __future__ import annotations

from types import ModuleType

import pytest
from runpod.error import AuthenticationError, QueryError

from tests.contract.local_cloud import GPU, Emulator, Pods, wait_for


def test_create_answers_with_a_running_pod_that_has_no_runtime_yet(emulator: Emulator, sdk: ModuleType) -> None:
    emulator.turn(ports_s=30)
    created = sdk.create_pod("plain", "runpod/pytorch:test", GPU, cloud_type="SECURE", ports="22/tcp")
    assert set(created) == {"id", "imageName", "env", "machineId", "machine"}
    assert created["machine"]["podHostId"].startswith(created["id"] + "-")
    pod = sdk.get_pod(created["id"])
    assert (pod["desiredStatus"], pod["runtime"], pod["uptimeSeconds"]) == ("RUNNING", None, 0)
    assert pod["costPerHr"] == 0.69
    assert pod["machine"] == {"gpuDisplayName": "RTX 4090"}
    assert pod["lastStatusChange"].startswith("Rented by User: ")


def test_get_pods_lists_all_pods(sdk: ModuleType, pods: Pods) -> None:
    ids = {pods.create(name="one"), pods.create(name="two")}
    assert {pod["id"] for pod in sdk.get_pods()} == ids


def test_stop_answers_exited_and_ends_every_process(sdk: ModuleType, pods: Pods, emulator: Emulator) -> None:
    pod_id = pods.ready_pod()
    assert sdk.stop_pod(pod_id) == {"id": pod_id, "desiredStatus": "EXITED"}
    assert sdk.get_pod(pod_id)["lastStatusChange"].startswith("Exited by User: ")
    pods.wait_until_ended(pod_id)
    assert pods.try_ssh(pod_id, "true", port=int(emulator.inside(pod_id)["public_ports"]["22"])).returncode == 255


def test_resume_brings_a_new_port_a_new_container_and_the_old_volume(
    emulator: Emulator, sdk: ModuleType, pods: Pods
) -> None:
    pod_id = pods.ready_pod()
    pods.ssh(pod_id, "echo kept > /workspace/file; touch /root/gone /opt/gone /gone")
    before = emulator.inside(pod_id)
    host_key = pods.ssh(pod_id, "cat /etc/ssh/ssh_host_ed25519_key.pub")
    sdk.stop_pod(pod_id)
    assert sdk.resume_pod(pod_id, 1)["desiredStatus"] == "RUNNING"
    pods.ready(pod_id)
    after = emulator.inside(pod_id)
    assert after["public_ports"] != before["public_ports"]
    assert after["hostname"] != before["hostname"]
    assert pods.ssh(pod_id, "cat /etc/ssh/ssh_host_ed25519_key.pub") != host_key
    assert pods.ssh(pod_id, "cat /workspace/file") == "kept\n"
    assert pods.try_ssh(pod_id, "ls /root/gone || ls /opt/gone || ls /gone").returncode == 2


def test_terminate_passes_through_exited_and_then_the_pod_is_gone(
    emulator: Emulator, sdk: ModuleType, pods: Pods
) -> None:
    emulator.turn(terminated_visible_s=0.5)
    pod_id = pods.ready_pod()
    assert sdk.terminate_pod(pod_id) is None
    pod = sdk.get_pod(pod_id)
    assert pod["desiredStatus"] == "EXITED"
    assert pod["lastStatusChange"].startswith("Terminated by User: ")
    with pytest.raises(QueryError, match="pod not found to resume"):
        sdk.resume_pod(pod_id, 1)
    wait_for(lambda: sdk.get_pod(pod_id) is None, "the pod is gone")
    assert sdk.get_pods() == []


def test_terminate_keeps_the_network_volume_and_erases_a_volume_disk(
    emulator: Emulator, sdk: ModuleType, pods: Pods
) -> None:
    with_network_volume = pods.ready_pod()
    with_volume_disk = pods.ready_pod(network_volume_id=None, volume_in_gb=5)
    folders = []
    for pod_id in (with_network_volume, with_volume_disk):
        pods.ssh(pod_id, "echo kept > /workspace/survivor")
        folders.append(emulator.inside(pod_id)["volume"])
        sdk.terminate_pod(pod_id)
    wait_for(lambda: not sdk.get_pods(), "both pods are gone")
    path = emulator.state / "volumes" / emulator.info["volume_id"] / "survivor"
    assert path.read_text() == "kept\n"
    assert folders[0] == str(path.parent)
    wait_for(lambda: not list((emulator.state / "pods").glob("*")), "the pods' directories are gone")


def test_a_volume_disk_survives_a_stop(sdk: ModuleType, pods: Pods) -> None:
    pod_id = pods.ready_pod(network_volume_id=None, volume_in_gb=5)
    pods.ssh(pod_id, "echo kept > /workspace/file")
    sdk.stop_pod(pod_id)
    sdk.resume_pod(pod_id, 1)
    assert pods.ssh(pods.ready(pod_id), "cat /workspace/file") == "kept\n"


def test_a_cpu_pod_runs_like_any_other(sdk: ModuleType, pods: Pods) -> None:
    pod_id = pods.ready_pod(gpu_type_id=None, instance_id="cpu3c-4-8")
    pod = sdk.get_pod(pod_id)
    assert (pod["gpuCount"], pod["vcpuCount"], pod["memoryInGb"], pod["costPerHr"]) == (0, 4, 8, 0.12)


def test_gpus_are_listed_and_priced(sdk: ModuleType) -> None:
    listed = sdk.get_gpus()
    assert {"id": GPU, "displayName": "RTX 4090", "memoryInGb": 24} in listed
    gpu = sdk.get_gpu(GPU)
    assert (gpu["securePrice"], gpu["communityPrice"]) == (0.69, 0.34)
    assert gpu["lowestPrice"] == {"minimumBidPrice": 0.17, "uninterruptablePrice": 0.34}
    with pytest.raises(ValueError, match="No GPU found"):
        sdk.get_gpu("NVIDIA GeForce RTX 9999")


def test_the_user_has_network_volumes_and_a_public_key(sdk: ModuleType, emulator: Emulator) -> None:
    sdk.update_user_settings("ssh-ed25519 AAAA account\n")
    user = sdk.get_user()
    assert user["pubKey"] == "ssh-ed25519 AAAA account\n"
    volumes = {volume["id"]: volume for volume in user["networkVolumes"]}
    assert volumes[emulator.info["volume_id"]]["dataCenterId"] == emulator.info["data_center"] == "EU-RO-1"
    assert volumes[emulator.info["volume_id"]]["size"] == 100
    assert {volume["dataCenterId"] for volume in user["networkVolumes"]} == {"EU-RO-1", "US-KS-2"}
    sdk.update_user_settings("")


def test_the_accounts_public_key_reaches_pods_that_have_none(sdk: ModuleType, pods: Pods) -> None:
    public_key = pods.key.with_suffix(".pub").read_text().strip()
    sdk.update_user_settings(public_key)
    created = sdk.create_pod("account", "runpod/pytorch:test", GPU, cloud_type="SECURE", ports="22/tcp")
    assert pods.environment(pods.ready(created["id"]))["PUBLIC_KEY"] == public_key
    sdk.update_user_settings("")


def test_a_wrong_key_is_refused(sdk: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "api_key", "rpa_WRONG")
    with pytest.raises(AuthenticationError):
        sdk.get_pods()


def test_the_sdk_does_not_escape_so_a_quote_breaks_its_query(sdk: ModuleType) -> None:
    with pytest.raises(QueryError, match="Syntax Error"):
        sdk.create_pod("name", "runpod/pytorch:test", GPU, env={"MESSAGE": 'say "hello"'})
    assert sdk.get_pods() == []
