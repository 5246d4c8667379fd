"""The emulator as a program."""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.contract.local_cloud import READY_S, Emulator, wait_for


def test_server_json_is_for_its_owner_only(emulator: Emulator) -> None:
    for name in ("server.json", "state.json"):
        assert stat.S_IMODE((emulator.state / name).stat().st_mode) == 0o600
    assert emulator.info["pid"] == emulator.process.pid if emulator.process else False
    assert emulator.info["sandbox"] == emulator.control("GET", "/status")["sandbox"]


def test_a_second_start_on_one_directory_is_refused(emulator: Emulator) -> None:
    second = subprocess.run(emulator.command(), capture_output=True, text=True, check=False, timeout=READY_S)
    assert second.returncode == 3
    assert str(emulator.info["pid"]) in second.stderr
    assert emulator.control("GET", "/status")


def test_it_ends_by_itself_when_nobody_calls_and_no_pod_runs(new_emulator: Callable[..., Emulator]) -> None:
    emulator = new_emulator("--idle-exit-s", "0.4").start()
    assert emulator.process is not None
    assert emulator.process.wait(READY_S) == 0
    assert not (emulator.state / "server.json").exists()


def test_it_does_not_end_by_itself_while_a_pod_runs(new_emulator: Callable[..., Emulator]) -> None:
    emulator = new_emulator("--idle-exit-s", "0.3").start()
    query = 'mutation { podFindAndDeployOnDemand(input: {gpuTypeId: "NVIDIA L40S", imageName: "i"}) { id } }'
    emulator.graphql(query)
    assert emulator.process is not None
    try:
        emulator.process.wait(1.0)
    except subprocess.TimeoutExpired:
        emulator.shut_down()
    else:
        raise AssertionError("it ended under a running pod")


def test_shutdown_with_stop_ends_all_pods(new_emulator: Callable[..., Emulator]) -> None:
    emulator = new_emulator().start()
    query = 'mutation { podFindAndDeployOnDemand(input: {gpuTypeId: "NVIDIA L40S", imageName: "i"}) { id } }'
    pod_id = emulator.graphql(query)["data"]["podFindAndDeployOnDemand"]["id"]
    process_id = wait_for(lambda: emulator.inside(pod_id)["process_id"], "container")
    answer = emulator.control("POST", "/shutdown", {"pods": "stop"})
    assert answer == {"pods": {pod_id: "EXITED"}}
    assert not os.path.exists(f"/proc/{process_id}")
    assert emulator.process is not None
    assert emulator.process.wait(READY_S) == 0


def test_an_end_in_the_middle_of_starts_leaves_every_container_on_record(
    new_emulator: Callable[..., Emulator],
) -> None:
    emulator = new_emulator().start()
    query = 'mutation { podFindAndDeployOnDemand(input: {gpuTypeId: "NVIDIA L40S", imageName: "i"}) { id } }'
    ids = [emulator.graphql(query)["data"]["podFindAndDeployOnDemand"]["id"] for _ in range(4)]
    emulator.end()
    emulator.start()
    for pod_id in ids:
        wait_for(partial(_process_id, emulator, pod_id), f"{pod_id} runs")
    for pod_id in ids:
        assert len(_first_processes_of(pod_id)) == 1


def test_a_killed_emulator_leaves_no_stale_announcement_behind_its_successor(
    new_emulator: Callable[..., Emulator],
) -> None:
    emulator = new_emulator().start()
    assert emulator.process is not None
    first = dict(emulator.info)
    emulator.process.send_signal(signal.SIGKILL)
    emulator.process.wait(READY_S)
    emulator.process = subprocess.Popen(emulator.command(), stdin=subprocess.DEVNULL)
    emulator.info = wait_for(lambda: _newer(emulator, first["pid"]), "a new announcement")
    assert (emulator.info["key"], emulator.info["url"]) == (first["key"], first["url"])
    assert emulator.control("GET", "/status")["pods"] == {}


def _process_id(emulator: Emulator, pod_id: str) -> int | None:
    process_id: int | None = emulator.inside(pod_id)["process_id"]
    return process_id


def _first_processes_of(pod_id: str) -> list[str]:
    """Return the processes of this machine that are process 1 of a pod."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            lines = (folder / "status").read_text().splitlines()
            is_first = any(line.startswith("NSpid:") and line.split()[1:][-1] == "1" for line in lines)
            if is_first and f"RUNPOD_POD_ID={pod_id}".encode() in (folder / "environ").read_bytes():
                found.append(folder.name)
    return found


def _newer(emulator: Emulator, old_pid: int) -> dict[str, object] | None:
    info = emulator._read_info()
    return None if info is None or info["pid"] == old_pid else info
