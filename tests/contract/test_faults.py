"""Faults strike the calls they were ordered for."""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any

import pytest
import requests
from runpod.error import AuthenticationError, QueryError

from tests.contract.local_cloud import Emulator, Pods, wait_for


def order(emulator: Emulator, **fault: Any) -> None:  # noqa: ANN401
    emulator.control("POST", "/faults", fault)


def ask(emulator: Emulator, timeout_s: float = 10) -> requests.Response:
    body = {"query": "query { myself { id } }"}
    return emulator.call("POST", "/graphql", body, timeout_s=timeout_s)


def test_an_error_carries_the_wanted_text_as_often_as_wanted(emulator: Emulator, sdk: ModuleType) -> None:
    order(emulator, operation="myself", kind="error", message="out of order", times=2)
    for _ in range(2):
        with pytest.raises(QueryError, match="out of order"):
            sdk.get_user()
    assert sdk.get_user()["id"]
    assert emulator.control("GET", "/faults") == []


def test_a_fault_waits_for_its_operation(emulator: Emulator, sdk: ModuleType) -> None:
    order(emulator, operation="podStop", kind="http", status=500)
    sdk.get_pods()
    assert [fault["operation"] for fault in emulator.control("GET", "/faults")] == ["podStop"]


@pytest.mark.parametrize(
    ("fault", "status", "content"),
    [
        ({"kind": "http", "status": 503, "message": "no healthy upstream"}, 503, "no healthy upstream"),
        ({"kind": "html"}, 502, "<!DOCTYPE html>"),
        ({"kind": "rate_limit", "retry_after_s": 7}, 429, "Too Many Requests"),
        ({"kind": "null"}, 200, '{"data":{"myself":null}}'),
    ],
)
def test_an_answer_can_be_replaced(emulator: Emulator, fault: dict[str, Any], status: int, content: str) -> None:
    order(emulator, **fault)
    answer = ask(emulator)
    assert answer.status_code == status
    assert content in answer.text
    assert answer.headers.get("Retry-After") == ("7" if status == 429 else None)
    assert ask(emulator).status_code == 200


def test_an_api_can_be_switched_off(emulator: Emulator, sdk: ModuleType) -> None:
    order(emulator, operation="myself", kind="http", status=410, message='{"message": "Gone"}', times=2)
    answer = ask(emulator)
    assert (answer.status_code, answer.json()) == (410, {"message": "Gone"})
    # The SDK tells no status, and looks for data where there is none.
    with pytest.raises(KeyError, match="data"):
        sdk.get_user()
    order(emulator, operation="myself", kind="http", status=410, message="Gone")
    with pytest.raises(requests.JSONDecodeError):
        sdk.get_user()
    order(emulator, operation="DELETE /v2/pods/{id}", kind="http", status=410, message="Gone")
    assert emulator.call("DELETE", "/v2/pods/any").status_code == 410


def test_a_fault_can_last_for_a_while(emulator: Emulator) -> None:
    before = time.monotonic()
    order(emulator, kind="http", status=500, for_s=0.6)
    assert 0 < emulator.control("GET", "/faults")[0]["for_s"] <= 0.6
    assert [ask(emulator).status_code for _ in range(3)] == [500] * 3
    wait_for(lambda: ask(emulator).status_code == 200, "the fault is over")
    assert time.monotonic() - before >= 0.6
    assert emulator.control("GET", "/faults") == []


def test_a_fault_can_strike_pods_alone(emulator: Emulator, pods: Pods) -> None:
    pod_id = pods.ready_pod()
    key = pods.environment(pod_id)["RUNPOD_API_KEY"]
    path, stop = f"/v2/pods/{pod_id}/action", {"action": "stop"}
    order(emulator, kind="http", status=500, caller="pod", times=2)
    assert ask(emulator).status_code == 200
    assert emulator.call("POST", path, stop, key=key).status_code == 500
    assert pods.try_ssh(pod_id, f"runpodctl pod stop {pod_id}").returncode == 1
    assert emulator.call("POST", path, stop, key=key).status_code == 200
    order(emulator, kind="http", status=500, caller="account")
    assert emulator.graphql(f'query {{ pod(input: {{podId: "{pod_id}"}}) {{ id }} }}', key=key)["data"]["pod"]
    assert ask(emulator).status_code == 500


def test_some_faults_can_be_dropped(emulator: Emulator) -> None:
    for operation, kind in (("myself", "html"), ("pod", "html"), ("pod", "null")):
        order(emulator, operation=operation, kind=kind)
    left = emulator.control("DELETE", "/faults?operation=pod&kind=html")
    assert [(fault["operation"], fault["kind"]) for fault in left] == [("myself", "html"), ("pod", "null")]
    assert [fault["kind"] for fault in emulator.control("DELETE", "/faults?kind=html")] == ["null"]
    assert emulator.control("DELETE", "/faults") == []


