"""The door to REST v2, and the question for all GPU types, against the local cloud."""

from __future__ import annotations

import datetime
import http.server
import threading
import time
from typing import Any

import pytest

from podtasks.doors import runpod_rest
from podtasks.doors.runpod_rest import RunPodRest
from podtasks.doors.runpod_sdk import RunPodSdk
from podtasks.pure.errors import ApiError, ApiUnreachableError, AuthenticationError
from podtasks.pure.secret import Secret
from tests.contract.local_cloud import Emulator, Pods
from tests.unit.fakes import FakeClock


def make_door(emulator: Emulator, clock: FakeClock | None = None, key: str = "") -> RunPodRest:
    return RunPodRest(Secret(key or emulator.info["key"]), f"{emulator.info['url']}/v2", clock or FakeClock())


def strike(emulator: Emulator, kind: str, **more: Any) -> None:  # noqa: ANN401
    emulator.control("POST", "/faults", {"operation": "GET /v2/catalog/cpus", "kind": kind, **more})


def test_cpu_offer_has_its_price(emulator: Emulator) -> None:
    offer = make_door(emulator).find_cpu_offer("cpu3c-2-4")
    assert offer is not None
    assert (offer.id, offer.vcpus, offer.memory_gb) == ("cpu3c-2-4", 2, 4.0)
    assert 0 < offer.usd_per_hour < 1


def test_unknown_cpu_instance_is_none(emulator: Emulator) -> None:
    assert make_door(emulator).find_cpu_offer("cpu9z-2-4") is None
    assert make_door(emulator).find_cpu_offer("cpu3c-4096-8192") is None


def test_pods_and_volumes_are_billed_by_the_day(emulator: Emulator, pods: Pods) -> None:
    pod_id = pods.create()
    door, today = make_door(emulator), datetime.datetime.now(datetime.timezone.utc).date()
    deadline = time.monotonic() + 10
    while not (bills := [bill for bill in door.list_pod_billing(2) if bill.pod_id == pod_id]):
        assert time.monotonic() < deadline, "the pod is never billed"
        time.sleep(0.05)
    assert bills[-1].gpu_usd > 0 and bills[-1].cpu_usd == 0
    assert bills[-1].day in (today, today + datetime.timedelta(days=1))
    volumes = door.list_volume_billing(2)
    assert emulator.info["volume_id"] in {bill.volume_id for bill in volumes}
    assert all(bill.total_usd >= 0 for bill in volumes)


def test_key_that_is_refused_is_said_at_once(emulator: Emulator) -> None:
    clock = FakeClock()
    with pytest.raises(AuthenticationError, match="read CPU prices"):
        make_door(emulator, clock, key="rpa_wrong").find_cpu_offer("cpu3c-2-4")
    assert clock.sleeps == []


@pytest.mark.parametrize(
    ("status", "text"), [(403, "does not allow this API key"), (404, "refused to read"), (410, "switched off")]
)
def test_refusals_are_not_tried_again(emulator: Emulator, status: int, text: str) -> None:
    strike(emulator, "html", status=status)
    clock = FakeClock()
    with pytest.raises(ApiError, match=text) as caught:
        make_door(emulator, clock).find_cpu_offer("cpu3c-2-4")
    assert not isinstance(caught.value, ApiUnreachableError)
    assert clock.sleeps == []


def test_problem_s_own_words_are_told(emulator: Emulator) -> None:
    with pytest.raises(ApiError, match="lastN"):
        make_door(emulator).list_pod_billing(-1)


def test_too_many_calls_wait_as_long_as_runpod_says(emulator: Emulator) -> None:
    strike(emulator, "rate_limit", retry_after_s=7)
    clock = FakeClock()
    assert make_door(emulator, clock).find_cpu_offer("cpu3c-2-4") is not None
    assert clock.sleeps == [7.0]


@pytest.mark.parametrize("kind", ["html", "malformed_json", "drop"])
def test_trouble_that_passes_is_tried_again(emulator: Emulator, kind: str) -> None:
    strike(emulator, kind, times=2)
    clock = FakeClock()
    assert make_door(emulator, clock).find_cpu_offer("cpu3c-2-4") is not None
    assert clock.sleeps == [0.5, 1.0]


def test_trouble_that_stays_is_unreachable(emulator: Emulator) -> None:
    strike(emulator, "html", times=9)
    clock = FakeClock()
    with pytest.raises(ApiUnreachableError, match="HTTP 502"):
        make_door(emulator, clock).find_cpu_offer("cpu3c-2-4")
    assert len(clock.sleeps) == len(runpod_rest.RETRY_PAUSES_S)


def test_silence_ends(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod_rest, "TIMEOUT_S", 0.2)
    monkeypatch.setattr(runpod_rest, "RETRY_PAUSES_S", ())
    strike(emulator, "silence", seconds=2)
    with pytest.raises(ApiUnreachableError, match="broke or timed out"):
        make_door(emulator).find_cpu_offer("cpu3c-2-4")


def test_nobody_there_is_unreachable() -> None:
    door = RunPodRest(Secret("rpa_key"), "http://127.0.0.1:9/v2", FakeClock())
    with pytest.raises(ApiUnreachableError, match="no connection"):
        door.list_volume_billing(1)


def test_redirect_is_not_followed_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod_rest, "RETRY_PAUSES_S", ())
    asked: list[str] = []

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(ApiError):
            RunPodRest(Secret("rpa"), f"http://127.0.0.1:{server.server_port}/v2", FakeClock()).find_cpu_offer("a-2-4")
        server.shutdown()
    assert asked == ["/v2/catalog/cpus"]


def test_this_machine_is_reached_without_a_proxy(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert make_door(emulator).find_cpu_offer("cpu3c-2-4") is not None


def test_all_gpu_types_come_in_one_call_with_stock_of_the_place(emulator: Emulator) -> None:
    sdk = RunPodSdk(Secret(emulator.info["key"]), emulator.info["url"], FakeClock())
    before = emulator.control("GET", "/calls")
    there = {gpu.id: gpu for gpu in sdk.list_market(gpu_count=1, data_center="US-CA-2", secure=True)}
    assert len(emulator.control("GET", "/calls")) == len(before) + 1
    elsewhere = {gpu.id: gpu for gpu in sdk.list_market(gpu_count=1, data_center="EU-RO-1", secure=True)}
    assert there["NVIDIA H200"].stock == "High" and elsewhere["NVIDIA H200"].stock.lower() == "none"
    gpu = there["NVIDIA GeForce RTX 4090"]
    assert (gpu.memory_gb, gpu.secure_usd_per_hour, gpu.community_usd_per_hour) == (24, 0.69, 0.34)
    assert there["NVIDIA H200"].community_usd_per_hour is None
