"""Renting a pod: in the user's order, never twice for one order, never two for one project."""

from __future__ import annotations

from dataclasses import replace

import pytest

from podtasks.flows.rent import TWIN_WAIT_S
from podtasks.pure.api_answer import ApiCallError
from podtasks.pure.errors import ApiUnreachableError, CapacityError, PlanError, PodFailedError
from podtasks.pure.pod import Pod, PodStatus
from tests.unit.fakes import (
    A100,
    CREATE_4090,
    CREATE_A100,
    NO_INSTANCES,
    REQUEST,
    RTX_4090,
    STRANGER,
    World,
    make_pod,
)

LOST = ApiCallError("the connection broke or timed out", may_have_acted=True)


def declare_new(world: World, usd_per_hour: float = 0.69) -> Pod:
    new = make_pod("new1", usd_per_hour=usd_per_hour)
    world.api.on("list_pods", [new]).on(CREATE_4090, "new1").on("find_pod new1", new)
    return new


def test_new_pod_is_rented_and_remembered_at_once(world: World) -> None:
    new = declare_new(world)
    seen: list[str] = []

    def read() -> Pod:
        seen.append(world.remembered())
        return new

    world.api.instead("find_pod new1", read)
    assert world.rent().id == "new1"
    assert seen[0] == "POD_ID=new1\n", "written before anything else can fail"
    assert world.api.orders() == [CREATE_4090]
    assert world.report.steps == ["pod new1 created: 1 x RTX 4090, $0.69/h"]


def test_gpu_types_are_tried_in_the_users_order(world: World) -> None:
    new = make_pod("new1", gpu="A100 PCIe", usd_per_hour=1.39)
    world.api.on("list_pods", [new]).on(CREATE_4090, NO_INSTANCES).on(CREATE_A100, "new1")
    world.api.on("find_pod new1", new)
    assert world.rent().gpu == "A100 PCIe"
    assert world.api.orders() == [CREATE_4090, CREATE_A100]


def test_gpu_type_out_of_stock_is_not_even_asked_for(world: World) -> None:
    new = make_pod("new1", gpu="A100 PCIe", usd_per_hour=1.39)
    world.api.on("list_pods", [new]).on(CREATE_A100, "new1").on("find_pod new1", new)
    world.rent(replace(REQUEST, offers=(replace(RTX_4090, stock="None"), A100)))
    assert world.api.orders() == [CREATE_A100]


def test_no_gpu_to_be_had_names_what_was_tried(world: World) -> None:
    world.api.on(CREATE_A100, NO_INSTANCES)
    with pytest.raises(CapacityError) as caught:
        world.rent(replace(REQUEST, offers=(replace(RTX_4090, stock="None"), A100)))
    assert "NVIDIA GeForce RTX 4090 (none in stock), NVIDIA A100 80GB PCIe" in caught.value.what
    assert world.remembered() == ""


def test_new_pod_that_is_read_late_is_waited_for(world: World) -> None:
    new = make_pod("new1")
    world.api.on("list_pods", [new]).on(CREATE_4090, "new1").on("find_pod new1", None, None, new)
    assert world.rent().id == "new1"
    assert world.api.orders() == [CREATE_4090]


def test_new_pod_that_never_appears_is_an_error_and_no_second_is_made(world: World) -> None:
    world.api.on(CREATE_4090, "new1").on("find_pod new1", None)
    with pytest.raises(PodFailedError, match="made pod new1, but does not show it") as caught:
        world.rent()
    assert "may be billed" in caught.value.means
    assert sum(world.clock.sleeps) == pytest.approx(20)
    assert world.api.orders() == [CREATE_4090]
    assert world.remembered() == "POD_ID=new1\n"


def test_new_pod_above_the_cap_is_stopped(world: World) -> None:
    new = make_pod("new1", usd_per_hour=2.01)
    world.api.on(CREATE_4090, "new1").on("find_pod new1", new).on("stop_pod new1", None)
    with pytest.raises(PlanError, match="above your cap") as caught:
        world.rent()
    assert caught.value.means == "The pod was stopped, so no GPU is billed."
    assert world.api.orders() == [CREATE_4090, "stop_pod new1"]


