"""Waiting until a pod's SSH server answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from podtasks.flows.readiness import wait_for_ssh
from podtasks.pure.errors import ApiUnreachableError, PodFailedError, PodTimeoutError
from podtasks.pure.pod import Pod, PodStatus, SshEndpoint
from tests.unit.fakes import STOPPED, World, make_pod

OLD, NEW = SshEndpoint("203.0.113.7", 40022), SshEndpoint("203.0.113.7", 41999)


def wait(world: World, pod: Pod, timeout_s: float = 60, may_stop: bool = True) -> tuple[Pod, SshEndpoint]:
    return wait_for_ssh(world.cloud(), pod, world.report, world.clock, timeout_s=timeout_s, may_stop=may_stop)


class Greeting:
    """SSH servers that greet: none, until one is added."""

    def __init__(self) -> None:
        self.at: set[SshEndpoint] = set()
        self.tried: list[SshEndpoint] = []
        self.on_try: Callable[[], None] = lambda: None

    def __call__(self, endpoint: SshEndpoint, timeout_s: float) -> str | None:
        assert timeout_s > 0
        self.tried.append(endpoint)
        self.on_try()
        return "SSH-2.0-OpenSSH" if endpoint in self.at else None


@pytest.fixture
def greeting(monkeypatch: pytest.MonkeyPatch) -> Greeting:
    greeting = Greeting()
    monkeypatch.setattr("podtasks.flows.readiness.ssh.read_banner", greeting)
    return greeting


def test_pod_that_greets_is_ready(world: World, greeting: Greeting) -> None:
    greeting.at = {OLD}
    world.api.on("find_pod pod1", make_pod(ssh=None), make_pod(ssh=None), make_pod())
    assert wait(world, make_pod(ssh=None)) == (make_pod(), OLD)
    assert world.report.steps == ["waiting for the pod to boot", "SSH answers at 203.0.113.7:40022"]


def test_stale_port_is_left_for_the_new_one_as_soon_as_it_is_published(world: World, greeting: Greeting) -> None:
    greeting.at = {NEW}
    world.api.on("find_pod pod1", make_pod(ssh=OLD), make_pod(ssh=OLD), make_pod(ssh=NEW))
    pod, endpoint = wait(world, make_pod(ssh=OLD))
    assert (pod.ssh, endpoint) == (NEW, NEW)
    assert set(greeting.tried) == {OLD, NEW}


def test_port_is_probed_often_and_the_api_seldom(world: World, greeting: Greeting) -> None:
    world.api.on("find_pod pod1", make_pod())

    def greet_after_a_minute() -> None:
        if world.clock.now() > 1060:
            greeting.at = {OLD}

    greeting.on_try = greet_after_a_minute
    wait(world, make_pod(), timeout_s=900)
    assert len(greeting.tried) > 100
    assert len(world.api.calls) < 20


def test_pod_that_never_answers_is_stopped_and_the_last_state_told(world: World, greeting: Greeting) -> None:
    world.api.on("find_pod pod1", make_pod()).on("stop_pod pod1", None)
    with pytest.raises(PodTimeoutError) as caught:
        wait(world, make_pod(), timeout_s=900)
    assert greeting.tried
    assert "within 900 s; last seen: " in caught.value.what
    assert "SSH at 203.0.113.7:40022" in caught.value.what
    assert caught.value.means == "The pod was stopped, so no GPU is billed."
    assert world.api.orders() == ["stop_pod pod1"]
    assert 1900 <= world.clock.now() < 1910


def test_pod_that_never_answers_and_cannot_be_stopped_says_so(world: World, greeting: Greeting) -> None:
    refusal = ApiUnreachableError("RunPod gave no usable answer.", next_step="x")
    world.api.on("find_pod pod1", make_pod(ssh=None)).on("stop_pod pod1", refusal)
    with pytest.raises(PodTimeoutError) as caught:
        wait(world, make_pod(ssh=None))
    assert greeting.tried == []
    assert "could NOT be stopped" in caught.value.means


def test_pod_that_ran_before_is_left_running_because_its_training_may_go_on(world: World, greeting: Greeting) -> None:
    world.api.on("find_pod pod1", make_pod())
    with pytest.raises(PodTimeoutError) as caught:
        wait(world, make_pod(), timeout_s=900, may_stop=False)
    assert greeting.tried
    assert world.api.orders() == []
    assert caught.value.means.startswith("It ran before this command and was left alone; it is billed at $0.69/h.")


@pytest.mark.parametrize("bad", [None, make_pod(status=PodStatus.EXITED, status_change="Exited by Runpod")])
def test_pod_that_vanishes_is_believed_after_three_readings(world: World, greeting: Greeting, bad: Pod | None) -> None:
    world.api.on("find_pod pod1", bad)
    with pytest.raises(PodFailedError) as caught:
        wait(world, make_pod())
    assert world.api.calls == ["find_pod pod1"] * 3
    assert greeting.tried == [], "a port of a pod that does not run leads to nobody, or to somebody else"
    assert ("Exited by Runpod" if bad else "no longer there") in caught.value.what


def test_pod_just_started_that_reads_as_stopped_twice_is_still_waited_for(world: World, greeting: Greeting) -> None:
    greeting.at = {NEW}
    world.api.on("find_pod pod1", STOPPED, None, make_pod(ssh=None), STOPPED, None, make_pod(ssh=NEW))
    assert wait(world, STOPPED)[1] == NEW
