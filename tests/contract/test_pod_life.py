"""How pods end and come back, and what they cost meanwhile."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.contract.local_cloud import GPU, Emulator, Pods, escaped, public_port, wait_for

TRAPPING = """bash -c "trap 'echo TERM >> /workspace/{0}; sleep {1}; echo done >> /workspace/{0}; exit' TERM; \
touch /workspace/{0}; while :; do sleep 0.01; done" """


def trapping(name: str, linger_s: float) -> str:
    return escaped(TRAPPING.format(name, linger_s))


def note_of(emulator: Emulator, pod_id: str, name: str) -> Path:
    path = Path(emulator.inside(pod_id)["volume"], name)
    wait_for(path.exists, "the pod is ready for SIGTERM")
    return path


def test_a_stop_gives_process_1_time_to_end(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    pod_id = pods.create(docker_args=trapping("graceful", 0.3))
    note = note_of(emulator, pod_id, "graceful")
    sdk.stop_pod(pod_id)
    pods.wait_until_ended(pod_id)
    assert note.read_text() == "TERM\ndone\n"


def test_a_stop_kills_what_does_not_end(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    emulator.turn(stop_grace_s=0.3)
    pod_id = pods.create(docker_args=trapping("stubborn", 60))
    note = note_of(emulator, pod_id, "stubborn")
    before = time.monotonic()
    sdk.stop_pod(pod_id)
    pods.wait_until_ended(pod_id)
    assert 0.3 <= time.monotonic() - before < 5
    assert note.read_text() == "TERM\n"


def test_a_preemption_warns_shortly_and_says_outbid(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    emulator.turn(preempt_grace_s=0.3)
    pod_id = pods.create(docker_args=trapping("preempted", 60))
    note = note_of(emulator, pod_id, "preempted")
    emulator.control("POST", f"/pods/{pod_id}/preempt")
    pod = sdk.get_pod(pod_id)
    assert pod["desiredStatus"] == "EXITED"
    assert pod["lastStatusChange"].startswith("Outbid: ")
    pods.wait_until_ended(pod_id)
    assert note.read_text() == "TERM\n"


def test_a_lost_host_gives_no_signal(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    pod_id = pods.create(docker_args=trapping("lost", 60))
    note = note_of(emulator, pod_id, "lost")
    emulator.control("POST", f"/pods/{pod_id}/kill")
    pods.wait_until_ended(pod_id)
    assert note.read_text() == ""
    pod = sdk.get_pod(pod_id)
    assert (pod["desiredStatus"], pod["lastStatusChange"].split(":")[0]) == ("EXITED", "Exited by Runpod")


def test_a_container_whose_command_ends_is_started_again_and_billed_on(
    emulator: Emulator, sdk: ModuleType, pods: Pods
) -> None:
    pod_id = pods.create(
        docker_args="bash -c 'echo start >> /workspace/starts; test -e /once || touch /once && exit 3'"
    )
    starts = note_of(emulator, pod_id, "starts")
    wait_for(lambda: starts.read_text().count("start") >= 3, "three starts")
    assert sdk.get_pod(pod_id)["desiredStatus"] == "RUNNING"
    bill = next(item for item in emulator.control("GET", "/meter")["pods"] if item["id"] == pod_id)
    assert [interval["end"] for interval in bill["intervals"]] == [None]
    sdk.stop_pod(pod_id)
    pods.wait_until_ended(pod_id)


def test_the_meter_counts_seconds_run_times_the_price(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    pod_id = pods.create(network_volume_id=None, volume_in_gb=20, container_disk_in_gb=50)

    def bill() -> dict[str, object]:
        return dict(next(item for item in emulator.control("GET", "/meter")["pods"] if item["id"] == pod_id))

    sdk.stop_pod(pod_id)
    sdk.resume_pod(pod_id, 2)
    time_then = bill()["running_s"]
    wait_for(lambda: bill()["running_s"] != time_then, "the meter runs")
    sdk.stop_pod(pod_id)
    read = bill()
    assert bill()["running_s"] == read["running_s"]
    intervals = json.loads(json.dumps(read["intervals"]))
    assert [interval["usd_per_hour"] for interval in intervals] == [0.69, 1.38]
    usd = sum((interval["end"] - interval["start"]) / 3600 * interval["usd_per_hour"] for interval in intervals)
    assert read["usd_compute"] == pytest.approx(usd)
    assert read["usd_disk"] and read["is_running"] is False


def test_the_account_shows_what_is_spent(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    query = "query { myself { clientBalance currentSpendPerHr } }"
    volumes = emulator.graphql(query)["data"]["myself"]["currentSpendPerHr"]
    pod_id = pods.create()
    running = emulator.graphql(query)["data"]["myself"]
    assert running["currentSpendPerHr"] == pytest.approx(volumes + 0.69 + 10 * 0.1 / 730, abs=1e-5)
    assert 0 < running["clientBalance"] < 100
    sdk.stop_pod(pod_id)
    assert emulator.graphql(query)["data"]["myself"]["currentSpendPerHr"] == volumes


@pytest.mark.parametrize("command", ["pod stop", "stop pod"])
def test_a_pod_stops_itself_with_runpodctl(emulator: Emulator, sdk: ModuleType, pods: Pods, command: str) -> None:
    pod_id = pods.ready_pod()
    pods.try_ssh(pod_id, f"runpodctl {command} {pod_id}")
    pods.wait_until_ended(pod_id)
    assert sdk.get_pod(pod_id)["desiredStatus"] == "EXITED"
    last = next(call for call in reversed(emulator.control("GET", "/calls")) if call["operation"] == "podStop")
    assert (last["key"], last["status"]) == (f"pod {pod_id}", 200)


@pytest.mark.parametrize("command", ["pod delete", "remove pod"])
def test_a_pod_terminates_itself_with_runpodctl(sdk: ModuleType, pods: Pods, command: str) -> None:
    pod_id = pods.ready_pod()
    pods.try_ssh(pod_id, f"runpodctl {command} {pod_id}")
    wait_for(lambda: sdk.get_pod(pod_id) is None, "the pod is gone")


def test_runpodctl_says_when_it_failed(pods: Pods) -> None:
    pod_id = pods.ready_pod()
    failed = pods.try_ssh(pod_id, "runpodctl pod stop another")
    assert failed.returncode == 1
    assert b"its own pod" in failed.stderr
    assert pods.try_ssh(pod_id, "runpodctl pod dance").returncode == 2


def test_rest_v2_stops_and_terminates_with_the_pods_own_key(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    pod_id = pods.ready_pod()
    key = pods.environment(pod_id)["RUNPOD_API_KEY"]
    stopped = emulator.call("POST", f"/v2/pods/{pod_id}/action", {"action": "stop"}, key=key)
    assert (stopped.status_code, stopped.json()["status"]) == (200, "EXITED")
    again = emulator.call("POST", f"/v2/pods/{pod_id}/action", {"action": "stop"}, key=key)
    assert (again.status_code, again.headers["content-type"]) == (409, "application/problem+json")
    assert emulator.call("POST", f"/v2/pods/{pod_id}/action", {"action": "dance"}).status_code == 422
    assert emulator.call("DELETE", f"/v2/pods/{pod_id}", key=key).status_code == 204
    wait_for(lambda: sdk.get_pod(pod_id) is None, "the pod is gone")
    assert emulator.call("DELETE", f"/v2/pods/{pod_id}").status_code == 404
    assert emulator.call("DELETE", f"/v2/pods/{pod_id}", key=key).status_code == 401


def test_a_pods_key_reaches_its_own_pod_only(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    own, other = pods.ready_pod(), pods.create()
    key = pods.environment(own)["RUNPOD_API_KEY"]
    refused = [
        "query { myself { id } }",
        "query { gpuTypes { id } }",
        f'query {{ pod(input: {{podId: "{other}"}}) {{ id }} }}',
        f'mutation {{ podStop(input: {{podId: "{other}"}}) {{ id }} }}',
        f'mutation {{ podTerminate(input: {{podId: "{other}"}}) }}',
        f'mutation {{ podResume(input: {{podId: "{own}", gpuCount: 1}}) {{ id }} }}',
        f'mutation {{ podFindAndDeployOnDemand(input: {{gpuTypeId: "{GPU}", imageName: "i"}}) {{ id }} }}',
        'mutation { updateUserSettings(input: {pubKey: "x"}) { id } }',
    ]
    for query in refused:
        assert emulator.graphql(query, key=key)["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    assert emulator.call("DELETE", f"/v2/pods/{other}", key=key).status_code == 403
    assert emulator.call("GET", "/_cloud/status", key=key).status_code == 401
    assert sdk.get_pod(other)["desiredStatus"] == "RUNNING"
    query = f'query {{ pod(input: {{podId: "{own}"}}) {{ id }} }}'
    assert emulator.graphql(query, key=key)["data"]["pod"] == {"id": own}


def test_ports_come_late_and_ssh_later(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    emulator.turn(ports_s=0.3, ssh_s=1.5)
    pod_id = pods.create()
    assert sdk.get_pod(pod_id)["runtime"] is None
    port = wait_for(lambda: public_port(sdk.get_pod(pod_id)), "ports")
    assert pods.try_ssh(pod_id, "true", port=port).returncode == 255
    pods.ready(pod_id)


def test_the_first_readings_after_a_start_show_the_old_port(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    emulator.turn(stale_port_s=1)
    pod_id = pods.ready_pod()
    old = public_port(sdk.get_pod(pod_id))
    sdk.stop_pod(pod_id)
    sdk.resume_pod(pod_id, 1)
    assert public_port(sdk.get_pod(pod_id)) == old
    new = wait_for(lambda: (port := public_port(sdk.get_pod(pod_id))) != old and port, "the new port")
    assert new == emulator.inside(pod_id)["public_ports"]["22"]


def test_a_stopped_pod_keeps_a_stale_runtime_for_a_while(emulator: Emulator, sdk: ModuleType, pods: Pods) -> None:
    emulator.turn(stale_runtime_s=0.5)
    pod_id = pods.ready_pod()
    port = public_port(sdk.get_pod(pod_id))
    sdk.stop_pod(pod_id)
    assert public_port(sdk.get_pod(pod_id)) == port
    wait_for(lambda: sdk.get_pod(pod_id)["runtime"] is None, "runtime is gone")


def test_pods_outlive_the_emulator(
    new_emulator: Callable[..., Emulator], ssh_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import runpod

    emulator = new_emulator().start()
    monkeypatch.setenv("RUNPOD_API_BASE_URL", emulator.info["url"])
    monkeypatch.setattr(runpod, "api_key", emulator.info["key"])
    pods = Pods(emulator, runpod, ssh_key, tmp_path)
    kept, dead, stopped = pods.ready_pod(), pods.ready_pod(), pods.ready_pod()
    port, process_id = public_port(runpod.get_pod(kept)), emulator.inside(kept)["process_id"]
    victim = emulator.inside(dead)["process_id"]
    info = dict(emulator.info)
    emulator.turn(resume_fails=True)
    emulator.end()
    assert not (emulator.state / "server.json").exists()
    assert pods.try_ssh(kept, "true", port=port).returncode == 0
    os.kill(victim, signal.SIGKILL)
    emulator.start()
    assert {**info, "pid": 0} == {**emulator.info, "pid": 0}
    assert emulator.inside(kept)["process_id"] == process_id
    assert public_port(runpod.get_pod(kept)) == port
    assert emulator.control("GET", "/dials")["resume_fails"] is True
    bill = next(item for item in emulator.control("GET", "/meter")["pods"] if item["id"] == kept)
    assert [interval["end"] for interval in bill["intervals"]] == [None]
    wait_for(lambda: emulator.inside(dead)["process_id"] not in (None, victim), "the dead container restarts")
    pods.try_ssh(stopped, f"runpodctl pod stop {stopped}")
    pods.wait_until_ended(stopped)
    runpod.stop_pod(kept)
    pods.wait_until_ended(kept)
