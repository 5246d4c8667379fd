"""Pods as RunPod's API describes them."""

from __future__ import annotations

from typing import Any

import pytest

from podtasks.pure.pod import (
    GpuOffer,
    PodStatus,
    SshEndpoint,
    parse_environment,
    parse_pod,
    parse_ssh_endpoint,
)
from podtasks.pure.secret import Secret
from tests.unit.fakes import SPEC, make_pod

PORT_22 = {"ip": "203.0.113.7", "isIpPublic": True, "privatePort": 22, "publicPort": 40022, "type": "tcp"}
HTTP = {"ip": "100.65.0.1", "isIpPublic": False, "privatePort": 8888, "publicPort": 60141, "type": "http"}
ANSWER: dict[str, Any] = {
    "id": "abc123",
    "name": "demo",
    "desiredStatus": "RUNNING",
    "imageName": "runpod/pytorch:1",
    "gpuCount": 2,
    "costPerHr": 1.38,
    "volumeMountPath": "/data",
    "lastStatusChange": "Rented by User: Mon",
    "machine": {"gpuDisplayName": "RTX 4090"},
    "runtime": {"ports": [HTTP, PORT_22]},
    "env": [
        "PODTASKS_PROJECT=demo",
        "PODTASKS_HOST_PUBLIC_KEY=ssh-ed25519 AAAA==",
        "PODTASKS_NETWORK_VOLUME=vol1",
        "PODTASKS_DIR=/mnt/kit",
        "odd",
    ],
}


def test_pod_parsed_from_a_full_answer_has_every_field() -> None:
    pod = parse_pod(ANSWER)
    assert (pod.id, pod.name, pod.status, pod.image) == ("abc123", "demo", PodStatus.RUNNING, "runpod/pytorch:1")
    assert (pod.gpu, pod.gpu_count, pod.usd_per_hour) == ("RTX 4090", 2, 1.38)
    assert (pod.mount_path, pod.status_change) == ("/data", "Rented by User: Mon")
    assert pod.ssh == SshEndpoint("203.0.113.7", 40022)
    assert pod.project == "demo"
    assert pod.host_public_key == "ssh-ed25519 AAAA=="
    assert pod.network_volume_id == "vol1"
    assert pod.container_dir == "/mnt/kit"


def test_pod_parsed_from_the_barest_answer_has_defaults() -> None:
    pod = parse_pod({"id": "x", "machine": None, "runtime": None, "env": None, "costPerHr": None, "gpuCount": None})
    assert (pod.status, pod.gpu, pod.gpu_count, pod.usd_per_hour) == (PodStatus.UNKNOWN, "", 0, 0.0)
    assert (pod.ssh, pod.mount_path, pod.container_dir) == (None, "/workspace", "/opt/podtasks")
    assert (pod.project, pod.host_public_key, pod.network_volume_id) == ("", "", "")


@pytest.mark.parametrize(
    "line", ["ssh-rsa AAAA", "ssh-ed25519", "ssh-ed25519 AA AA\nother", "ssh-ed25519 *", "\nssh-ed25519 AAAA", "x"]
)
def test_pod_with_a_host_key_that_podtasks_would_not_make_is_a_strangers(line: str) -> None:
    assert parse_pod({**ANSWER, "env": [f"PODTASKS_HOST_PUBLIC_KEY={line}"]}).host_public_key == ""


@pytest.mark.parametrize("host", ["-oProxyCommand=id", "a b", "a;id", "$(id)", "", "a\nb", "a/b", "x@y"])
def test_pod_whose_address_is_none_has_no_port(host: str) -> None:
    ports = [{**PORT_22, "ip": host}]
    assert parse_pod({**ANSWER, "runtime": {"ports": ports}}).ssh is None


def test_pod_without_an_id_is_no_pod() -> None:
    with pytest.raises(KeyError):
        parse_pod({"desiredStatus": "RUNNING"})


@pytest.mark.parametrize("status", ["EXITED", "TERMINATED", "PAUSED", None, 7])
def test_pod_that_does_not_run_publishes_no_port_though_runpod_still_reports_one(status: object) -> None:
    assert parse_pod({**ANSWER, "desiredStatus": status}).ssh is None


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("RUNNING", PodStatus.RUNNING),
        ("EXITED", PodStatus.EXITED),
        ("TERMINATED", PodStatus.TERMINATED),
        ("DEAD", PodStatus.UNKNOWN),
        ("running", PodStatus.UNKNOWN),
        (None, PodStatus.UNKNOWN),
    ],
)
def test_status_word_never_crashes(text: object, status: PodStatus) -> None:
    assert PodStatus.from_text(text) is status


@pytest.mark.parametrize(
    ("word", "change", "status"),
    [
        ("EXITED", "terminated by user: Mon", PodStatus.TERMINATED),
        ("EXITED", "Terminated by Runpod", PodStatus.TERMINATED),
        ("EXITED", "Exited by User: terminated by hand", PodStatus.EXITED),
        ("EXITED", None, PodStatus.EXITED),
        ("RUNNING", "Terminated by Runpod", PodStatus.RUNNING),
    ],
)
def test_pod_that_exited_by_a_terminate_is_terminated(word: str, change: str | None, status: PodStatus) -> None:
    assert parse_pod({**ANSWER, "desiredStatus": word, "lastStatusChange": change}).status is status


@pytest.mark.parametrize(
    "ports",
    [
        None,
        [],
        [HTTP],
        [{**PORT_22, "isIpPublic": False}],
        [{**PORT_22, "publicPort": None}],
        [{**PORT_22, "privatePort": 2222}],
    ],
)
def test_ssh_endpoint_is_none_until_port_22_is_public(ports: object) -> None:
    assert parse_ssh_endpoint({"runtime": {"ports": ports}}) is None


def test_environment_values_keep_their_equals_signs() -> None:
    assert parse_environment(["A=b=c==", "EMPTY=", "no sign", "Q=\"'$\n"]) == {
        "A": "b=c==",
        "EMPTY": "",
        "Q": "\"'$\n",
    }


@pytest.mark.parametrize(
    ("stock", "in_stock"),
    [("High", True), ("Low", True), ("unknown", True), ("None", False), ("none", False), ("Unavailable", False)],
)
def test_offer_is_out_of_stock_only_where_runpod_says_so(stock: str, in_stock: bool) -> None:
    assert GpuOffer("gpu", "gpu", 24, 1.0, stock).in_stock is in_stock


def test_pod_and_spec_do_not_show_their_environment() -> None:
    pod = make_pod(env={"HF_TOKEN": "hf_VERYSECRET"})
    assert "VERYSECRET" not in repr(pod)
    assert "env" not in repr(SPEC)
    assert "VERYSECRET" not in repr(Secret("VERYSECRET"))
