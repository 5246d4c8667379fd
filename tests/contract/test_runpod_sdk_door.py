"""The door to RunPod's API, with the unmodified SDK, against a server that answers as scripted."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import graphql
import pytest
import requests

from podtasks.doors import runpod_sdk
from podtasks.doors.runpod_sdk import RunPodSdk
from podtasks.pure.api_answer import ApiCallError
from podtasks.pure.errors import (
    ApiError,
    ApiUnreachableError,
    AuthenticationError,
    CapacityError,
    PodtasksError,
)
from podtasks.pure.pod import GpuOffer, NetworkVolume, PodStatus, SshEndpoint
from podtasks.pure.secret import Secret
from tests.unit.fakes import SPEC, FakeClock

KEY = "rpa_VERYSECRET"
GPU = "NVIDIA GeForce RTX 4090"
NO_CAPACITY = "There are no longer any instances available with the requested specifications. Please refresh."
HOSTILE = "quote \" single ' back\\slash $HOME $(id) `id` {brace} #hash\nnewline\ttab \u2028 \U0001f600"


@dataclass
class Reply:
    """One answer: status, body, headers; `silent` sends nothing until the test is over, `hang_up` at once."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    silent: bool = False
    hang_up: bool = False

    def __str__(self) -> str:
        kind = "silent" if self.silent else "hang up" if self.hang_up else self.encoded().decode()[:60]
        return f"{self.status} {kind}"

    def encoded(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def data(**fields: object) -> Reply:
    return Reply({"data": fields})


def refused(text: str, status: int = 200) -> Reply:
    return Reply({"errors": [{"message": text}], "data": None}, status)


BAD_GATEWAY = Reply(b"<html><h1>502 Bad Gateway</h1></html>", 502)
PODS = data(myself={"pods": []})
GPU_EXISTS = data(gpuTypes=[{"id": GPU}])


class Script:
    """The replies to come, in order, and the requests that came."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[dict[str, Any]] = []
        self.over = threading.Event()

    def will(self, *replies: Reply) -> None:
        self.replies += replies

    def queries(self) -> list[str]:
        return [request["query"] for request in self.requests]

    def mutations(self) -> list[str]:
        return [query for query in self.queries() if query.strip().startswith("mutation")]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the server's script says."""

    script: Script

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.script.requests.append({**json.loads(body), "path": self.path, "headers": dict(self.headers)})
        reply = self.script.replies.pop(0) if self.script.replies else Reply(b"nothing was scripted", 599)
        if reply.silent:
            self.script.over.wait(30)
        if reply.silent or reply.hang_up:
            self.close_connection = True
            return
        content = reply.encoded()
        self.send_response(reply.status)
        for name, value in {"Content-Length": str(len(content)), **reply.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[tuple[Script, str]]:
    script = Script()
    handler = type("ScriptedHandler", (Handler,), {"script": script})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield script, f"http://127.0.0.1:{running.server_port}"
        script.over.set()
        running.shutdown()
        thread.join(5)
    assert script.replies == [], "scripted, but never asked for"


@pytest.fixture
def script(server: tuple[Script, str]) -> Script:
    return server[0]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def sdk_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the SDK, which is full of module state, as it was."""
    import runpod

    monkeypatch.setattr(runpod, "api_key", None)
    monkeypatch.setattr(runpod.api.graphql, "requests", requests)
    monkeypatch.setenv("RUNPOD_API_BASE_URL", "http://127.0.0.1:9")


@pytest.fixture
def account(server: tuple[Script, str], clock: FakeClock, sdk_restored: None) -> RunPodSdk:
    del sdk_restored
    return RunPodSdk(Secret(KEY), server[1], clock)


def is_in(value: float, low: float, high: float) -> bool:
    return low <= value <= high


# What is retried


@pytest.mark.parametrize(
    "bad",
    [
        BAD_GATEWAY,
        Reply(b"{half", 200),
        Reply(b"", 200),
        Reply({"data": None}),
        Reply({"data": {"myself": None}}),
        Reply({"data": {"myself": {"pods": None}}}),
        Reply({"data": {"myself": {"pods": [{"name": "without an id"}]}}}),
        Reply([1, 2]),
        Reply({"errors": []}),
        Reply({"message": "busy"}, 429),
        Reply(b"busy", 429),
        refused("internal server error", 500),
        Reply(hang_up=True),
    ],
    ids=str,
)
def test_answer_that_makes_no_sense_is_asked_for_again(
    script: Script, account: RunPodSdk, clock: FakeClock, bad: Reply
) -> None:
    script.will(bad, bad, PODS)
    assert account.list_pods() == []
    assert len(script.requests) == 3
    assert is_in(clock.sleeps[0], 0.375, 0.625)
    assert is_in(clock.sleeps[1], 0.75, 1.25)


def test_silence_is_given_up_and_asked_again(
    script: Script, account: RunPodSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = requests.Session.post

    def impatient(session: requests.Session, url: str, **request: Any) -> requests.Response:  # noqa: ANN401
        assert request.pop("timeout") == 30, "the SDK's own patience"
        return real(session, url, timeout=0.2, **request)

    monkeypatch.setattr(requests.Session, "post", impatient)
    script.will(Reply(silent=True), PODS)
    assert account.list_pods() == []
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [("7", 7, 7), ("1.5", 1.5, 1.5), ("0", 0, 0), ("3600", 60, 60), ("Wed, 21 Oct 2026 07:28:00 GMT", 0.3, 0.7)],
)
def test_retry_after_is_obeyed_within_reason(
    script: Script, account: RunPodSdk, clock: FakeClock, header: str, low: float, high: float
) -> None:
    script.will(Reply({"message": "Too Many Requests"}, 429, {"Retry-After": header}), PODS)
    account.list_pods()
    assert is_in(clock.sleeps[0], low, high)


def test_retry_after_of_an_earlier_answer_is_not_obeyed_again(
    script: Script, account: RunPodSdk, clock: FakeClock
) -> None:
    script.will(Reply(b"", 429, {"Retry-After": "9"}), Reply(hang_up=True), PODS)
    account.list_pods()
    assert clock.sleeps[0] == 9
    assert is_in(clock.sleeps[1], 0.75, 1.25)


def test_server_that_never_recovers_is_an_error_after_six_tries(
    script: Script, account: RunPodSdk, clock: FakeClock
) -> None:
    script.will(*[BAD_GATEWAY] * 6)
    with pytest.raises(ApiUnreachableError) as caught:
        account.list_pods()
    assert caught.value.what == (
        "RunPod gave no usable answer when asked to list the pods: the answer is not JSON (HTTP 502)"
    )
    assert len(clock.sleeps) == 5
    assert sum(clock.sleeps) < 20


def test_nobody_at_the_address_is_an_error_that_did_nothing(clock: FakeClock, sdk_restored: None) -> None:
    del sdk_restored
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        account = RunPodSdk(Secret(KEY), f"http://127.0.0.1:{taken.getsockname()[1]}", clock)
        with pytest.raises(ApiUnreachableError, match="no connection could be made"):
            account.list_pods()
        with pytest.raises(ApiCallError) as caught:
            account.create_pod(SPEC, GPU)
    assert caught.value.may_have_acted is False


def test_proxy_for_the_outside_world_does_not_get_the_local_clouds_calls(
    script: Script, account: RunPodSdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    script.will(PODS)
    assert account.list_pods() == []


# What is not


@pytest.mark.parametrize(
    ("reply", "expected", "says"),
    [
        (Reply({"message": "Unauthorized"}, 401), AuthenticationError, "refused the API key when asked to stop pod p1"),
        (Reply(b"<html>", 401), AuthenticationError, "refused the API key"),
        (Reply({"message": "Forbidden"}, 403), ApiError, "does not allow this API key to stop pod p1 (HTTP 403)"),
        (Reply({"message": "Gone"}, 410), ApiError, "has switched off the API that was asked to stop pod p1"),
        (refused("Pod is locked"), ApiError, "RunPod refused to stop pod p1: Pod is locked"),
        (refused("Field nope is not defined", 400), ApiError, "Field nope is not defined"),
    ],
    ids=["401", "401 html", "403", "410", "refused", "400"],
)
def test_refusal_is_final(
    script: Script, account: RunPodSdk, clock: FakeClock, reply: Reply, expected: type[PodtasksError], says: str
) -> None:
    script.will(reply)
    with pytest.raises(ApiError) as caught:
        account.stop_pod("p1")
    assert type(caught.value) is expected
    assert says in caught.value.what
    assert clock.sleeps == []
    assert KEY not in str(caught.value)


def test_resume_without_free_gpus_is_a_matter_of_capacity(script: Script, account: RunPodSdk) -> None:
    script.will(refused("There are not enough free GPUs on the host machine to start this pod."))
    with pytest.raises(CapacityError, match="cannot resume pod p1"):
        account.resume_pod("p1", 2)
    assert 'podResume(input: { podId: "p1", gpuCount: 2 })' in script.queries()[0]


TROUBLE = refused("Something went wrong. Please try again later or contact support.")


def test_trouble_at_a_resume_is_a_matter_of_capacity(script: Script, account: RunPodSdk, clock: FakeClock) -> None:
    script.will(TROUBLE)
    with pytest.raises(CapacityError, match="Something went wrong"):
        account.resume_pod("p1", 1)
    assert clock.sleeps == []


@pytest.mark.parametrize(
    ("call", "done"),
    [
        (lambda account: account.list_pods(), PODS),
        (lambda account: account.stop_pod("p1"), data(podStop={"id": "p1", "desiredStatus": "EXITED"})),
        (lambda account: account.terminate_pod("p1"), data(podTerminate=None)),
    ],
    ids=["read", "stop", "terminate"],
)
def test_trouble_at_anything_else_is_tried_again(
    script: Script, account: RunPodSdk, clock: FakeClock, call: Callable[[RunPodSdk], object], done: Reply
) -> None:
    script.will(TROUBLE, done)
    call(account)
    assert len(script.requests) == 2
    assert len(clock.sleeps) == 1


# Creating


CREATED = data(podFindAndDeployOnDemand={"id": "new1"})


def created_input(query: str) -> dict[str, Any]:
    """Return the mutation's input as a GraphQL server reads it."""
    value = query[query.index("input: {") + len("input: ") : query.rindex(") {")]
    parsed = graphql.value_from_ast_untyped(graphql.parse_value(value))
    assert graphql.parse(query)
    assert isinstance(parsed, dict)
    return parsed


def test_pod_is_created_with_everything_asked_for(script: Script, account: RunPodSdk) -> None:
    script.will(GPU_EXISTS, CREATED)
    assert account.create_pod(replace(SPEC, gpu_count=2), GPU) == "new1"
    assert created_input(script.mutations()[0]) == {
        "name": "demo",
        "imageName": SPEC.image,
        "cloudType": "SECURE",
        "startSsh": True,
        "gpuTypeId": GPU,
        "supportPublicIp": True,
        "gpuCount": 2,
        "volumeInGb": 0,
        "minVcpuCount": 1,
        "minMemoryInGb": 1,
        "dataCenterId": "EU-RO-1",
        "dockerArgs": "bash -c 'exec true'",
        "containerDiskInGb": 50,
        "ports": "22/tcp",
        "volumeMountPath": "/workspace",
        "env": [{"key": "PODTASKS_PROJECT", "value": "demo"}],
        "networkVolumeId": "vol1",
    }


def test_cpu_pod_is_created_with_its_instance_and_no_gpu(script: Script, account: RunPodSdk) -> None:
    script.will(data(deployCpuPod={"id": "cpu1"}))
    assert account.create_cpu_pod(replace(SPEC, gpu_count=0, name=HOSTILE), 'cpu3c-2-4"') == "cpu1"
    assert created_input(script.mutations()[0]) == {
        "name": HOSTILE,
        "imageName": SPEC.image,
        "cloudType": "SECURE",
        "startSsh": True,
        "instanceId": 'cpu3c-2-4"',
        "templateId": "runpod-ubuntu",
        "dataCenterId": "EU-RO-1",
        "dockerArgs": "bash -c 'exec true'",
        "containerDiskInGb": 50,
        "ports": "22/tcp",
        "volumeMountPath": "/workspace",
        "env": [{"key": "PODTASKS_PROJECT", "value": "demo"}],
        "networkVolumeId": "vol1",
    }


def test_pod_without_a_network_volume_gets_a_volume_disk(script: Script, account: RunPodSdk) -> None:
    script.will(GPU_EXISTS, CREATED)
    account.create_pod(replace(SPEC, network_volume_id=None, data_center=None), GPU)
    order = created_input(script.mutations()[0])
    assert order["volumeInGb"] == 20
    assert order["dataCenterId"] is None
    assert "networkVolumeId" not in order


def test_hostile_values_arrive_intact(script: Script, account: RunPodSdk) -> None:
    script.will(GPU_EXISTS, CREATED)
    spec = replace(
        SPEC,
        name=HOSTILE,
        image=HOSTILE,
        data_center=HOSTILE,
        network_volume_id=HOSTILE,
        mount_path=HOSTILE,
        start_command=HOSTILE,
        env={"PLAIN": HOSTILE, 'odd"name': "x", "HF_TOKEN": Secret(HOSTILE + "secret")},
    )
    account.create_pod(spec, GPU)
    order = created_input(script.mutations()[0])
    for name in ("name", "imageName", "dataCenterId", "networkVolumeId", "volumeMountPath", "dockerArgs"):
        assert order[name] == HOSTILE, name
    env = {pair["key"]: pair["value"] for pair in order["env"]}
    assert env == {"PLAIN": HOSTILE, 'odd"name': "x", "HF_TOKEN": HOSTILE + "secret"}


@pytest.mark.parametrize(
    "lost",
    [
        BAD_GATEWAY,
        Reply(hang_up=True),
        Reply({"data": None}),
        data(podFindAndDeployOnDemand=None),
        data(podFindAndDeployOnDemand={"name": "without an id"}),
    ],
    ids=str,
)
def test_creation_whose_answer_is_lost_is_not_repeated(
    script: Script, account: RunPodSdk, clock: FakeClock, lost: Reply
) -> None:
    script.will(GPU_EXISTS, lost)
    with pytest.raises(ApiCallError) as caught:
        account.create_pod(SPEC, GPU)
    assert caught.value.may_have_acted is True
    assert len(script.mutations()) == 1
    assert clock.sleeps == []


def test_creation_refused_for_too_many_calls_did_nothing(script: Script, account: RunPodSdk) -> None:
    script.will(GPU_EXISTS, Reply({"message": "Too Many Requests"}, 429, {"Retry-After": "12"}))
    with pytest.raises(ApiCallError) as caught:
        account.create_pod(SPEC, GPU)
    assert (caught.value.may_have_acted, caught.value.retry_after_s) == (False, 12)


def test_creation_without_capacity_says_which_gpu(script: Script, account: RunPodSdk) -> None:
    script.will(GPU_EXISTS, refused(NO_CAPACITY))
    with pytest.raises(CapacityError) as caught:
        account.create_pod(SPEC, GPU)
    assert caught.value.what == f"RunPod cannot create a pod with {GPU}: {NO_CAPACITY}"


def test_creation_in_trouble_is_a_matter_of_capacity(script: Script, account: RunPodSdk) -> None:
    script.will(GPU_EXISTS, TROUBLE)
    with pytest.raises(CapacityError, match="Something went wrong"):
        account.create_pod(SPEC, GPU)


def test_creation_with_an_unknown_gpu_is_refused_at_once(script: Script, account: RunPodSdk) -> None:
    script.will(data(gpuTypes=[]))
    with pytest.raises(ApiError, match="no such GPU type") as caught:
        account.create_pod(SPEC, "NVIDIA nonsense")
    assert "NVIDIA nonsense" in caught.value.what
    assert script.mutations() == []


# Reading


def test_key_goes_into_the_header_and_nowhere_else(script: Script, account: RunPodSdk) -> None:
    script.will(PODS)
    account.list_pods()
    request = script.requests[0]
    assert request["headers"]["Authorization"] == f"Bearer {KEY}"
    assert request["path"] == "/graphql"
    assert KEY not in request["query"]


def test_pod_is_read_with_its_port_and_environment(script: Script, account: RunPodSdk) -> None:
    ports = [{"ip": "198.51.100.9", "isIpPublic": True, "privatePort": 22, "publicPort": 40022, "type": "tcp"}]
    answer = {"id": "p1", "desiredStatus": "RUNNING", "env": ["A=b=c"], "runtime": {"ports": ports}}
    script.will(data(pod=answer), data(myself={"pods": [answer]}))
    pod = account.find_pod("p1")
    assert pod is not None
    assert (pod.status, pod.ssh, pod.env) == (PodStatus.RUNNING, SshEndpoint("198.51.100.9", 40022), {"A": "b=c"})
    assert account.list_pods() == [pod]


@pytest.mark.parametrize("pod_id", ["nope", 'x" }) { id } } #', "new\nline"])
def test_unknown_pod_is_none_whatever_its_id(script: Script, account: RunPodSdk, pod_id: str) -> None:
    script.will(data(pod=None))
    assert account.find_pod(pod_id) is None
    query = script.queries()[0]
    assert graphql.parse(query)
    assert json.dumps(pod_id) in query


def test_network_volumes_are_read(script: Script, account: RunPodSdk) -> None:
    volumes = [{"id": "v1", "name": None, "size": None, "dataCenterId": "EU-RO-1"}]
    script.will(data(myself={"networkVolumes": volumes}), data(myself={"networkVolumes": None}))
    assert account.list_network_volumes() == [NetworkVolume("v1", "", 0, "EU-RO-1")]
    assert account.list_network_volumes() == []


@pytest.mark.parametrize("bad", [data(myself=None), data(myself={"networkVolumes": [{"id": "v1"}]})], ids=str)
def test_account_that_is_answered_by_halves_is_asked_for_again(script: Script, account: RunPodSdk, bad: Reply) -> None:
    script.will(bad, data(myself={"networkVolumes": []}))
    assert account.list_network_volumes() == []


def test_offers_and_gpu_types_are_read(script: Script, account: RunPodSdk) -> None:
    gpu = {"id": GPU, "displayName": "RTX 4090", "memoryInGb": 24, "securePrice": 0.69, "communityPrice": 0.34}
    offers = {"g0": [], "g1": [{**gpu, "lowestPrice": {"stockStatus": "Low"}}]}
    script.will(Reply({"data": offers}), data(gpuTypes=None), data(gpuTypes=[{"id": GPU}, {"id": "B"}]))
    found = account.list_offers(["Nope", GPU], gpu_count=1, data_center="EU-RO-1", secure=True)
    assert found == [GpuOffer(GPU, "RTX 4090", 24, 0.69, "Low")]
    assert graphql.parse(script.queries()[0])
    assert account.list_gpu_types() == [GPU, "B"]


def test_pod_is_terminated(script: Script, account: RunPodSdk) -> None:
    script.will(data(podTerminate=None))
    account.terminate_pod("p1")
    assert 'podTerminate(input: { podId: "p1" })' in script.queries()[0]


def test_sdk_imported_ahead_is_the_one_used_later(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = threading.Event()
    monkeypatch.setattr(runpod_sdk, "_import_sdk", imported.set)
    runpod_sdk.import_in_background()
    assert imported.wait(5)
