"""Stopping pods, and making sure that they stopped."""

from __future__ import annotations

import pytest

from podtasks.flows.stopping import STOP_WAIT_S, confirm_stopped, stop_pod, stop_quietly
from podtasks.pure.errors import ApiUnreachableError
from podtasks.pure.pod import Pod, PodStatus
from tests.unit.fakes import STOPPED, World, make_pod

REFUSAL = ApiUnreachableError("RunPod gave no usable answer.", next_step="x")


def test_pod_stopped_is_told(world: World) -> None:
    world.api.on("stop_pod pod1", None)
    stop_pod(world.cloud(), make_pod(), world.report)
    assert world.report.steps == ["pod pod1 stopped: no GPU is billed any more"]


def test_pod_that_cannot_be_stopped_is_not_called_stopped(world: World) -> None:
    world.api.on("stop_pod pod1", REFUSAL)
    with pytest.raises(ApiUnreachableError):
        stop_pod(world.cloud(), make_pod(), world.report)
    assert world.report.steps == []


def test_unusable_pod_is_stopped_and_the_outcome_returned(world: World) -> None:
    world.api.on("stop_pod pod1", None)
    assert stop_quietly(world.cloud(), make_pod(), world.report) == "The pod was stopped, so no GPU is billed."


def test_unusable_pod_that_cannot_be_stopped_may_be_billed(world: World) -> None:
    world.api.on("stop_pod pod1", REFUSAL)
    outcome = stop_quietly(world.cloud(), make_pod(), world.report)
    assert outcome.startswith("The pod could NOT be stopped (RunPod gave no usable answer.) and may be billed")


def test_fault_of_our_own_while_stopping_is_not_hidden(world: World) -> None:
    world.api.on("stop_pod pod1", ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        stop_quietly(world.cloud(), make_pod(), world.report)


@pytest.mark.parametrize("last", [STOPPED, None, make_pod(status=PodStatus.TERMINATED)])
def test_stop_is_confirmed_as_soon_as_the_pod_reads_as_stopped_or_gone(world: World, last: Pod | None) -> None:
    world.api.on("find_pod pod1", make_pod(), make_pod(), last)
    assert confirm_stopped(world.cloud(), make_pod(), world.clock)
    assert world.api.calls == ["find_pod pod1"] * 3


def test_stop_is_not_confirmed_while_the_pod_reads_as_running(world: World) -> None:
    world.api.on("find_pod pod1", make_pod())
    assert not confirm_stopped(world.cloud(), make_pod(), world.clock)
    assert sum(world.clock.sleeps) == pytest.approx(STOP_WAIT_S)
    assert len(world.api.calls) < 15, "the API is rate-limited"
