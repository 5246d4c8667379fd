"""A verified connection to a pod that may still be booting, or whose port is still the old one."""

from __future__ import annotations

import pytest

from podtasks.flows.connect import CONNECT_PATIENCE_S, connect
from podtasks.pure.errors import HostKeyError, PodFailedError, PodTimeoutError, SshRefusedError, TransportError
from podtasks.pure.pod import Pod, SshEndpoint
from tests.unit.fake_pod import BROKEN, OTHER_MACHINE, FakePod
from tests.unit.fakes import STOPPED, World, make_pod

OLD, NEW = SshEndpoint("203.0.113.7", 40022), SshEndpoint("203.0.113.9", 41999)
REFUSED = SshRefusedError("The pod does not accept your SSH key.", next_step="x")


def connect_to(world: World, pod: Pod, *, timeout_s: float = 900, may_stop: bool = True) -> tuple[Pod, object]:
    return connect(world.cloud(), pod, world.report, world.clock, timeout_s=timeout_s, may_stop=may_stop)


def test_pod_that_answers_is_connected_to_as_itself(world: World, pod: FakePod) -> None:
    world.api.on("find_pod pod1", make_pod())
    reading, shell = connect_to(world, make_pod(ssh=None))
    assert (reading, shell) == (make_pod(), pod.shells[0])
    assert pod.open_shells() == 1
    assert pod.reached == [OLD]
    assert pod.logins[0].host_public_key == make_pod().host_public_key == "ssh-ed25519 AAAA demo"
    assert pod.logins[0].key_path == world.folder / "key"
    assert not pod.logins[0].forward_agent


def test_agent_is_forwarded_only_where_it_is_asked_for(world: World, pod: FakePod) -> None:
    world.api.on("find_pod pod1", make_pod())
    connect(
        world.cloud(), make_pod(), world.report, world.clock, timeout_s=900, may_stop=True, forward_agent=True
    )
    assert pod.logins[0].forward_agent


def test_stale_port_that_leads_to_another_machine_is_left_for_the_new_one(world: World, pod: FakePod) -> None:
    pod.greeting = {OLD, NEW}
    pod.connects = [OTHER_MACHINE, OTHER_MACHINE, None]
    world.api.on("find_pod pod1", make_pod(), make_pod(), make_pod(ssh=NEW))
    reading, _ = connect_to(world, make_pod())
    assert reading == make_pod(ssh=NEW)
    assert pod.reached == [OLD, OLD, NEW]
    assert pod.open_shells() == 1
    assert world.api.orders() == []


@pytest.mark.parametrize("trouble", [OTHER_MACHINE, BROKEN])
def test_trouble_that_lasts_ends_after_a_minute(world: World, pod: FakePod, trouble: TransportError) -> None:
    pod.connects = [trouble] * 1000
    world.api.on("find_pod pod1", make_pod()).on("stop_pod pod1", None)
    began = world.clock.now()
    with pytest.raises(type(trouble)) as caught:
        connect_to(world, make_pod())
    assert CONNECT_PATIENCE_S <= world.clock.now() - began < CONNECT_PATIENCE_S + 4
    assert len(pod.reached) < 40
    assert world.api.orders() == ["stop_pod pod1"]
    assert caught.value.means == "No training was started. The pod was stopped, so no GPU is billed."


def test_patience_begins_with_the_first_answer_and_not_while_the_pod_boots(world: World, pod: FakePod) -> None:
    pod.connects = [OTHER_MACHINE] * 1000
    pod.greeting = set()
    world.api.on("find_pod pod1", make_pod()).on("stop_pod pod1", None)
    slow = world.clock.now() + 500

    def greet(endpoint: SshEndpoint, timeout_s: float) -> str | None:
        del endpoint, timeout_s
        return "SSH-2.0-OpenSSH" if world.clock.now() >= slow else None

    with pytest.MonkeyPatch.context() as patch, pytest.raises(HostKeyError):
        patch.setattr("podtasks.doors.ssh.read_banner", greet)
        connect_to(world, make_pod())
    assert CONNECT_PATIENCE_S <= world.clock.now() - slow < CONNECT_PATIENCE_S + 10
    assert len(pod.reached) > 10


@pytest.mark.parametrize("may_stop", [True, False])
def test_key_that_is_not_accepted_is_told_at_once(world: World, pod: FakePod, may_stop: bool) -> None:
    pod.connects = [REFUSED]
    world.api.on("find_pod pod1", make_pod())
    if may_stop:
        world.api.on("stop_pod pod1", None)
    with pytest.raises(SshRefusedError):
        connect_to(world, make_pod(), may_stop=may_stop)
    assert world.api.orders() == (["stop_pod pod1"] if may_stop else [])
    assert world.clock.sleeps == []
    assert len(pod.reached) == 1


@pytest.mark.parametrize("may_stop", [True, False])
def test_pod_that_never_greets_is_stopped_only_where_it_may_be(world: World, pod: FakePod, may_stop: bool) -> None:
    pod.greeting = set()
    world.api.on("find_pod pod1", make_pod())
    if may_stop:
        world.api.on("stop_pod pod1", None)
    with pytest.raises(PodTimeoutError):
        connect_to(world, make_pod(), may_stop=may_stop)
    assert world.api.orders() == (["stop_pod pod1"] if may_stop else [])
    assert pod.reached == []


def test_pod_that_goes_away_after_the_first_try_is_told(world: World, pod: FakePod) -> None:
    pod.connects = [BROKEN]
    world.api.on("find_pod pod1", make_pod(), STOPPED)
    with pytest.raises(PodFailedError, match="went away"):
        connect_to(world, make_pod())
    assert len(pod.reached) == 1