def test_new_pod_above_the_cap_that_cannot_be_stopped_says_so(world: World) -> None:
    new = make_pod("new1", usd_per_hour=2.01)
    refusal = ApiUnreachableError("RunPod gave no usable answer.", next_step="x")
    world.api.on(CREATE_4090, "new1").on("find_pod new1", new).on("stop_pod new1", refusal)
    with pytest.raises(PlanError) as caught:
        world.rent()
    assert "could NOT be stopped" in caught.value.means


def test_pod_at_exactly_the_cap_is_taken(world: World) -> None:
    declare_new(world, 0.1 * 3)
    assert world.rent(replace(REQUEST, max_usd_per_hour=0.3)).id == "new1"


# The answer to a creation gets lost


def with_nonce(world: World, pod_id: str, order: int = 0) -> Pod:
    """Return a pod as it would be listed if the order had been carried out."""
    nonce = world.api.specs[order].env["PODTASKS_LAUNCH"]
    return make_pod(pod_id, env={"PODTASKS_LAUNCH": str(nonce)})


def test_creation_whose_answer_was_lost_finds_its_pod_by_nonce_and_makes_no_second(world: World) -> None:
    older = make_pod("older", env={"PODTASKS_PROJECT": "other", "PODTASKS_LAUNCH": "0" * 16})
    world.api.on("list_pods", [older], lambda: [older, with_nonce(world, "made")])
    world.api.on(CREATE_4090, LOST).on("find_pod made", lambda: with_nonce(world, "made"))
    assert world.rent().id == "made"
    assert world.api.orders() == [CREATE_4090]
    assert world.remembered() == "POD_ID=made\n"


def test_creation_whose_answer_was_lost_and_did_nothing_is_ordered_again_after_three_looks(world: World) -> None:
    new = make_pod("new1")
    world.api.on("list_pods", [], [], [], [new]).on(CREATE_4090, LOST, "new1").on("find_pod new1", new)
    assert world.rent().id == "new1"
    assert world.api.orders() == [CREATE_4090, CREATE_4090]
    looks = world.api.calls[world.api.calls.index(CREATE_4090) + 1 :]
    assert looks[:4] == ["list_pods", "list_pods", "list_pods", CREATE_4090]
    assert world.api.specs[0].env["PODTASKS_LAUNCH"] == world.api.specs[1].env["PODTASKS_LAUNCH"]


def test_pod_of_a_lost_answer_that_appears_beside_the_second_is_deleted(world: World) -> None:
    def both() -> list[Pod]:
        return [with_nonce(world, "zz-late"), with_nonce(world, "aa-second")]

    world.api.on("list_pods", [], [], [], both).on(CREATE_4090, LOST, "aa-second")
    world.api.on("find_pod aa-second", lambda: with_nonce(world, "aa-second", 1)).on("terminate_pod zz-late", None)
    assert world.rent().id == "aa-second"
    assert world.api.orders() == [CREATE_4090, CREATE_4090, "terminate_pod zz-late"]


def test_two_launches_have_two_nonces(world: World) -> None:
    for number in (1, 2):
        new = make_pod(f"new{number}")
        world.api.instead("list_pods", [new]).on(CREATE_4090, new.id).on(f"find_pod {new.id}", new)
        world.rent()
    nonces = {spec.env["PODTASKS_LAUNCH"] for spec in world.api.specs}
    assert len(nonces) == 2
    assert all(spec.env["PODTASKS_PROJECT"] == "demo" for spec in world.api.specs)


def test_creation_refused_for_too_many_calls_is_tried_again_after_the_time_asked(world: World) -> None:
    busy = ApiCallError("too many calls (HTTP 429)", may_have_acted=False, retry_after_s=7)
    new = make_pod("new1")
    world.api.on("list_pods", [new]).on(CREATE_4090, busy, "new1").on("find_pod new1", new)
    assert world.rent().id == "new1"
    assert world.clock.sleeps == [7]
    assert world.api.calls[:2] == [CREATE_4090, CREATE_4090], "nothing was made: no need to look"


def test_creation_refused_for_an_hour_does_not_hang_for_an_hour(world: World) -> None:
    busy = ApiCallError("too many calls (HTTP 429)", may_have_acted=False, retry_after_s=3600)
    world.api.on(CREATE_4090, busy, busy, busy)
    with pytest.raises(ApiUnreachableError, match="HTTP 429"):
        world.rent()
    assert sum(world.clock.sleeps) <= 200


