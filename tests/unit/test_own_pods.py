"""Which of the account's pods are ours."""

from __future__ import annotations

import pytest

from podtasks.flows.own_pods import find_pod, list_own_pods
from podtasks.pure.pod import Pod, PodStatus
from tests.unit.fakes import STRANGER, World, make_pod


def stopped(pod_id: str) -> Pod:
    return make_pod(pod_id, status=PodStatus.EXITED)


def stopped_stranger(pod_id: str) -> Pod:
    return make_pod(pod_id, status=PodStatus.EXITED, env={"PODTASKS_PROJECT": ""})


@pytest.mark.parametrize(
    ("pods", "remembered", "expected"),
    [
        ([stopped("a"), make_pod("e"), make_pod("d")], "", "d"),
        ([make_pod("d"), make_pod("e")], "e", "e"),
        ([stopped("a"), stopped("b")], "b", "b"),
        ([stopped("a"), make_pod("b")], "a", "b"),
        ([stopped_stranger("a"), make_pod("b")], "a", "b"),
        ([stopped("a"), STRANGER], STRANGER.id, STRANGER.id),
        ([stopped_stranger("z"), stopped("b")], "z", "z"),
        ([STRANGER, stopped("c")], "", "c"),
        ([STRANGER, make_pod("b")], "gone", "b"),
    ],
    ids=[
        "a running one before a stopped one, then the first by id",
        "the remembered one of two that run",
        "the remembered one of two that are stopped",
        "a running one before the remembered one that is stopped",
        "a running one before the remembered one, a stopped one without our stamp",
        "the remembered one that runs without our stamp",
        "the remembered one that is stopped without our stamp",
        "a stopped one where only a stranger's runs",
        "one by its stamp where the remembered one is gone",
    ],
)
def test_pod_found_is(world: World, pods: list[Pod], remembered: str, expected: str) -> None:
    world.api.on("list_pods", pods)
    found = find_pod(world.cloud(pod_id=remembered), "demo")
    assert found is not None
    assert found.id == expected
    assert world.api.calls == ["list_pods"], "one call"


@pytest.mark.parametrize("remembered", ["", "pod9"])
def test_no_pod_is_found_among_strangers_and_terminated_ones(world: World, remembered: str) -> None:
    world.api.on("list_pods", [STRANGER, make_pod("pod9", status=PodStatus.TERMINATED)])
    assert find_pod(world.cloud(pod_id=remembered), "demo") is None


def test_own_pods_are_those_with_our_stamp_running_ones_first(world: World) -> None:
    terminated = make_pod("b", status=PodStatus.TERMINATED)
    world.api.on("list_pods", [stopped("a"), STRANGER, terminated, make_pod("e"), make_pod("d")])
    pods = list_own_pods(world.cloud(pod_id=STRANGER.id), "demo")
    assert [pod.id for pod in pods] == ["d", "e", "a"]