def test_a_key_can_be_refused_once(emulator: Emulator, sdk: ModuleType) -> None:
    order(emulator, kind="unauthorized")
    with pytest.raises(AuthenticationError):
        sdk.get_user()
    assert sdk.get_user()


def test_json_can_be_cut(emulator: Emulator) -> None:
    order(emulator, kind="malformed_json")
    answer = ask(emulator)
    assert answer.status_code == 200
    with pytest.raises(requests.JSONDecodeError):
        answer.json()


def test_an_operation_can_be_done_though_its_answer_never_comes(emulator: Emulator, sdk: ModuleType) -> None:
    order(emulator, operation="podFindAndDeployOnDemand", kind="timeout_after", seconds=60)
    query = (
        'mutation { podFindAndDeployOnDemand(input: {gpuTypeId: "NVIDIA L40S", imageName: "i", name: "lost"}) { id } }'
    )
    with pytest.raises(requests.ReadTimeout):
        emulator.call("POST", "/graphql", {"query": query}, timeout_s=0.3)
    assert [pod["name"] for pod in sdk.get_pods()] == ["lost"]


def test_silence_does_nothing_and_other_calls_go_on(emulator: Emulator, sdk: ModuleType) -> None:
    order(emulator, operation="myself", kind="silence", seconds=60)
    with pytest.raises(requests.ReadTimeout):
        ask(emulator, timeout_s=0.3)
    before = time.monotonic()
    assert sdk.get_pods() == []
    assert time.monotonic() - before < 5


def test_a_rest_call_can_be_struck(emulator: Emulator, pods: Pods, sdk: ModuleType) -> None:
    pod_id = pods.create()
    order(emulator, operation="POST /v2/pods/{id}/action", kind="html", status=504)
    path = f"/v2/pods/{pod_id}/action"
    assert emulator.call("POST", path, {"action": "stop"}).status_code == 504
    assert sdk.get_pod(pod_id)["desiredStatus"] == "RUNNING"
    assert emulator.call("POST", path, {"action": "stop"}).status_code == 200


def test_calls_are_logged_without_keys(emulator: Emulator, sdk: ModuleType) -> None:
    order(emulator, operation="gpuTypes", kind="error", message="struck")
    with pytest.raises(QueryError):
        sdk.get_gpus()
    emulator.call("POST", "/graphql", {"query": "query { myself { id } }"}, key="rpa_WRONG")
    calls = emulator.control("GET", "/calls")
    struck, refused = calls[-2:]
    assert (struck["operation"], struck["key"], struck["status"]) == ("gpuTypes", "account", 200)
    assert (struck["fault"], struck["error"]) == ("error", "struck")
    assert (refused["operation"], refused["key"], refused["status"]) == ("myself", "none", 401)
    assert "rpa_" not in str(calls)
    assert emulator.control("GET", f"/calls?after={struck['time']!r}") == [refused]
    assert emulator.call("GET", "/_cloud/calls?after=lunch").status_code == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/faults", {"kind": "explosion"}),
        ("/faults", {"kind": "error", "colour": "red"}),
        ("/faults", {"kind": "http", "status": "500"}),
        ("/faults", {"kind": "http", "status": 99}),
        ("/faults", {"kind": "error", "times": 0}),
        ("/faults", {"kind": "silence", "seconds": -1}),
        ("/faults", {"kind": "error", "for_s": "long"}),
        ("/faults", {"kind": "error", "caller": "nobody"}),
        ("/starts", {}),
        ("/starts", {"kind": "explosion"}),
        ("/starts", {"kind": "dies", "after_s": -1}),
        ("/starts", {"kind": "dies", "after_s": 10**400}),
        ("/starts", {"kind": "no_port", "times": True}),
        ("/starts", {"kind": "no_port", "pod": "x"}),
        ("/dials", {"speed": 1}),
        ("/dials", {"ports_s": "soon"}),
        ("/dials", {"resume_fails": 1}),
        ("/dials", {"stock": {"NVIDIA L40S": "Plenty"}}),
        ("/dials", {"images": [{"without": ["tmux"]}]}),
    ],
)
def test_wrong_dials_and_faults_are_refused(emulator: Emulator, path: str, body: object) -> None:
    before = emulator.control("GET", "/dials")
    answer = emulator.call("POST", f"/_cloud{path}", body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert emulator.control("GET", "/dials") == before
    assert emulator.control("GET", "/faults") == emulator.control("GET", "/starts") == []