def test_creation_that_never_gets_an_answer_ends_and_says_that_it_is_found_later(world: World) -> None:
    world.api.on("list_pods", []).on(CREATE_4090, LOST, LOST, LOST)
    with pytest.raises(ApiUnreachableError) as caught:
        world.rent()
    assert world.api.orders() == [CREATE_4090] * 3
    assert "finds a pod that appeared late" in caught.value.next_step


# Two launches at once


OURS, ELDER, YOUNGER = (
    make_pod(name, env={"PODTASKS_LAUNCH": mark}) for name, mark in (("mm", "1"), ("aa", "2"), ("zz", "3"))
)


def declare_twins(world: World, *twins: Pod, gone_after_s: float | None = None, ours: Pod = OURS) -> None:
    """Declare the pods of other launches beside ours; the first of them goes away after a time."""

    def listed() -> list[Pod]:
        gone = gone_after_s is not None and world.clock.now() - 1000 >= gone_after_s
        return [*twins[1 if gone else 0 :], ours]

    world.api.on(CREATE_4090, ours.id).on(f"find_pod {ours.id}", ours).on("list_pods", listed)


def test_twin_with_the_lower_id_is_used_and_ours_deleted_at_once(world: World) -> None:
    declare_twins(world, ELDER)
    world.api.on("terminate_pod mm", None)
    assert world.rent() == ELDER
    assert world.api.orders() == [CREATE_4090, "terminate_pod mm"]
    assert world.remembered() == "POD_ID=aa\n"
    assert world.clock.sleeps == []
    assert world.report.notes == ["another launch made pod aa at the same moment; it is used, mm is deleted"]


@pytest.mark.parametrize("gone_after_s", [0.1, 9.9])
def test_twin_with_the_higher_id_that_yields_leaves_ours(world: World, gone_after_s: float) -> None:
    declare_twins(world, YOUNGER, gone_after_s=gone_after_s)
    assert world.rent() == OURS
    assert world.api.orders() == [CREATE_4090]
    assert world.remembered() == "POD_ID=mm\n"
    assert world.report.notes == []


def test_twin_with_the_higher_id_that_had_settled_before_is_used_after_its_time(world: World) -> None:
    declare_twins(world, YOUNGER)
    world.api.on("terminate_pod mm", None)
    assert world.rent() == YOUNGER
    assert world.api.orders() == [CREATE_4090, "terminate_pod mm"]
    assert world.remembered() == "POD_ID=zz\n"
    assert sum(world.clock.sleeps) == pytest.approx(TWIN_WAIT_S)


def test_twin_used_is_one_that_is_still_there_after_the_wait(world: World) -> None:
    concurrent = make_pod("nn", env={"PODTASKS_LAUNCH": "4"})
    declare_twins(world, concurrent, YOUNGER, gone_after_s=3)
    world.api.on("terminate_pod mm", None)
    assert world.rent() == YOUNGER, "not the one that has yielded to us meanwhile"
    assert world.remembered() == "POD_ID=zz\n"


def test_twin_that_stops_while_it_is_waited_for_leaves_ours(world: World) -> None:
    stopped = make_pod("zz", status=PodStatus.EXITED, env={"PODTASKS_LAUNCH": "3"})
    world.api.on(CREATE_4090, "mm").on("find_pod mm", OURS)
    world.api.on("list_pods", *[[OURS, YOUNGER]] * 4, [OURS, stopped])
    assert world.rent() == OURS
    assert world.api.orders() == [CREATE_4090]


def test_twins_without_a_mark_are_not_taken_for_one_order(world: World) -> None:
    declare_twins(world, make_pod("zz"), ours=make_pod("mm"), gone_after_s=1)
    assert world.rent().id == "mm"
    assert world.api.orders() == [CREATE_4090], "the other is not deleted"


def test_stopped_pod_and_a_strangers_pod_are_no_twins(world: World) -> None:
    declare_twins(world, STRANGER, make_pod("ab", status=PodStatus.EXITED))
    assert world.rent() == OURS
    assert world.api.orders() == [CREATE_4090]
    assert world.clock.sleeps == []
