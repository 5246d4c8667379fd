"""A pod that cannot stop itself is stopped from here; one that need not be is left alone."""

from __future__ import annotations

from typing import Any

import pytest

from podtasks.flows.left_behind import see_pod_end
from podtasks.pure.errors import TransportError
from podtasks.pure.pod import Pod
from tests.unit.fake_pod import FakePod
from tests.unit.fakes import STOPPED, World, make_pod

STOPPING = {"guard": {"stopping": "run r ended: finished", "lease": None}}


def see(world: World, when_done: str = "stop") -> bool:
    return see_pod_end(world.cloud(), "pod1", when_done, world.report, world.clock, timeout_s=6)


@pytest.mark.parametrize("reading", [STOPPED, None])
def test_pod_that_has_stopped_costs_one_question(world: World, reading: Pod | None) -> None:
    world.api.on("find_pod pod1", reading)
    assert see(world)
    assert world.api.calls == ["find_pod pod1"] and world.report.notes == []


@pytest.mark.parametrize(("when_done", "order"), [("stop", "stop_pod pod1"), ("terminate", "terminate_pod pod1")])
def test_pod_whose_guard_cannot_stop_it_is_stopped_from_here(
    world: World, pod: FakePod, when_done: str, order: str
) -> None:
    def read() -> Pod:
        return STOPPED if order in world.api.calls else make_pod()

    world.api.on("find_pod pod1", read).on(order, None)
    pod.on("status.py", STOPPING, STOPPING)
    assert see(world, when_done)
    assert world.api.orders() == [order]
    assert world.report.notes == ["pod pod1 could not stop itself: it was stopped from here"]


def test_pod_without_a_network_volume_is_never_deleted_whatever_the_record_says(world: World, pod: FakePod) -> None:
    """A record lies where any training may write; the only copy of its outputs lies on this pod."""
    reading = make_pod(env={"PODTASKS_NETWORK_VOLUME": ""})
    world.api.on("find_pod pod1", lambda: STOPPED if "stop_pod pod1" in world.api.calls else reading)
    world.api.on("stop_pod pod1", None)
    pod.on("status.py", STOPPING, STOPPING)
    assert see(world, "terminate")
    assert world.api.orders() == ["stop_pod pod1"]


@pytest.mark.parametrize(
    "guard",
    [
        {"stopping": None, "lease": None, "kept_left_s": 60.0},
        {"stopping": None, "lease": {"kind": "run", "run_id": "new"}},
        {},
    ],
)
def test_pod_that_is_kept_or_has_a_run_is_left_alone(world: World, pod: FakePod, guard: dict[str, Any]) -> None:
    world.api.on("find_pod pod1", make_pod())
    pod.on("status.py", {"guard": guard})
    assert not see(world)
    assert world.api.orders() == []


def test_pod_that_was_taken_for_a_new_run_meanwhile_is_left_alone(world: World, pod: FakePod) -> None:
    world.api.on("find_pod pod1", make_pod())
    pod.on("status.py", STOPPING, {"guard": {"stopping": None, "lease": {"kind": "prepare"}}})
    assert not see(world)
    assert world.api.orders() == []


def test_pod_that_does_not_answer_is_left_alone_and_that_is_said(world: World, pod: FakePod) -> None:
    world.api.on("find_pod pod1", make_pod())
    pod.connects = [TransportError("The SSH link to the pod broke.", next_step="x")]
    assert not see(world)
    assert world.api.orders() == []
    assert "inv reap looks again" in world.report.notes[0]
