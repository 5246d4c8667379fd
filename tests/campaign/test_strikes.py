"""Each strike really strikes, says so where there is nothing to strike, and can be undone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.campaign import schedule
from tests.campaign.strike import Effect, Missed, Strike
from tests.campaign.strikes import ALL, targets
from tests.campaign.strikes import volume as volume_strikes
from tests.campaign.world import World

GPU = "NVIDIA GeForce RTX 4090"
BY_KIND = {strike.kind: strike for strike in ALL}
# What the campaign promises to throw, as its issue lists it, and the kinds that do.
PROMISED = {
    "kill -9 of the command": ["cli/kill"],
    "SIGTERM, SIGHUP": ["cli/terminate", "cli/hang_up"],
    "Ctrl+C": ["cli/interrupt", "cli/interrupt_twice"],
    "two at once": ["cli/second_train"],
    "laptop asleep": ["cli/asleep"],
    "429 with Retry-After": ["api/rate_limit"],
    "500/502 with HTML": ["api/server_error"],
    "time-out after the server acted": ["api/created_and_timed_out", "api/resumed_and_timed_out", "api/dropped"],
    "30 s silence": ["api/silence", "api/long_silence"],
    "malformed JSON": ["api/malformed_json"],
    "null pod": ["api/null_pod"],
    "401 mid-run": ["api/unauthorized"],
    "410": ["api/gone"],
    "capacity and resume errors": ["api/no_capacity", "api/no_resume"],
    "stale port": ["api/stale_port"],
    "pod that never gets a port": ["api/no_port"],
    "pod that dies while booting": ["api/dies_while_booting"],
    "SSH refused for a while": ["network/refuse"],
    "reset in mid-command": ["network/reset_in_command"],
    "reset in mid-log": ["network/reset_in_log"],
    "one-way stall": ["network/stall"],
    "port change": ["network/change_port"],
    "preempted": ["pod/preempt"],
    "without notice": ["pod/preempt_without_notice"],
    "host lost": ["pod/lose_host"],
    "kill -9 of the training": ["pod/kill_training"],
    "the supervisor": ["pod/kill_supervisor"],
    "the guard": ["pod/kill_guard"],
    "the tmux server": ["pod/kill_tmux_server"],
    "all of tmux's children": ["pod/kill_tmux_children"],
    "out of memory": ["pod/out_of_memory"],
    "clock jump": ["pod/jump_clock"],
    "the pod's own stop call failing": ["pod/fail_to_stop"],
    "full while a checkpoint is written": ["volume/fill"],
    "full while the log is written": ["volume/fill_at_log"],
    "a checkpoint cut short at any byte": ["volume/cut_checkpoint"],
    "an unreadable file": ["volume/unreadable"],
    "permission changed": ["volume/change_permission"],
    "a clone left half fetched": ["volume/break_sync", "volume/half_fetched"],
    "or with index.lock": ["volume/leave_git_lock"],
    "a lock left by a dead holder": ["volume/leave_local_lock", "volume/leave_lease"],
    "the emulator restarted": ["cloud/restart", "cloud/crash"],
}
# What can be struck though nothing runs: calls, a start or a lock to come, the cloud itself, the empty volume.
STRIKE_AN_EMPTY_WORLD = {
    *("api/rate_limit", "api/server_error", "api/created_and_timed_out", "api/dropped", "api/silence"),
    *("api/long_silence", "api/malformed_json", "api/null_pod", "api/unauthorized", "api/gone", "api/no_capacity"),
    *("api/no_port", "api/dies_while_booting", "volume/fill", "volume/unreadable", "volume/leave_local_lock"),
    *("cloud/restart", "cloud/crash"),
}
PLAN = schedule.Plan(
    seed=0,
    grace_s=60.0,
    ready_timeout_s=25.0,
    when_done="stop",
    as_runpod=True,
    until_done=False,
    plain=False,
    waits=True,
    boot_s=0.0,
    strikes=(),
)


@pytest.fixture(scope="module")
def whole_world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="s"))
    with World(folder) as world:
        config = world.project.path / "configs/run.yaml"
        config.write_text(re.sub("step_s: .*", "step_s: 0.4", config.read_text()))
        world.project.commit("slower, so that there is time to strike")
        yield world
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(whole_world: World) -> Iterator[World]:
    whole_world.begin(PLAN)
    yield whole_world
    whole_world.end_troubles()
    whole_world.finish()


def hit(world: World, kind: str, *fitting: str) -> Effect:
    """Strike with dice that make what it did hold all of `fitting`; what did not fit is undone."""
    for seed in range(200):
        effect = hit_once(world, kind, seed)
        if all(text in effect.what for text in fitting):
            return effect
        undo(effect)
    raise AssertionError(f"no dice make {kind} do {fitting}")


def hit_once(world: World, kind: str, seed: int) -> Effect:
    return BY_KIND[kind].hit(world, random.Random(seed))


def undo(effect: Effect) -> None:
    if effect.undo is not None:
        effect.undo()


def call(world: World, query: str, timeout_s: float = 20.0) -> tuple[int, str, dict[str, str]]:
    """Send one GraphQL request and return status, text and headers of the answer."""
    server = world.project.server()
    address = urllib.parse.urlsplit(server["url"])
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
    headers = {"Authorization": f"Bearer {server['key']}", "Content-Type": "application/json"}
    with contextlib.closing(connection):
        connection.request("POST", "/graphql", json.dumps({"query": query}), headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())


def create(world: World, name: str = "plain") -> str:
    """Rent a pod with sshd and nothing of podtasks, and return its id."""
    volume = world.project.server()["volume_id"]
    text = (
        f'mutation {{ podFindAndDeployOnDemand(input: {{gpuTypeId: "{GPU}", imageName: "i", name: "{name}", '
        f'networkVolumeId: "{volume}", cloudType: SECURE, ports: "22/tcp", '
        'env: [{key: "PUBLIC_KEY", value: "ssh-ed25519 AAAA me"}]}) { id } }'
    )
    status, answer, _ = call(world, text)
    assert status == 200, answer
    return str(json.loads(answer)["data"]["podFindAndDeployOnDemand"]["id"])


def booted(world: World) -> str:
    pod_id = create(world)
    wait_for(world, lambda: banner(world, pod_id), "sshd to answer")
    return pod_id


def mutate(world: World, field: str, pod_id: str, more: str = "") -> tuple[int, str, dict[str, str]]:
    return call(world, f'mutation {{ {field}(input: {{podId: "{pod_id}"{more}}}) {{ id }} }}')


def stop(world: World, pod_id: str) -> None:
    assert mutate(world, "podStop", pod_id)[0] == 200
    wait_for(world, lambda: inside(world, pod_id)["process_id"] is None, "the pod to end")


def inside(world: World, pod_id: str) -> dict[str, object]:
    told: dict[str, object] = world.project.ask(f"pods/{pod_id}")
    return told


def ssh_port(world: World, pod_id: str) -> int:
    ports = inside(world, pod_id)["public_ports"]
    assert isinstance(ports, dict)
    return int(ports["22"])


def banner(world: World, pod_id: str, timeout_s: float = 5.0) -> bytes:
    """Return what the pod's SSH port says first."""
    with socket.create_connection(("127.0.0.1", ssh_port(world, pod_id)), timeout=timeout_s) as link:
        link.settimeout(timeout_s)
        return link.recv(64)


