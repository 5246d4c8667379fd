"""The emulator killed at drawn moments: no pod lost or doubled, no process and no file left over, bills right."""

from __future__ import annotations

import contextlib
import importlib
import json
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.contract.local_cloud import READY_S, Emulator, Pods, escaped, wait_for

KILLS = 7
# Enough for every step of a start, a stop and a resume to be hit in turn.
LATEST_KILL_S = 0.25
MUTATIONS = {
    "stop": 'mutation {{ podStop(input: {{podId: "{0}"}}) {{ id }} }}',
    "resume": 'mutation {{ podResume(input: {{podId: "{0}", gpuCount: 1}}) {{ id }} }}',
    "terminate": 'mutation {{ podTerminate(input: {{podId: "{0}"}}) }}',
}
AFTERWARDS = {"stop": "EXITED", "resume": "RUNNING", "terminate": "gone"}


@dataclass
class History:
    """What was asked of a cloud, and what must therefore be: an operation without an answer may have been done."""

    source: random.Random
    public_key: str
    emulator: Emulator
    states: dict[str, set[str]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)

    def act(self) -> bool:
        """Do one drawn thing, like a client who does not know that the server is about to die; was it answered?"""
        known = [name for name in self.ids if self.states[name] != {"gone"}]
        choices = ["create"] * (len(known) < 4) + ["stop", "stop", "resume", "resume", "terminate"] * bool(known)
        verb = self.source.choice(choices)
        if verb == "create":
            return self._create(f"pod {len(self.states)}")
        return self._change(self.source.choice(known), verb)

    def learn(self) -> None:
        """Take note of the ids of pods whose creation was not answered."""
        query = "query { myself { pods { id name } } }"
        for pod in self.emulator.graphql(query)["data"]["myself"]["pods"]:
            assert self.ids.setdefault(pod["name"], pod["id"]) == pod["id"], f"{pod['name']} is there twice"

    def _create(self, name: str) -> bool:
        self.states[name] = {"RUNNING", "gone"}
        query = (
            'mutation {{ podFindAndDeployOnDemand(input: {{gpuTypeId: "NVIDIA L40S", imageName: "i", name: "{0}", '
            'ports: "22/tcp", env: [{{key: "PUBLIC_KEY", value: "{1}"}}]}}) {{ id }} }}'
        )
        answer = self._ask(query.format(name, self.public_key))
        if answer is not None:
            self.ids[name] = answer["podFindAndDeployOnDemand"]["id"]
            self.states[name] = {"RUNNING"}
        return answer is not None

    def _change(self, name: str, verb: str) -> bool:
        before = self.states[name]
        self.states[name] = before | {AFTERWARDS[verb]}
        answer = self._ask(MUTATIONS[verb].format(self.ids[name]))
        if answer is not None:
            # A pod that may be gone already is refused; one that is there does as it is told.
            self.states[name] = {AFTERWARDS[verb]} | (before & {"gone"})
        return answer is not None

    def _ask(self, query: str) -> dict[str, Any] | None:
        """Return an operation's data, None when no answer came."""
        try:
            return dict(self.emulator.graphql(query).get("data") or {})
        except (requests.RequestException, AssertionError):
            return None


@contextlib.contextmanager
def busy(history: History) -> Iterator[None]:
    """Let a client act, one thing after another, until no answer comes; wait for that."""

    def work() -> None:
        while history.act():
            pass

    client = threading.Thread(target=work)
    client.start()
    yield
    client.join(READY_S)
    assert not client.is_alive()


def crash(emulator: Emulator) -> None:
    assert emulator.process is not None
    emulator.process.send_signal(signal.SIGKILL)
    emulator.process.wait(READY_S)
    json.loads((emulator.state / "state.json").read_text())
    (emulator.state / "server.json").unlink()


@pytest.fixture
def crashing(
    new_emulator: Callable[..., Emulator], ssh_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pods]:
    """Pods on an emulator of their own."""
    runpod = importlib.import_module("runpod")
    emulator = new_emulator().start()
    monkeypatch.setenv("RUNPOD_API_BASE_URL", emulator.info["url"])
    monkeypatch.setattr(runpod, "api_key", emulator.info["key"])
    yield Pods(emulator, runpod, ssh_key, tmp_path)
    emulator.turn(stop_grace_s=0)
    emulator.shut_down()


def meter_of(emulator: Emulator, pod_id: str) -> dict[str, Any]:
    return dict(next(bill for bill in emulator.control("GET", "/meter")["pods"] if bill["id"] == pod_id))


def listed(emulator: Emulator) -> dict[str, str]:
    return dict(emulator.control("GET", "/status")["pods"])


def is_settled(emulator: Emulator, pod_id: str) -> bool:
    """Say whether a pod is what it is called: gone, without a process, or open to SSH at the port it shows."""
    state = listed(emulator).get(pod_id)
    if state is None:
        return not processes_of(pod_id)
    inside = emulator.inside(pod_id)
    if state == "EXITED":
        return inside["process_id"] is None and not processes_of(pod_id)
    return inside["process_id"] is not None and greets(inside["public_ports"]["22"])


def greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=READY_S) as end:
            return end.recv(4) == b"SSH-"
    except OSError:
        return False


def processes_of(pod_id: str) -> dict[int, int]:
    """Return the processes that a pod's environment was given to, with their parents."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"RUNPOD_POD_ID={pod_id}\0".encode() in (folder / "environ").read_bytes():
                found[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    return found


def first_processes_of(pod_id: str, sandbox: str) -> list[int]:
    """Return the processes that are process 1 of a pod's container, of which there is one or none."""
    members = processes_of(pod_id)
    if sandbox == "processes":
        return [pid for pid, parent in members.items() if parent not in members]
    return [pid for pid in members if own_number(pid) == 1]


def own_number(pid: int) -> int:
    """Return a process's number in its own namespace."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])


def check_bill(bill: dict[str, Any], state: str, began: float) -> None:
    """A bill has no gap of a start and no overlap, and is open as long as the pod runs."""
    intervals = bill["intervals"]
    assert intervals and intervals[0]["start"] >= began
    borders = [moment for interval in intervals for moment in (interval["start"], interval["end"])]
    assert borders[:-1] == sorted(borders[:-1])
    assert (borders[-1] is None) == (state == "RUNNING") == bill["is_running"]
    assert borders[-1] is None or borders[-1] >= borders[-2]
    assert bill["running_s"] <= time.time() - began


@pytest.mark.parametrize(("sandbox", "seed"), [("auto", 1), ("processes", 3)])
def test_kills_at_drawn_moments_leave_a_consistent_cloud(
    new_emulator: Callable[..., Emulator], ssh_key: Path, sandbox: str, seed: int
) -> None:
    began = time.time()
    emulator = new_emulator("--sandbox", sandbox).start()
    source = random.Random(seed)
    emulator.turn(stop_grace_s=0.2, relay=bool(seed % 2))
    history = History(random.Random(seed), ssh_key.with_suffix(".pub").read_text().strip(), emulator)
    for _ in range(KILLS):
        with busy(history):
            time.sleep(source.uniform(0, LATEST_KILL_S))
            crash(emulator)
        emulator.start()
        history.learn()
    for name, pod_id in history.ids.items():
        wait_for(partial(is_settled, emulator, pod_id), f"{name} ({pod_id}) is settled")
    states = listed(emulator)
    for name, possible in history.states.items():
        assert states.get(history.ids.get(name, ""), "gone") in possible, name
    for name, pod_id in history.ids.items():
        state = states.get(pod_id, "gone")
        expected = [emulator.inside(pod_id)["process_id"]] if state == "RUNNING" else []
        assert first_processes_of(pod_id, emulator.info["sandbox"]) == expected, name
        check_bill(meter_of(emulator, pod_id), state, began)
    assert set(states) <= set(history.ids.values())
    wait_for(lambda: files_of(emulator) == {"lock", "server.json", "state.json", "pods", "volumes"}, "no litter")
    wait_for(lambda: {path.name for path in (emulator.state / "pods").iterdir()} == set(states), "no pod's remains")
    assert not list((emulator.state / "pods").glob("*/trash-*"))
    emulator.shut_down()
    assert not [pid for pod_id in history.ids.values() for pid in processes_of(pod_id)]


def files_of(emulator: Emulator) -> set[str]:
    return {path.name for path in emulator.state.iterdir()}


def test_a_stop_under_way_goes_on_after_a_crash_in_what_is_left_of_its_grace_time(crashing: Pods) -> None:
    emulator, sdk = crashing.emulator, crashing.sdk
    emulator.turn(stop_grace_s=1.0)
    pod_id = stubborn_pod(crashing)
    before = time.monotonic()
    sdk.stop_pod(pod_id)
    emulator.turn(stop_grace_s=600)
    crash(emulator)
    emulator.start()
    crashing.wait_until_ended(pod_id)
    assert time.monotonic() - before >= 1.0
    assert not processes_of(pod_id)


def test_a_crash_between_a_resume_and_the_last_containers_end_takes_that_for_no_new_one(crashing: Pods) -> None:
    emulator, sdk = crashing.emulator, crashing.sdk
    emulator.turn(stop_grace_s=600)
    pod_id = stubborn_pod(crashing)
    first = emulator.inside(pod_id)["process_id"]
    sdk.stop_pod(pod_id)
    sdk.resume_pod(pod_id, 1)
    assert emulator.inside(pod_id)["process_id"] == first
    crash(emulator)
    emulator.start()
    wait_for(lambda: emulator.inside(pod_id)["process_id"] not in (None, first), "a new container")
    assert first_processes_of(pod_id, emulator.info["sandbox"]) == [emulator.inside(pod_id)["process_id"]]
    assert [interval["end"] is None for interval in meter_of(emulator, pod_id)["intervals"]] == [False, True]


def stubborn_pod(pods: Pods) -> str:
    """Return a pod whose process 1 hears SIGTERM and stays."""
    words = "bash -c 'trap : TERM; touch /ready; while :; do sleep 0.05; done'"
    pod_id = pods.create(docker_args=escaped(words))
    wait_for(Path(pods.emulator.inside(pod_id)["disk"], "ready").exists, "process 1 has its trap")
    return pod_id
