"""Bills over REST v2: they say what the meter counted, split at the borders of the buckets."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.contract.local_cloud import Emulator, wait_for

HOUR_S = 3600.0
# Friday.
NOON = datetime(2026, 5, 1, 12, tzinfo=timezone.utc).timestamp()
POD = {
    "id": "pod1",
    "key": "rpa_X",
    "host_suffix": "aa",
    "machine_id": "m",
    "created_at": NOON - 0.5 * HOUR_S,
    "desired": "EXITED",
    "started_at": NOON,
    "stopped_at": NOON + 20 * HOUR_S,
    "gpu_count": 1,
    "usd_per_hour": 0.69,
    "container": None,
    "public_ports": {},
    "stale_ports": {},
    "intervals": [
        {"start": NOON - 0.5 * HOUR_S, "end": NOON + 0.25 * HOUR_S, "usd_per_hour": 0.69},
        {"start": NOON + 10 * HOUR_S, "end": NOON + 20 * HOUR_S, "usd_per_hour": 1.38},
    ],
    "removed_at": NOON + 30 * HOUR_S,
}
ORDER = {
    "name": "old",
    "image": "i",
    "cloud": "SECURE",
    "data_center": "EU-RO-1",
    "env": {},
    "usd_per_hour": 0.69,
    "gpu_type_id": "NVIDIA GeForce RTX 4090",
    "gpu_count": 1,
    "container_disk_gb": 73,
    "volume_gb": 146,
}


@pytest.fixture(scope="module")
def history(new_emulator: Callable[..., Emulator]) -> Emulator:
    """An emulator whose account had pods and volumes in May 2026."""
    emulator = new_emulator().start()
    emulator.end()
    path = emulator.state / "state.json"
    state = json.loads(path.read_text())
    cpu = {
        **ORDER,
        "gpu_type_id": None,
        "gpu_count": 0,
        "cpu_flavour": "cpu3c",
        "container_disk_gb": 0,
        "volume_gb": 73,
    }
    interval = {"start": NOON, "end": NOON + HOUR_S, "usd_per_hour": 0.06}
    state["pods"] = [
        {**POD, "order": ORDER},
        {**POD, "id": "cpu1", "order": cpu, "created_at": NOON, "gpu_count": 0, "intervals": [interval]},
    ]
    for volume in state["account"]["volumes"]:
        volume["created_at"] = NOON
    path.write_text(json.dumps(state))
    return emulator.start()


def read(emulator: Emulator, path: str) -> Any:  # noqa: ANN401
    answer = emulator.call("GET", f"/v2/billing{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def span(record: dict[str, Any]) -> tuple[str, str]:
    return record["startTime"], record["endTime"]


MAY = "startTime=2026-05-01T00:00:00Z&endTime=2026-05-03T00:00:00Z"


def test_a_day_holds_what_it_cost(history: Emulator) -> None:
    bill = read(history, f"/pods?podId=pod1&{MAY}")
    first, second = bill["records"]
    assert span(first) == ("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z")
    assert span(second) == ("2026-05-02T00:00:00Z", "2026-05-03T00:00:00Z")
    assert first["gpuAmount"] == pytest.approx(0.75 * 0.69 + 2 * 1.38)
    assert second["gpuAmount"] == pytest.approx(8 * 1.38)
    assert first["diskAmount"] == pytest.approx(2.75 * 0.03 + 9.75 * 0.04)
    assert (first["cpuAmount"], first["podId"]) == (0, "pod1")
    assert first["totalAmount"] == pytest.approx(first["gpuAmount"] + first["diskAmount"])
    assert bill["metadata"] == {
        "query": {
            "startTime": "2026-05-01T00:00:00Z",
            "endTime": "2026-05-03T00:00:00Z",
            "bucketSize": "day",
            "podId": "pod1",
        },
        "recordCount": 2,
        "uniquePodCount": 1,
        "totals": {name: first[name] + second[name] for name in bill["metadata"]["totals"]},
    }


@pytest.mark.parametrize("size", ["hour", "day", "week", "month", "year"])
def test_bills_add_up_to_the_meter_whatever_the_bucket(history: Emulator, size: str) -> None:
    bill = read(history, f"/pods?bucketSize={size}&startTime=2026-04-30T13:14:15Z&endTime=2026-06-01T00:00:00%2B00:00")
    counted = {pod["id"]: pod for pod in history.control("GET", "/meter")["pods"]}
    for pod_id, part in (("pod1", "gpuAmount"), ("cpu1", "cpuAmount")):
        records = [record for record in bill["records"] if record["podId"] == pod_id]
        assert sum(record[part] for record in records) == pytest.approx(counted[pod_id]["usd_compute"], abs=1e-12)
        assert sum(record["diskAmount"] for record in records) == pytest.approx(counted[pod_id]["usd_disk"], abs=1e-12)
    total = sum(pod["usd"] for pod in counted.values())
    assert bill["metadata"]["totals"]["totalAmount"] == pytest.approx(total, abs=1e-12)
    assert bill["metadata"]["uniquePodCount"] == 2


@pytest.mark.parametrize(
    ("size", "borders"),
    [
        ("hour", ("2026-05-01T12:00:00Z", "2026-05-01T13:00:00Z")),
        ("day", ("2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z")),
        ("week", ("2026-04-27T00:00:00Z", "2026-05-04T00:00:00Z")),
        ("month", ("2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z")),
        ("year", ("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z")),
    ],
)
def test_windows_widen_to_whole_buckets(history: Emulator, size: str, borders: tuple[str, str]) -> None:
    window = "startTime=2026-05-01T12:20:00Z&endTime=2026-05-01T12:40:00Z"
    bill = read(history, f"/pods?podId=cpu1&bucketSize={size}&{window}")
    assert span(bill["metadata"]["query"]) == borders
    assert [span(record) for record in bill["records"]] == [borders]
    assert bill["records"][0]["cpuAmount"] == pytest.approx(0.06)


def test_the_last_days_end_with_today(history: Emulator) -> None:
    midnight = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    query = read(history, "/network-volumes?lastN=3")["metadata"]["query"]
    text = "%Y-%m-%dT%H:%M:%SZ"
    assert span(query) == (f"{midnight - timedelta(days=2):{text}}", f"{midnight + timedelta(days=1):{text}}")


def test_volumes_are_billed_all_the_time(history: Emulator) -> None:
    volume_id = history.info["volume_id"]
    bill = read(history, f"/network-volumes?networkVolumeId={volume_id}&{MAY}")
    hourly = 100 * 0.07 / 730
    assert [record["standardAmount"] for record in bill["records"]] == pytest.approx([12 * hourly, 24 * hourly])
    assert {record["networkVolumeId"] for record in bill["records"]} == {volume_id}
    assert bill["metadata"]["query"]["networkVolumeId"] == volume_id
    everything = read(history, f"/network-volumes?{MAY}")
    assert everything["metadata"]["uniqueNetworkVolumeCount"] == 2
    now = history.control("GET", "/meter")
    whole = read(history, "/network-volumes?bucketSize=year&startTime=2026-05-01T00:00:00Z")
    counted = sum(volume["usd"] for volume in now["network_volumes"])
    assert whole["metadata"]["totals"]["totalAmount"] == pytest.approx(counted, rel=1e-5)


def test_the_whole_bill_is_the_sum_of_its_parts(history: Emulator) -> None:
    bill, pods, volumes = (read(history, f"{path}?{MAY}") for path in ("", "/pods", "/network-volumes"))
    totals = bill["metadata"]["totals"]
    assert totals["podGpuAmount"] == pytest.approx(pods["metadata"]["totals"]["gpuAmount"])
    assert totals["podCpuAmount"] == pytest.approx(0.06)
    assert totals["podDiskAmount"] == pytest.approx(pods["metadata"]["totals"]["diskAmount"])
    assert totals["storageStandardAmount"] == pytest.approx(volumes["metadata"]["totals"]["totalAmount"])
    sums = pods["metadata"]["totals"]["totalAmount"] + volumes["metadata"]["totals"]["totalAmount"]
    assert totals["totalAmount"] == pytest.approx(sums)
    assert [span(record)[0] for record in bill["records"]] == ["2026-05-01T00:00:00Z", "2026-05-02T00:00:00Z"]


def test_a_running_pod_is_on_the_bill_of_today(emulator: Emulator) -> None:
    query = 'mutation { deployCpuPod(input: {instanceId: "cpu3c-2-4", imageName: "i"}) { id } }'
    pod_id = emulator.graphql(query)["data"]["deployCpuPod"]["id"]

    def spent() -> float:
        records = read(emulator, f"/pods?podId={pod_id}&lastN=1")["records"]
        return float(sum(record["cpuAmount"] for record in records))

    before = wait_for(spent, "something is on the bill")
    assert wait_for(lambda: spent() > before, "it grows")
    emulator.graphql(f'mutation {{ podTerminate(input: {{podId: "{pod_id}"}}) }}')
    wait_for(lambda: not emulator.control("GET", "/status")["pods"], "it is gone")
    counted = next(pod for pod in emulator.control("GET", "/meter")["pods"] if pod["id"] == pod_id)
    assert spent() == pytest.approx(counted["usd_compute"], abs=1e-12)
    assert spent() <= 0.06 * (time.time() - counted["intervals"][0]["start"]) / 3600


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("bucketSize=minute", 422),
        ("lastN=0", 422),
        ("lastN=many", 422),
        ("startTime=yesterday", 422),
        ("startTime=2026-05-01", 422),
        ("lastN=2&startTime=2026-05-01T00:00:00Z", 400),
        ("lastN=2&endTime=2026-05-01T00:00:00Z", 400),
        ("startTime=2026-05-02T00:00:00Z&endTime=2026-05-01T00:00:00Z", 400),
        ("lastN=99999999999&bucketSize=year", 400),
        ("lastN=99999999999&bucketSize=day", 400),
    ],
)
@pytest.mark.parametrize("path", ["", "/pods", "/network-volumes"])
def test_a_wrong_period_is_refused(history: Emulator, path: str, query: str, status: int) -> None:
    answer = history.call("GET", f"/v2/billing{path}?{query}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert answer.json()["detail"]