def train_to_step(world: World, step: int) -> None:
    """Start the slow training and wait for a step of it, seen by the command."""
    world.start()
    wait_for(world, lambda: f"> step {step} ".encode() in world.command.stdout(), f"step {step} to be shown")


def wait_gone(pids: list[int]) -> None:
    for pid in pids:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and targets.is_running(pid):
            time.sleep(0.02)
        assert not targets.is_running(pid), f"{pid} is still there"


def wait_for_end(world: World) -> int:
    world.command.wait(60.0)
    wait_for(world, world.is_idle, "the pod to stop")
    assert world.command.returncode is not None
    return world.command.returncode


def wait_for(world: World, read: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    """Wait until something true comes."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, Missed):
            if read():
                return
        time.sleep(0.01)
    said = world.commands[-1].stderr().decode() if world.commands else ""
    raise AssertionError(f"waited {timeout_s} s for {what}\n{world.timeline}\n{said}")


# What there is


def test_every_promised_fault_is_a_kind_of_its_own() -> None:
    kinds = [kind for group in PROMISED.values() for kind in group]
    assert len(kinds) == len(set(kinds))
    assert sorted(kinds) == sorted(strike.kind for strike in ALL)
    assert len(BY_KIND) == len(ALL)


def test_strikes_throw_only_the_dice_they_are_given() -> None:
    for path in sorted(Path(targets.__file__).parent.glob("*.py")):
        found = re.findall(r"\brandom\.(?!Random\b)\w+|urandom|uuid|secrets\.|SystemRandom|hash\(", path.read_text())
        assert not found, f"{path.name} takes chance from {found}"


@pytest.mark.parametrize("strike", ALL, ids=lambda strike: strike.kind)
def test_strikes_come_at_known_moments(strike: Strike) -> None:
    assert strike.moments and set(strike.moments) <= {"line", "step", "call", "time"}
    assert strike.weight > 0


def test_nothing_to_strike_is_said(world: World) -> None:
    struck = set()
    for strike in ALL:
        try:
            undo(strike.hit(world, random.Random(1)))
            struck.add(strike.kind)
        except Missed as missed:
            assert str(missed), strike.kind
    assert struck == STRIKE_AN_EMPTY_WORLD


# The API


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        ("api/rate_limit", 429, "Too Many"),
        ("api/server_error", None, "<!DOCTYPE"),
        ("api/unauthorized", 401, ""),
        ("api/gone", 410, "Gone"),
    ],
)
def test_a_call_is_refused(world: World, kind: str, status: int | None, text: str) -> None:
    effect = hit(world, kind)
    got, answer, headers = call(world, "{ myself { id } }")
    assert got == status if status else got in (500, 502, 503, 504)
    assert text in answer
    assert ("Retry-After" in headers or "retry-after" in headers) == (status == 429)
    undo(effect)
    assert call(world, "{ myself { id } }")[0] == 200


def test_answers_are_spoilt(world: World) -> None:
    pod_id = create(world)
    ask = f'{{ pod(input: {{podId: "{pod_id}"}}) {{ id }} }}'

    hit(world, "api/malformed_json", "'*'")
    with pytest.raises(json.JSONDecodeError):
        json.loads(call(world, ask)[1])
    hit(world, "api/null_pod", "'pod'")
    assert json.loads(call(world, ask)[1]) == {"data": {"pod": None}}
    undo(hit(world, "api/null_pod", "'pod'"))
    assert json.loads(call(world, ask)[1]) == {"data": {"pod": {"id": pod_id}}}
    effect = hit(world, "api/dropped", "'*'")
    with pytest.raises((http.client.IncompleteRead, OSError)):
        call(world, ask)
    undo(effect)
    assert call(world, ask)[0] == 200


def test_silence_is_long_and_what_was_done_is_done(world: World) -> None:
    hit(world, "api/silence", "'seconds': 1.")
    began = time.monotonic()
    assert call(world, "{ myself { id } }")[0] == 504
    assert 0.9 < time.monotonic() - began < 8

    hit(world, "api/long_silence")
    with pytest.raises(TimeoutError):
        call(world, "{ myself { id } }", timeout_s=0.3)

    hit(world, "api/created_and_timed_out", "'seconds': 0.")
    with pytest.raises(AssertionError):
        create(world, "lost")
    (pod_id,) = targets.list_pods(world)
    stop(world, pod_id)
    hit(world, "api/resumed_and_timed_out", "'seconds': 0.")
    assert mutate(world, "podResume", pod_id, ", gpuCount: 1")[0] == 504
    assert targets.list_pods(world) == {pod_id: "RUNNING"}


def test_nothing_is_to_be_had(world: World) -> None:
    effect = hit(world, "api/no_capacity", "'times': 1")
    with pytest.raises(TypeError):
        create(world)
    undo(effect)
    pod_id = create(world)
    stop(world, pod_id)
    effect = hit(world, "api/no_resume")
    assert "not enough free GPUs" in mutate(world, "podResume", pod_id, ", gpuCount: 1")[1]
    undo(effect)
    assert "errors" not in mutate(world, "podResume", pod_id, ", gpuCount: 1")[1]


def test_ports_are_late_or_stale(world: World) -> None:
    def shown() -> object:
        ask = f'{{ pod(input: {{podId: "{pod_id}"}}) {{ runtime {{ ports {{ publicPort privatePort }} }} }} }}'
        runtime = json.loads(call(world, ask)[1])["data"]["pod"]["runtime"]
        return runtime and [port["publicPort"] for port in runtime["ports"] or [] if port["privatePort"] == 22]

    effect = hit(world, "api/no_port")
    pod_id = booted(world)
    assert not shown()
    undo(effect)
    assert shown() == [ssh_port(world, pod_id)]

    old = ssh_port(world, pod_id)
    hit(world, "api/stale_port")
    wait_for(world, lambda: inside(world, pod_id)["process_id"] is None, "the pod to end")
    world.project.ask("dials", {"stale_port_s": 60})
    mutate(world, "podResume", pod_id, ", gpuCount: 1")
    wait_for(world, lambda: banner(world, pod_id), "sshd to answer")
    assert shown() == [old] != [ssh_port(world, pod_id)]


@pytest.mark.parametrize("way", ["kill", "preempt"])
def test_a_pod_is_gone_while_it_boots(world: World, way: str) -> None:
    effect = hit(world, "api/dies_while_booting", way)
    pod_id = create(world)
    wait_for(world, lambda: targets.list_pods(world) == {pod_id: "EXITED"}, "the pod to be gone")
    undo(effect)


def test_a_container_ends_while_it_boots(world: World) -> None:
    effect = hit(world, "api/dies_while_booting", "process 1", " 0.8 s")
    pod_id = create(world)
    wait_for(world, lambda: inside(world, pod_id)["process_id"], "the container to run")
    first = inside(world, pod_id)["process_id"]
    wait_for(world, lambda: inside(world, pod_id)["process_id"] not in (first, None), "another container to run", 20)
    assert targets.list_pods(world) == {pod_id: "RUNNING"}
    undo(effect)


# The network


def test_the_way_to_a_pod_is_disturbed(world: World) -> None:
    pod_id = booted(world)

    effect = hit(world, "network/refuse", "for 0.")
    with pytest.raises(ConnectionRefusedError):
        banner(world, pod_id)
    assert not effect.ends_command
    wait_for(world, lambda: banner(world, pod_id), "connections to be taken again", 20)

    hit(world, "network/stall", "from_pod, 0.")
    with pytest.raises(TimeoutError):
        banner(world, pod_id, timeout_s=0.15)
    wait_for(world, lambda: banner(world, pod_id), "bytes to come again", 40)

    old = ssh_port(world, pod_id)
    hit(world, "network/change_port")
    assert ssh_port(world, pod_id) != old
    assert banner(world, pod_id).startswith(b"SSH-")


def test_connections_are_reset_in_a_command(world: World) -> None:
    world.start()
    effect = hit(world, "network/reset_in_command", "prepare.py")
    wait_for(world, lambda: b"broke" in world.command.stderr(), "the link to be noticed broken", 30)
    undo(effect)


# The pod


@pytest.mark.parametrize(
    ("kind", "change", "at_most_s"),
    [
        ("pod/preempt", "Outbid", 30.0),
        ("pod/preempt_without_notice", "Outbid", 2.0),
        ("pod/lose_host", "Exited by Runpod", 2.0),
    ],
)
def test_a_pod_goes_away(world: World, kind: str, change: str, at_most_s: float) -> None:
    pod_id = booted(world)
    before = world.project.ask("dials")
    began = time.monotonic()
    hit(world, kind)
    told = inside(world, pod_id)
    assert str(told["last_status_change"]).startswith(change)
    wait_for(world, lambda: inside(world, pod_id)["process_id"] is None, "the pod to end")
    assert time.monotonic() - began < at_most_s
    assert world.project.ask("dials") == before
    with pytest.raises(Missed):
        hit(world, kind)


def test_no_pod_can_be_stopped(world: World) -> None:
    pod_id = booted(world)
    effect = hit(world, "pod/fail_to_stop", "html")
    assert mutate(world, "podStop", pod_id)[0] == 502
    assert targets.list_pods(world) == {pod_id: "RUNNING"}
    assert effect.excused_s > effect.undo_after_s
    undo(effect)
    assert mutate(world, "podStop", pod_id)[0] == 200


def test_strikes_at_a_training_that_goes_on(world: World) -> None:
    train_to_step(world, 2)
    (guard,) = guards = targets.processes(world, "guard.py")
    hit(world, "pod/kill_guard", "the guard: ")
    wait_gone(guards)
    wait_for(world, lambda: targets.processes(world, "guard.py") not in ([], [guard]), "a new guard")

    (reader,) = targets.processes(world, "follow_log.py")
    hit(world, "network/reset_in_log")
    wait_for(world, lambda: b"Reconnecting" in world.command.stderr(), "the link to be noticed broken")

    effect = hit(world, "pod/jump_clock", "+", "guard killed")
    pod_id = targets.running_pod(world)
    log = Path(str(inside(world, pod_id)["disk"])) / "opt/podtasks/guard.log"
    ahead = time.gmtime(time.time() + 1700)
    wait_for(
        world,
        lambda: log.read_text().splitlines()[-1] > time.strftime("%Y-%m-%d %H:%M", ahead),
        "the guard's clock to jump",
    )
    undo(effect)
    assert (log.parents[2] / "tmp/clock-offset-s").read_text() == "0\n"

    with pytest.raises(Missed):
        hit(world, "volume/break_sync")
    with pytest.raises(Missed):
        hit(world, "network/reset_in_command")
    assert wait_for_end(world) == 0
    assert not targets.is_running(reader)


@pytest.mark.parametrize(
    ("kind", "fitting", "words"),
    [
        ("pod/kill_training", "", "scripts/train.py"),
        ("pod/kill_supervisor", "", "supervise.py"),
        ("pod/kill_tmux_server", "", "supervise.py"),
        ("pod/kill_tmux_children", "", "supervise.py"),
        ("pod/out_of_memory", "scripts/train.py", "scripts/train.py"),
    ],
)
def test_strikes_that_end_a_training(world: World, kind: str, fitting: str, words: str) -> None:
    train_to_step(world, 1)
    pids = targets.require_processes(world, words)
    hit(world, kind, fitting)
    wait_gone(pids)
    assert b"> trained" not in world.log_path.read_bytes()
    if words == "scripts/train.py":
        assert wait_for_end(world) == 137
        record = next((targets.volume(world) / "runs").glob("*/run.json")).read_text()
        assert kind != "pod/out_of_memory" or "host_memory" in record
        with pytest.raises(Missed):
            hit(world, kind)


# The command


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("cli/kill", -9),
        ("cli/terminate", None),
        ("cli/hang_up", None),
        ("cli/interrupt", 130),
        ("cli/interrupt_twice", None),
    ],
)
def test_a_command_gets_a_signal(world: World, kind: str, code: int | None) -> None:
    world.start()
    wait_for(world, lambda: b"Plan" in world.command.stderr(), "the plan")
    assert hit(world, kind).ends_command
    got = world.command.wait(30.0)
    assert got == code if code is not None else got != 0
    with pytest.raises(Missed):
        hit(world, kind)


def test_a_command_sleeps_and_another_is_started(world: World) -> None:
    world.start()
    pid = world.command.pid
    effect = hit(world, "cli/asleep")
    wait_for(world, lambda: " T " in Path(f"/proc/{pid}/stat").read_text(), "the command to stop")
    undo(effect)
    wait_for(world, lambda: " T " not in Path(f"/proc/{pid}/stat").read_text(), "the command to go on")
    hit(world, "cli/second_train")
    assert [command.poll() for command in world.commands] == [None, None]
    assert world.command.pid != pid


# The volume


def test_the_volume_is_full(world: World) -> None:
    effect = hit(world, "volume/fill", "but for 0 ")
    with pytest.raises(OSError, match="No space"):
        (targets.volume(world) / "new").write_bytes(b"x" * 10)
    undo(effect)
    (targets.volume(world) / "new").write_bytes(b"x" * 10)


def test_the_volume_is_full_in_the_middle_of_the_log(world: World) -> None:
    train_to_step(world, 1)
    effect = hit(world, "volume/fill_at_log")
    left = int(re.findall(r"(\d+) bytes on", effect.what)[0])
    assert left < 150
    wait_for(world, lambda: not targets.processes(world, "scripts/train.py"), "the training to fail")
    undo(effect)
    assert world.free_bytes() > 1 << 20
    assert wait_for_end(world) != 0


def make_checkpoint(world: World, step: int) -> Path:
    folder = targets.volume(world) / f"checkpoints/run/checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(bytes(100))
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return folder


def test_a_checkpoint_is_cut(world: World) -> None:
    for step in (3, 6):
        make_checkpoint(world, step)
    lengths = set()
    for seed in range(5):
        what = hit_once(world, "volume/cut_checkpoint", seed).what
        path, length, size = re.split(" cut at byte | of ", what)
        assert (world.output / path).stat().st_size == int(length) < int(size)
        lengths.add(length)
    assert len(lengths) > 2


@pytest.mark.parametrize("name", sorted(volume_strikes._SPOIL))
def test_a_file_cannot_be_read(world: World, name: str) -> None:
    path = make_checkpoint(world, 3) / "model.safetensors"
    effect = volume_strikes.spoil_for_a_while(path, name, 1.0)
    require_unreadable(path)
    undo(effect)
    assert path.read_bytes() == bytes(100)
    assert [path.name for path in path.parent.iterdir() if path.name.startswith(".")] == []

    places = set()
    for seed in range(40):
        with contextlib.suppress(Missed):
            effect = hit_once(world, "volume/unreadable", seed)
            undo(effect)
            places.add(effect.what.partition(" is a ")[0])
    assert len(places) == 5
    for place in places - {f"checkpoint-3/{name}" for name in ("model.safetensors", "trainer_state.json")}:
        require_unreadable(targets.volume(world) / place)


def require_unreadable(path: Path) -> None:
    """Fail if a program could read even one byte of it, without waiting for ever."""
    assert os.path.lexists(path)
    with pytest.raises(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with contextlib.closing(os.fdopen(descriptor, "rb")) as file:
            assert file.read(1) == b"", f"{path} can be read"
            raise BlockingIOError("a FIFO into which nobody writes")


def test_permissions_change(world: World) -> None:
    root = targets.volume(world)
    (root / "logs").mkdir()
    (root / "runs").mkdir()
    (root / "logs/current.log").touch()
    git = root / "clone"
    subprocess.run(["git", "init", "-q", str(git)], check=True)
    if os.getuid() == 0:
        effect = hit(world, "volume/change_permission", "runs is immutable")
        with pytest.raises(PermissionError):
            (root / "runs/new").mkdir()
        undo(effect)
        (root / "runs/new").mkdir()
    effect = hit(world, "volume/change_permission", "somebody else's")
    told = subprocess.run(["git", "-C", str(git), "status"], capture_output=True, text=True, check=False)
    assert told.returncode != 0
    undo(effect)
    subprocess.run(["git", "-C", str(git), "status"], capture_output=True, check=True)


@pytest.mark.parametrize("name", sorted(volume_strikes._DAMAGE))
def test_a_clone_is_damaged(world: World, name: str) -> None:
    git = targets.volume(world) / "clone"
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.invalid"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(git)], check=True)
    (git / "file").write_text("text\n")
    subprocess.run(["git", "-C", str(git), "add", "-A"], check=True)
    subprocess.run(["git", *identity, "-C", str(git), "commit", "-qm", "first"], check=True)
    texts = {"cut object": "objects/", "cut index": "index cut", "dropped object": "gone", "partial pack": "tmp_pack"}
    hit(world, "volume/half_fetched", texts.get(name, "empty"))
    if name == "partial pack":
        assert list(git.glob(".git/objects/pack/tmp_pack_*"))
        return
    checks = [["fsck", "--full"], ["status"]]
    codes = [subprocess.run(["git", "-C", str(git), *c], capture_output=True, check=False).returncode for c in checks]
    assert any(codes)


def test_locks_are_left(world: World) -> None:
    git = targets.volume(world) / "clone"
    subprocess.run(["git", "init", "-q", str(git)], check=True)
    hit(world, "volume/leave_git_lock", "index.lock")
    told = subprocess.run(["git", "-C", str(git), "add", "-A"], capture_output=True, text=True, check=False)
    assert "index.lock" in told.stderr

    effect = hit(world, "volume/leave_local_lock")
    world.start()
    wait_for(world, lambda: b"waiting for it" in world.command.stderr(), "the command to wait for the lock")
    with pytest.raises(Missed):
        hit(world, "volume/leave_local_lock")
    undo(effect)
    wait_for(world, lambda: b"created" in world.command.stderr(), "the command to go on")


def test_a_sync_is_broken(world: World) -> None:
    world.start()
    effect = hit(world, "volume/break_sync", "what runs it", "0.00")
    wait_for(world, lambda: any("struck" in text for _, text in world.timeline), "the ambush to strike", 30)
    undo(effect)
    assert not targets.processes(world, "sync_code.py")


def test_a_lease_is_left(world: World) -> None:
    world.start()
    wait_for(world, lambda: targets.processes(world, "prepare.py"), "the lease to be taken")
    (holder,) = targets.processes(world, "prepare.py")
    hit(world, "volume/leave_lease", "after 5.")
    assert world.command.wait(10.0) == -9
    time.sleep(1.0)
    assert targets.is_running(holder)


# The cloud


@pytest.mark.parametrize("kind", ["cloud/restart", "cloud/crash"])
def test_the_cloud_ends_and_comes_back(world: World, kind: str) -> None:
    pod_id = booted(world)
    process = inside(world, pod_id)["process_id"]
    effect = hit(world, kind)
    with pytest.raises(OSError):
        call(world, "{ myself { id } }")
    assert targets.is_running(int(str(process)))
    with pytest.raises(Missed):
        hit(world, kind)
    undo(effect)
    assert targets.list_pods(world) == {pod_id: "RUNNING"}
    assert inside(world, pod_id)["process_id"] == process
    undo(effect)
    assert banner(world, pod_id).startswith(b"SSH-")
