"""A pod to copy files with: ours, or one CPU pod, and none left behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.helper_pod import BorrowedPod, borrow_pod, describe_offer, terminate_helpers
from podtasks.pure.api_answer import ApiCallError
from podtasks.pure.cpu_offers import CpuOffer
from podtasks.pure.errors import (
    ApiError,
    ApiUnreachableError,
    CapacityError,
    PlanError,
    PodFailedError,
    RemoteRefusedError,
)
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.secret import Secret
from podtasks.pure.settings import Settings
from tests.unit.fake_pod import BROKEN, FakePod, FakeProcess, refusal
from tests.unit.fakes import STOPPED, STRANGER, VOLUME, FakeRest, World, make_cloud, make_pod

SETTINGS = Settings(project="demo", max_usd_per_hour=0.5)
CREATE = "create_cpu_pod cpu3c-2-4"
OFFER = CpuOffer("cpu3c-2-4", "Compute-Optimized", 2, 4, 0.06)
SILENT = ApiUnreachableError("RunPod gave no usable answer.", next_step="x")


class Interrupted(BaseException):
    """Stands for Ctrl+C, which pytest would take for its own."""


def make_helper(pod_id: str = "cpu1", **changes: Any) -> Pod:  # noqa: ANN401
    env = {"PODTASKS_PROJECT": "", "PODTASKS_HELPER": "demo"}
    fields: dict[str, Any] = {"env": env, "gpu": "", "gpu_count": 0, "usd_per_hour": 0.06, **changes}
    return make_pod(pod_id, **fields)


def holding(guard_holds: int = 1) -> FakeProcess:
    answer = {"ok": True, "held": True, "guard": {"holds": guard_holds}}
    return FakeProcess(line=json.dumps(answer).encode() + b"\n")


def asked(holds: int) -> dict[str, object]:
    return {"ok": True, "held": True, "guard": {"holds": holds}}


class Lender:
    """A project that borrows a pod."""

    def __init__(self, world: World, rest: FakeRest) -> None:
        self.world = world
        self.rest = rest
        self.settings = SETTINGS
        self.network_volume_id: str | None = "vol1"

    def borrow(
        self, body: Callable[[BorrowedPod], object] = lambda _: None, *, may_rent: bool = True
    ) -> BorrowedPod:
        world = self.world
        cloud = make_cloud(world.api, world.folder, network_volume_id=self.network_volume_id, rest=self.rest)
        files = ProjectFiles(world.folder)
        with borrow_pod(
            cloud, self.settings, files, world.report, world.clock, who="inv fetch", may_rent=may_rent
        ) as borrowed:
            body(borrowed)
        return borrowed


@pytest.fixture
def lender(world: World, monkeypatch: pytest.MonkeyPatch) -> Lender:
    monkeypatch.setattr("podtasks.doors.key_files.require_usable_key", lambda *_: None)
    return Lender(world, FakeRest(cpu_offer=OFFER))


def declare_new(world: World, pod: FakePod, before: list[Pod] | None = None) -> Pod:
    """Declare that there is no pod, and what making a CPU pod answers."""
    helper, others = make_helper(), before or []
    world.api.on("list_pods", others, others, [*others, helper]).on("list_network_volumes", [VOLUME])
    world.api.on(CREATE, "cpu1").on("find_pod cpu1", helper).on("terminate_pod cpu1", None)
    pod.on("hold.py", holding(), asked(2))
    return helper


def test_our_pod_is_used_and_held_while_it_runs(world: World, pod: FakePod, lender: Lender) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", make_pod())
    pod.on("hold.py", holding())
    borrowed = lender.borrow(lambda _: pod.open_shells() == 1 or pytest.fail("not open"))
    assert (borrowed.pod, borrowed.is_helper) == (make_pod(), False)
    assert pod.questions("hold.py") == [{"who": "inv fetch"}]
    assert world.api.orders() == []
    assert pod.open_shells() == 0


def test_our_pod_with_another_volume_is_no_way_to_ours(world: World, pod: FakePod, lender: Lender) -> None:
    world.api.on("list_pods", [make_pod(env={"PODTASKS_NETWORK_VOLUME": "old"})])
    with pytest.raises(PlanError, match="runs with network volume old, but your settings name network volume vol1"):
        lender.borrow()
    assert pod.reached == []


def test_our_pod_that_is_being_stopped_says_so(world: World, pod: FakePod, lender: Lender) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", make_pod())
    line = refusal("The pod is being stopped.", ok=False).stdout
    pod.on("hold.py", FakeProcess(line=line))
    with pytest.raises(RemoteRefusedError, match="is being stopped"):
        lender.borrow()
    assert pod.open_shells() == 0


@pytest.mark.parametrize("others", [[], [STOPPED, STRANGER]], ids=["no pod", "a stopped pod and a stranger's"])
def test_a_cpu_pod_is_made_on_the_same_volume_and_deleted_at_the_end(
    world: World, pod: FakePod, lender: Lender, others: list[Pod]
) -> None:
    helper = declare_new(world, pod, others)
    borrowed = lender.borrow(lambda _: world.api.orders() == [CREATE] or pytest.fail("deleted too early"))
    assert (borrowed.pod, borrowed.is_helper) == (helper, True)
    assert world.api.orders() == [CREATE, "terminate_pod cpu1"]
    assert pod.open_shells() == 0
    assert world.report.steps[0] == "making a CPU pod (cpu3c-2-4) at $0.06/h, deleted afterwards"
    assert world.report.steps[-1] == "The CPU pod cpu1 is deleted; nothing of it is billed any more."
    assert world.remembered() == "", "it is never taken for the pod that trains"


def test_the_cpu_pod_that_is_ordered_deletes_itself_when_nobody_uses_it(
    world: World, pod: FakePod, lender: Lender
) -> None:
    declare_new(world, pod)
    lender.settings = Settings(project="p" * 60, cpu_image="an/image", env={"SECRET": "s"}, grace_minutes=2)
    world.api.instead("list_pods", [])
    lender.borrow()
    spec = world.api.specs[0]
    expected = {"PODTASKS_HELPER": "p" * 60, "PODTASKS_GRACE_ACTION": "terminate", "PODTASKS_GRACE_MINUTES": "2"}
    assert {name: spec.env.get(name) for name in expected} == expected
    assert not {"PODTASKS_PROJECT", "SECRET"} & spec.env.keys()
    assert isinstance(spec.env["PODTASKS_HOST_KEY"], Secret)
    assert (spec.name, spec.image) == ("p" * 54 + "-files", "an/image")
    assert (spec.network_volume_id, spec.data_center, spec.cloud_type) == ("vol1", "EU-RO-1", "SECURE")
    assert (spec.container_disk_gb, spec.gpu_count) == (10, 0)
    assert "boot.sh" in spec.start_command


@pytest.mark.parametrize("trouble", [Interrupted(), PlanError("x", next_step="y"), OSError("disk")])
def test_the_cpu_pod_is_deleted_whatever_happens(
    world: World, pod: FakePod, lender: Lender, trouble: BaseException
) -> None:
    declare_new(world, pod)

    def fail(_: BorrowedPod) -> None:
        raise trouble

    with pytest.raises(type(trouble)):
        lender.borrow(fail)
    assert world.api.orders()[-1] == "terminate_pod cpu1"


def test_a_cpu_pod_that_cannot_be_deleted_deletes_itself_and_that_is_said(
    world: World, pod: FakePod, lender: Lender
) -> None:
    declare_new(world, pod)
    world.api.instead("terminate_pod cpu1", SILENT)
    lender.borrow()
    assert "could not be deleted" in world.report.steps[-1]
    assert "deletes itself 5 minutes after the last connection" in world.report.steps[-1]


def test_a_cpu_pod_that_another_command_uses_is_left_to_it(world: World, pod: FakePod, lender: Lender) -> None:
    helper = make_helper()
    world.api.on("list_pods", [helper]).on("find_pod cpu1", helper)
    pod.on("hold.py", holding(2), asked(3))
    assert lender.borrow().pod == helper
    assert world.api.orders() == []
    assert "another command uses the CPU pod cpu1" in world.report.notes[-1]


def test_a_cpu_pod_that_a_killed_command_left_is_used_again_and_deleted(
    world: World, pod: FakePod, lender: Lender
) -> None:
    helper = make_helper()
    world.api.on("list_pods", [helper]).on("find_pod cpu1", helper).on("terminate_pod cpu1", None)
    pod.on("hold.py", holding(), asked(2))
    assert lender.borrow().is_helper
    assert world.api.orders() == ["terminate_pod cpu1"], "none was made"


def test_a_link_that_broke_does_not_keep_the_cpu_pod(world: World, pod: FakePod, lender: Lender) -> None:
    declare_new(world, pod)
    pod._answers["hold.py"][1] = BROKEN
    lender.borrow()
    assert world.api.orders()[-1] == "terminate_pod cpu1"


@pytest.mark.parametrize(
    "old",
    [
        make_helper("cpu0", status=PodStatus.EXITED, ssh=None),
        replace(make_helper("cpu0"), env={**make_helper().env, "PODTASKS_NETWORK_VOLUME": "old"}),
    ],
    ids=["stopped", "on another volume"],
)
def test_a_cpu_pod_of_no_use_is_deleted_and_another_made(
    world: World, pod: FakePod, lender: Lender, old: Pod
) -> None:
    declare_new(world, pod, [old])
    world.api.on("terminate_pod cpu0", None)
    lender.borrow()
    assert world.api.orders() == ["terminate_pod cpu0", CREATE, "terminate_pod cpu1"]


def test_a_cpu_pod_on_its_way_out_is_deleted_and_another_made(world: World, pod: FakePod, lender: Lender) -> None:
    old = make_helper("cpu0")
    declare_new(world, pod, [old])
    world.api.on("find_pod cpu0", old).on("terminate_pod cpu0", None)
    pod._answers["hold.py"].insert(0, FakeProcess(line=refusal("The pod is being stopped.", ok=False).stdout))
    lender.borrow()
    assert world.api.orders() == ["terminate_pod cpu0", CREATE, "terminate_pod cpu1"]
    assert "does not answer" in world.report.notes[0]


def test_of_two_made_at_once_the_first_by_its_id_is_used(world: World, pod: FakePod, lender: Lender) -> None:
    first, mine = make_helper("cpu0"), make_helper()
    world.api.on("list_pods", [], [], [first, mine]).on("list_network_volumes", [VOLUME])
    world.api.on(CREATE, "cpu1").on("find_pod cpu1", mine).on("find_pod cpu0", first).on("terminate_pod cpu1", None)
    pod.on("hold.py", holding(2), asked(3))
    assert lender.borrow().pod == first
    assert world.api.orders() == [CREATE, "terminate_pod cpu1"]


def test_a_lost_answer_makes_no_second_cpu_pod(world: World, pod: FakePod, lender: Lender) -> None:
    def made() -> Pod:
        mark = str(world.api.specs[0].env["PODTASKS_LAUNCH"])
        return replace(make_helper(), env={**make_helper().env, "PODTASKS_LAUNCH": mark})

    lost = ApiCallError("the connection broke or timed out", may_have_acted=True)
    world.api.on("list_pods", [], [], lambda: [made()], lambda: [made()]).on("list_network_volumes", [VOLUME])
    world.api.on(CREATE, lost).on("find_pod cpu1", lambda: made()).on("terminate_pod cpu1", None)
    pod.on("hold.py", holding(), asked(2))
    lender.borrow()
    assert world.api.orders() == [CREATE, "terminate_pod cpu1"]


def test_a_cpu_pod_that_never_answers_is_deleted(world: World, pod: FakePod, lender: Lender) -> None:
    declare_new(world, pod)
    pod.greeting = set()
    pod._answers.clear()
    with pytest.raises(Exception, match="did not answer on SSH") as caught:
        lender.borrow()
    assert getattr(caught.value, "means", "") == "The CPU pod cpu1 is deleted; nothing of it is billed any more."
    assert world.api.orders() == [CREATE, "terminate_pod cpu1"]


def test_our_pod_that_stopped_since_it_was_told_of_is_not_replaced_by_one_that_nobody_agreed_to(
    world: World, pod: FakePod, lender: Lender
) -> None:
    world.api.on("list_pods", [STOPPED])
    with pytest.raises(PodFailedError, match="has stopped meanwhile"):
        lender.borrow(may_rent=False)
    assert (world.api.orders(), pod.reached) == ([], [])


def test_without_a_network_volume_no_cpu_pod_could_reach_the_files(
    world: World, pod: FakePod, lender: Lender
) -> None:
    lender.network_volume_id = None
    world.api.on("list_pods", [STOPPED])
    with pytest.raises(PlanError, match="no network volume"):
        lender.borrow()
    assert (world.api.orders(), pod.reached) == ([], [])


def test_an_offer_above_the_cap_is_refused_before_anything_is_rented(
    world: World, pod: FakePod, lender: Lender
) -> None:
    lender.rest = FakeRest(cpu_offer=replace(OFFER, usd_per_hour=0.51))
    world.api.on("list_pods", [])
    with pytest.raises(PlanError, match=r"costs \$0.51/h, above your cap of \$0.50/h"):
        lender.borrow()
    assert (world.api.orders(), pod.reached) == ([], [])


def test_a_cpu_pod_that_costs_more_than_the_cap_is_deleted(world: World, pod: FakePod, lender: Lender) -> None:
    lender.rest = FakeRest(cpu_offer=None)
    declare_new(world, pod)
    pod._answers.clear()
    world.api.instead("find_pod cpu1", make_helper(usd_per_hour=0.51)).instead("list_pods", [])
    with pytest.raises(PlanError, match="above your cap") as caught:
        lender.borrow()
    assert caught.value.means == "The CPU pod cpu1 is deleted; nothing of it is billed any more."


def test_no_cpu_pod_to_be_had_names_the_setting(world: World, lender: Lender, pod: FakePod) -> None:
    world.api.on("list_pods", []).on("list_network_volumes", [VOLUME]).on(CREATE, CapacityError("None.", next_step="x"))
    with pytest.raises(CapacityError) as caught:
        lender.borrow()
    assert "cpu_instance" in caught.value.next_step
    assert pod.reached == []


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        (FakeRest(cpu_offer=OFFER), "a CPU pod (cpu3c-2-4) at $0.06/h, deleted afterwards"),
        (FakeRest(cpu_offer=None), "a CPU pod (cpu3c-2-4), price not known, deleted afterwards"),
        (FakeRest(error=ApiError("no", next_step="x")), "a CPU pod (cpu3c-2-4), price not known, deleted afterwards"),
    ],
)
def test_offer_in_words(world: World, tmp_path: Path, rest: FakeRest, text: str) -> None:
    assert describe_offer(make_cloud(world.api, tmp_path, rest=rest), SETTINGS) == text


def test_all_cpu_pods_of_the_project_are_deleted_and_no_others(world: World) -> None:
    others = [make_pod(), STRANGER, make_helper("x", env={"PODTASKS_PROJECT": "", "PODTASKS_HELPER": "other"})]
    world.api.on("list_pods", [make_helper("b"), *others, make_helper("a", status=PodStatus.EXITED)])
    world.api.on("terminate_pod a", None).on("terminate_pod b", None)
    assert terminate_helpers(world.cloud(), "demo", world.report) == 2
    assert world.api.orders() == ["terminate_pod a", "terminate_pod b"]


def test_cpu_pod_that_cannot_be_deleted_keeps_no_other(world: World) -> None:
    world.api.on("list_pods", [make_helper("b"), make_helper("a")])
    world.api.on("terminate_pod a", ApiError("no answer", next_step="x")).on("terminate_pod b", None)
    with pytest.raises(ApiError, match="no answer"):
        terminate_helpers(world.cloud(), "demo", world.report)
    assert world.api.orders() == ["terminate_pod a", "terminate_pod b"]
