"""Our pod: used, resumed, replaced or rented, against an account that allows nothing undeclared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from podtasks.flows.pods import OurPod
from podtasks.pure.errors import ApiError, CapacityError, PlanError
from podtasks.pure.pod import Pod, PodStatus
from tests.unit.fakes import CREATE_4090, CREATE_A100, NO_INSTANCES, REQUEST, SPEC, STOPPED, World, make_pod

NO_GPUS = CapacityError("There are not enough free GPUs on the host machine.", next_step="wait")


def test_pod_is_rented_where_there_is_none(world: World) -> None:
    new = make_pod("new1")
    world.api.on("list_pods", [], [new]).on(CREATE_4090, "new1").on("find_pod new1", new)
    assert world.ensure_ours() == OurPod(new, ran_before=False)
    assert world.api.orders() == [CREATE_4090]


# Using the pod there is


def test_running_pod_is_used_and_remembered_and_nothing_is_ordered(world: World) -> None:
    world.api.on("list_pods", [make_pod("pod2")])
    assert world.ensure_ours() == OurPod(make_pod("pod2"), ran_before=True)
    assert world.api.orders() == []
    assert world.remembered() == "POD_ID=pod2\n"
    assert world.report.steps == ["using pod pod2: RTX 4090, $0.69/h"]


@pytest.mark.parametrize(
    "pod", [make_pod(gpu="H100"), make_pod(image="other/image:1"), make_pod(status=PodStatus.RUNNING, gpu="")]
)
def test_running_pod_that_is_not_what_was_asked_for_is_left_alone(world: World, pod: Pod) -> None:
    world.api.on("list_pods", [pod])
    with pytest.raises(PlanError, match="which is not what you ask for"):
        world.ensure(pod_id="pod1")
    assert world.api.orders() == []


def test_running_pod_with_another_number_of_gpus_is_not_what_was_asked_for(world: World) -> None:
    world.api.on("list_pods", [make_pod(gpu_count=1)])
    with pytest.raises(PlanError, match="1 x RTX 4090"):
        world.ensure(replace(REQUEST, spec=replace(SPEC, gpu_count=2)), pod_id="pod1")
    assert world.api.orders() == []


def test_running_pod_on_another_volume_is_not_used_because_its_outputs_would_land_there(world: World) -> None:
    world.api.on("list_pods", [make_pod(env={"PODTASKS_NETWORK_VOLUME": "old-volume"})])
    with pytest.raises(PlanError, match="old-volume"):
        world.ensure(pod_id="pod1")
    assert world.api.orders() == []


@pytest.mark.parametrize("status", [PodStatus.RUNNING, PodStatus.EXITED])
def test_pod_not_made_by_podtasks_is_not_touched(world: World, status: PodStatus) -> None:
    world.api.on("list_pods", [make_pod(status=status, env={"PODTASKS_HOST_PUBLIC_KEY": ""})])
    with pytest.raises(PlanError, match="was not made by podtasks"):
        world.ensure(pod_id="pod1")
    assert world.api.orders() == []


# Resuming


def test_stopped_pod_is_resumed(world: World) -> None:
    world.api.on("list_pods", [STOPPED]).on("find_pod pod1", make_pod()).on("resume_pod pod1 1", None)
    assert world.ensure_ours(pod_id="pod1") == OurPod(make_pod(), ran_before=False)
    assert world.api.orders() == ["resume_pod pod1 1"]


def test_stopped_pod_that_cannot_be_resumed_is_replaced_on_the_same_volume_and_terminated_last(world: World) -> None:
    new = make_pod("new1")
    world.api.on("list_pods", [STOPPED], [STOPPED, new]).on("resume_pod pod1 1", NO_GPUS)
    world.api.on(CREATE_4090, "new1").on("find_pod new1", new).on("terminate_pod pod1", None)
    assert world.ensure_ours() == OurPod(new, ran_before=False)
    assert world.api.orders() == ["resume_pod pod1 1", CREATE_4090, "terminate_pod pod1"]
    assert world.api.specs[0].network_volume_id == STOPPED.network_volume_id == "vol1"
    assert world.remembered() == "POD_ID=new1\n"
    assert "replaced: it cannot be resumed" in world.report.notes[0]


def test_stopped_pod_stays_when_no_other_is_to_be_had(world: World) -> None:
    world.api.on("list_pods", [STOPPED]).on("resume_pod pod1 1", NO_GPUS)
    world.api.on(CREATE_4090, NO_INSTANCES).on(CREATE_A100, NO_INSTANCES)
    with pytest.raises(CapacityError):
        world.ensure()
    assert "terminate_pod pod1" not in world.api.orders()
    assert world.remembered() == "POD_ID=pod1\n"


@pytest.mark.parametrize("volume", ["", "another"])
def test_stopped_pod_that_may_hold_the_only_copy_is_not_replaced(world: World, volume: str) -> None:
    pod = make_pod(status=PodStatus.EXITED, env={"PODTASKS_NETWORK_VOLUME": volume})
    request = REQUEST if volume else replace(REQUEST, spec=replace(SPEC, network_volume_id=None))
    world.api.on("list_pods", [pod])
    if not volume:
        world.api.on("resume_pod pod1 1", NO_GPUS)
    with pytest.raises(CapacityError) as caught:
        world.ensure(request, pod_id="pod1")
    assert "its data is kept" in caught.value.means
    assert not [call for call in world.api.orders() if call.startswith(("create", "terminate"))]


def test_stopped_pod_of_another_image_is_replaced_without_trying_to_resume_it(world: World) -> None:
    old = replace(STOPPED, image="old/image:1")
    new = make_pod("new1")
    world.api.on("list_pods", [old], [old, new]).on(CREATE_4090, "new1").on("find_pod new1", new)
    world.api.on("terminate_pod pod1", None)
    world.ensure()
    assert world.api.orders() == [CREATE_4090, "terminate_pod pod1"]


def test_resume_refused_for_another_reason_changes_nothing(world: World) -> None:
    refusal = ApiError("RunPod refused: Cannot resume a spot pod as an on demand pod.", next_step="x")
    world.api.on("list_pods", [STOPPED]).on("resume_pod pod1 1", refusal)
    with pytest.raises(ApiError, match="spot pod"):
        world.ensure(pod_id="pod1")
    assert world.api.orders() == ["resume_pod pod1 1"]


def test_trouble_after_a_resume_that_worked_does_not_cost_the_pod(world: World) -> None:
    trouble = CapacityError("RunPod cannot read pod pod1: Something went wrong.", next_step="wait")
    world.api.on("list_pods", [STOPPED]).on("find_pod pod1", trouble).on("resume_pod pod1 1", None)
    with pytest.raises(CapacityError):
        world.ensure(pod_id="pod1")
    assert world.api.orders() == ["resume_pod pod1 1"]


def test_resumed_pod_above_the_cap_is_stopped_again(world: World) -> None:
    world.api.on("list_pods", [STOPPED]).on("find_pod pod1", make_pod(usd_per_hour=2.5))
    world.api.on("resume_pod pod1 1", None).on("stop_pod pod1", None)
    with pytest.raises(PlanError, match=r"\$2\.50/h, above your cap of \$2\.00/h") as caught:
        world.ensure(pod_id="pod1")
    assert "The pod was stopped" in caught.value.means
    assert world.api.orders()[-1] == "stop_pod pod1"
