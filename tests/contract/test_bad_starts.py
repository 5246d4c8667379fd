"""Pods that never boot, never get a port, or die while booting."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from tests.contract.local_cloud import Emulator, Pods, public_port, wait_for


def order(emulator: Emulator, **trouble: Any) -> None:  # noqa: ANN401
    emulator.control("POST", "/starts", trouble)


def test_a_pod_can_never_get_a_port_though_it_runs(emulator: Emulator, pods: Pods, sdk: ModuleType) -> None:
    order(emulator, kind="no_port")
    pod_id = pods.create()
    assert emulator.control("GET", "/starts") == []
    wait_for(lambda: emulator.inside(pod_id)["process_id"], "its container runs")
    port = emulator.inside(pod_id)["public_ports"]["22"]
    wait_for(lambda: pods.try_ssh(pod_id, "true", port=port).returncode == 0, "sshd answers at a port nobody is told")
    assert (sdk.get_pod(pod_id)["desiredStatus"], sdk.get_pod(pod_id)["runtime"]) == ("RUNNING", None)
    sdk.stop_pod(pod_id)
    assert sdk.get_pod(pod_id)["runtime"] is None
    sdk.resume_pod(pod_id, 1)
    wait_for(lambda: public_port(sdk.get_pod(pod_id)), "the next start is a good one")


def test_a_pod_can_be_billed_and_never_boot(emulator: Emulator, pods: Pods, sdk: ModuleType) -> None:
    order(emulator, kind="no_container", times=2)
    bad, other, good = pods.create(), pods.create(), pods.ready_pod()
    for pod_id in (bad, other):
        assert emulator.inside(pod_id)["process_id"] is None
        assert (sdk.get_pod(pod_id)["desiredStatus"], sdk.get_pod(pod_id)["runtime"]) == ("RUNNING", None)
    bills = {bill["id"]: bill for bill in emulator.control("GET", "/meter")["pods"]}
    assert bills[bad]["running_s"] >= bills[good]["running_s"] > 0
    sdk.stop_pod(bad)
    sdk.terminate_pod(other)
    wait_for(lambda: sdk.get_pod(other) is None, "it can be terminated")
    sdk.resume_pod(bad, 1)
    pods.ready(bad)


def test_a_pod_can_die_while_booting(emulator: Emulator, pods: Pods, sdk: ModuleType) -> None:
    emulator.turn(ssh_s=600)
    order(emulator, kind="dies", after_s=0.3)
    before = time.monotonic()
    pod_id = pods.create()
    assert sdk.get_pod(pod_id)["desiredStatus"] == "RUNNING"
    wait_for(lambda: sdk.get_pod(pod_id)["desiredStatus"] == "EXITED", "its host is lost")
    assert time.monotonic() - before >= 0.3
    assert sdk.get_pod(pod_id)["lastStatusChange"].startswith("Exited by Runpod: ")
    emulator.turn(ssh_s=0)
    sdk.resume_pod(pod_id, 1)
    pods.ready(pod_id)


def test_a_pod_that_was_stopped_before_its_host_would_be_lost_lives_on(
    emulator: Emulator, pods: Pods, sdk: ModuleType
) -> None:
    order(emulator, kind="dies", after_s=0.4)
    pod_id = pods.create()
    began = time.monotonic()
    sdk.stop_pod(pod_id)
    sdk.resume_pod(pod_id, 1)
    pods.ready(pod_id)
    wait_for(lambda: time.monotonic() - began > 0.6, "the host of the first start would be lost")
    assert sdk.get_pod(pod_id)["desiredStatus"] == "RUNNING"


def test_bad_starts_outlive_the_emulator(new_emulator: Callable[..., Emulator]) -> None:
    emulator = new_emulator().start()
    query = 'mutation { podFindAndDeployOnDemand(input: {gpuTypeId: "NVIDIA L40S", imageName: "i"}) { id } }'
    order(emulator, kind="dies", after_s=1.0)
    order(emulator, kind="no_container")
    dying, never = (emulator.graphql(query)["data"]["podFindAndDeployOnDemand"]["id"] for _ in range(2))
    emulator.end()
    emulator.start()
    wait_for(lambda: emulator.inside(dying)["desired_status"] == "EXITED", "its host is lost")
    assert emulator.inside(never)["process_id"] is None
    assert emulator.inside(never)["desired_status"] == "RUNNING"
