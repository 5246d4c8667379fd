"""Finding, using, resuming and renting the pod, against an account that allows nothing undeclared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from podtasks.flows.own_pods import find_pod
from podtasks.flows.pods import ensure_pod
from podtasks.flows.readiness import wait_for_ssh
from podtasks.flows.rent import PodRequest, create_pod
from podtasks.pure.api_answer import ApiCallError
from podtasks.pure.errors import (
    ApiError,
    ApiUnreachableError,
    CapacityError,
    PlanError,
    PodFailedError,
    PodTimeoutError,
)
from podtasks.pure.pod import Pod, PodStatus, SshEndpoint
from tests.unit.fakes import A100, IMAGE, RTX_4090, SPEC, FakeClock, FakeReporter, StrictApi, make_cloud, make_pod

CREATE_4090 = "create_pod NVIDIA GeForce RTX 4090"
CREATE_A100 = "create_pod NVIDIA A100 80GB PCIe"
REQUEST = PodRequest("demo", SPEC, (RTX_4090, A100), 2.0)
STOPPED = make_pod(status=PodStatus.EXITED, ssh=None)
NO_GPUS = CapacityError("There are not enough free GPUs on the host machine.", next_step="wait")
NO_INSTANCES = CapacityError("There are no longer any instances available.", next_step="wait")
LOST = ApiCallError("the connection broke or timed out", may_have_acted=True)
STRANGER = make_pod("aaa", env={"PODTASKS_PROJECT": "other"})


class World:
    """An account, a clock and a reporter, and the flows called with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api = StrictApi()
        self.clock = FakeClock()
        self.report = FakeReporter()

    def ensure(self, request: PodRequest = REQUEST, *, pod_id: str = "") -> Pod:
        return ensure_pod(make_cloud(self.api, self.folder, pod_id=pod_id), request, self.report, self.clock)

    def wait(self, pod: Pod, timeout_s: float = 60) -> tuple[Pod, SshEndpoint]:
        cloud = make_cloud(self.api, self.folder)
        return wait_for_ssh(cloud, pod, self.report, self.clock, timeout_s=timeout_s)

    def remembered(self) -> str:
        path = self.folder / ".runpod.env"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path)
    yield world
    assert world.api.leftovers() == [], "declared, but never asked for"


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


# Finding


def test_pod_remembered_is_found_without_a_list(world: World) -> None:
    world.api.on("find_pod pod9", make_pod("pod9"))
    assert find_pod(make_cloud(world.api, world.folder, pod_id="pod9"), "demo") == make_pod("pod9")
    assert world.api.calls == ["find_pod pod9"]


@pytest.mark.parametrize("remembered", [None, make_pod("pod9", status=PodStatus.TERMINATED)])
def test_pod_remembered_but_gone_is_looked_for_by_its_stamp(world: World, remembered: Pod | None) -> None:
    world.api.on("find_pod pod9", remembered).on("list_pods", [STRANGER, make_pod("pod2")])
    found = find_pod(make_cloud(world.api, world.folder, pod_id="pod9"), "demo")
    assert found is not None
    assert found.id == "pod2"


def test_pod_found_by_stamp_is_a_running_one_first_and_never_a_strangers_or_a_terminated_one(world: World) -> None:
    world.api.on(
        "list_pods",
        [
            STRANGER,
            make_pod("b", status=PodStatus.TERMINATED),
            make_pod("c", status=PodStatus.EXITED),
            make_pod("e"),
            make_pod("d"),
        ],
    )
    found = find_pod(make_cloud(world.api, world.folder), "demo")
    assert found is not None
    assert found.id == "d"


def test_no_pod_is_found_among_strangers(world: World) -> None:
    world.api.on("list_pods", [STRANGER])
    assert find_pod(make_cloud(world.api, world.folder), "demo") is None


# Using the pod there is


def test_running_pod_is_used_and_remembered_and_nothing_is_ordered(world: World) -> None:
    world.api.on("list_pods", [make_pod("pod2")])
    assert world.ensure().id == "pod2"
    assert world.api.orders() == []
    assert world.remembered() == "POD_ID=pod2\n"
    assert world.report.steps == ["using pod pod2: RTX 4090, $0.69/h"]


@pytest.mark.parametrize(
    "pod", [make_pod(gpu="H100"), make_pod(image="other/image:1"), make_pod(status=PodStatus.RUNNING, gpu="")]
)
def test_running_pod_that_is_not_what_was_asked_for_is_left_alone(world: World, pod: Pod) -> None:
    world.api.on("find_pod pod1", pod)
    with pytest.raises(PlanError, match="which is not what you ask for"):
        world.ensure(pod_id="pod1")
    assert world.api.orders() == []


def test_running_pod_with_another_number_of_gpus_is_not_what_was_asked_for(world: World) -> None:
    world.api.on("find_pod pod1", make_pod(gpu_count=1))
    with pytest.raises(PlanError, match="1 x RTX 4090"):
        world.ensure(replace(REQUEST, spec=replace(SPEC, gpu_count=2)), pod_id="pod1")
    assert world.api.orders() == []


def test_running_pod_on_another_volume_is_not_used_because_its_outputs_would_land_there(world: World) -> None:
    world.api.on("find_pod pod1", make_pod(env={"PODTASKS_NETWORK_VOLUME": "old-volume"}))
    with pytest.raises(PlanError, match="old-volume"):
        world.ensure(pod_id="pod1")
    assert world.api.orders() == []


@pytest.mark.parametrize("status", [PodStatus.RUNNING, PodStatus.EXITED])
def test_pod_not_made_by_podtasks_is_not_touched(world: World, status: PodStatus) -> None:
    world.api.on("find_pod pod1", make_pod(status=status, env={"PODTASKS_HOST_PUBLIC_KEY": ""}))
    with pytest.raises(PlanError, match="was not made by podtasks"):
        world.ensure(pod_id="pod1")
    assert world.api.orders() == []


# Resuming


def test_stopped_pod_is_resumed(world: World) -> None:
    world.api.on("find_pod pod1", STOPPED, make_pod()).on("resume_pod pod1 1", None)
    assert world.ensure(pod_id="pod1") == make_pod()
    assert world.api.orders() == ["resume_pod pod1 1"]


def test_stopped_pod_that_cannot_be_resumed_is_replaced_on_the_same_volume_and_terminated_last(world: World) -> None:
    new = make_pod("new1")
    world.api.on("list_pods", [STOPPED], [STOPPED, new]).on("resume_pod pod1 1", NO_GPUS)
    world.api.on(CREATE_4090, "new1").on("find_pod new1", new).on("terminate_pod pod1", None)
    assert world.ensure().id == "new1"
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
    world.api.on("find_pod pod1", pod)
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
    world.api.on("find_pod pod1", STOPPED).on("resume_pod pod1 1", refusal)
    with pytest.raises(ApiError, match="spot pod"):
        world.ensure(pod_id="pod1")
    assert world.api.orders() == ["resume_pod pod1 1"]


def test_trouble_after_a_resume_that_worked_does_not_cost_the_pod(world: World) -> None:
    # RunPod's text for trouble of any kind is also one of those for no capacity.
    trouble = CapacityError("RunPod cannot read pod pod1: Something went wrong.", next_step="wait")
    world.api.on("find_pod pod1", STOPPED, trouble).on("resume_pod pod1 1", None)
    with pytest.raises(CapacityError):
        world.ensure(pod_id="pod1")
    assert world.api.orders() == ["resume_pod pod1 1"]


def test_resumed_pod_above_the_cap_is_stopped_again(world: World) -> None:
    world.api.on("find_pod pod1", STOPPED, make_pod(usd_per_hour=2.5))
    world.api.on("resume_pod pod1 1", None).on("stop_pod pod1", None)
    with pytest.raises(PlanError, match=r"\$2\.50/h, above your cap of \$2\.00/h") as caught:
        world.ensure(pod_id="pod1")
    assert "It was stopped" in caught.value.means
    assert world.api.orders()[-1] == "stop_pod pod1"


# Renting


def declare_new(world: World, usd_per_hour: float = 0.69) -> Pod:
    new = make_pod("new1", usd_per_hour=usd_per_hour)
    world.api.on("list_pods", [], [new]).on(CREATE_4090, "new1").on("find_pod new1", new)
    return new


def test_new_pod_is_rented_and_remembered_at_once(world: World) -> None:
    new = declare_new(world)
    seen: list[str] = []

    def read() -> Pod:
        seen.append(world.remembered())
        return new

    world.api.instead("find_pod new1", read)
    assert world.ensure().id == "new1"
    assert seen[0] == "POD_ID=new1\n", "written before anything else can fail"
    assert world.api.orders() == [CREATE_4090]
    assert world.report.steps == ["pod new1 created: 1 x RTX 4090, $0.69/h"]


def test_gpu_types_are_tried_in_the_users_order(world: World) -> None:
    new = make_pod("new1", gpu="A100 PCIe", usd_per_hour=1.39)
    world.api.on("list_pods", [], [new]).on(CREATE_4090, NO_INSTANCES).on(CREATE_A100, "new1")
    world.api.on("find_pod new1", new)
    assert world.ensure().gpu == "A100 PCIe"
    assert world.api.orders() == [CREATE_4090, CREATE_A100]


def test_gpu_type_out_of_stock_is_not_even_asked_for(world: World) -> None:
    new = make_pod("new1", gpu="A100 PCIe", usd_per_hour=1.39)
    world.api.on("list_pods", [], [new]).on(CREATE_A100, "new1").on("find_pod new1", new)
    world.ensure(replace(REQUEST, offers=(replace(RTX_4090, stock="None"), A100)))
    assert world.api.orders() == [CREATE_A100]


def test_no_gpu_to_be_had_names_what_was_tried(world: World) -> None:
    world.api.on("list_pods", []).on(CREATE_A100, NO_INSTANCES)
    with pytest.raises(CapacityError) as caught:
        world.ensure(replace(REQUEST, offers=(replace(RTX_4090, stock="None"), A100)))
    assert "NVIDIA GeForce RTX 4090 (none in stock), NVIDIA A100 80GB PCIe" in caught.value.what
    assert world.remembered() == ""


def test_new_pod_that_is_read_late_is_waited_for(world: World) -> None:
    new = make_pod("new1")
    world.api.on("list_pods", [], [new]).on(CREATE_4090, "new1").on("find_pod new1", None, None, new)
    assert world.ensure().id == "new1"
    assert world.api.orders() == [CREATE_4090]


def test_new_pod_that_never_appears_is_an_error_and_no_second_is_made(world: World) -> None:
    world.api.on("list_pods", []).on(CREATE_4090, "new1").on("find_pod new1", None)
    with pytest.raises(PodFailedError, match="no longer there"):
        world.ensure()
    assert world.api.orders() == [CREATE_4090]
    assert world.remembered() == "POD_ID=new1\n"


def test_new_pod_above_the_cap_is_stopped(world: World) -> None:
    new = make_pod("new1", usd_per_hour=2.01)
    world.api.on("list_pods", []).on(CREATE_4090, "new1").on("find_pod new1", new).on("stop_pod new1", None)
    with pytest.raises(PlanError, match="above your cap") as caught:
        world.ensure()
    assert caught.value.means == "It was stopped, so no GPU is billed."
    assert world.api.orders() == [CREATE_4090, "stop_pod new1"]


def test_new_pod_above_the_cap_that_cannot_be_stopped_says_so(world: World) -> None:
    new = make_pod("new1", usd_per_hour=2.01)
    refusal = ApiUnreachableError("RunPod gave no usable answer.", next_step="x")
    world.api.on("list_pods", []).on(CREATE_4090, "new1").on("find_pod new1", new).on("stop_pod new1", refusal)
    with pytest.raises(PlanError) as caught:
        world.ensure()
    assert "could NOT be stopped" in caught.value.means


def test_pod_at_exactly_the_cap_is_taken(world: World) -> None:
    declare_new(world, 0.1 * 3)
    assert world.ensure(replace(REQUEST, max_usd_per_hour=0.3)).id == "new1"


# The answer to a creation gets lost


def with_nonce(world: World, pod_id: str, order: int = 0) -> Pod:
    """Return a pod as it would be listed if the order had been carried out."""
    nonce = world.api.specs[order].env["PODTASKS_LAUNCH"]
    return make_pod(pod_id, env={"PODTASKS_LAUNCH": str(nonce)})


def test_creation_whose_answer_was_lost_finds_its_pod_by_nonce_and_makes_no_second(world: World) -> None:
    older = make_pod("older", env={"PODTASKS_PROJECT": "other", "PODTASKS_LAUNCH": "0" * 16})
    world.api.on("list_pods", [], [older], lambda: [older, with_nonce(world, "made")])
    world.api.on(CREATE_4090, LOST).on("find_pod made", lambda: with_nonce(world, "made"))
    assert world.ensure().id == "made"
    assert world.api.orders() == [CREATE_4090]
    assert world.remembered() == "POD_ID=made\n"


def test_creation_whose_answer_was_lost_and_did_nothing_is_ordered_again_after_three_looks(world: World) -> None:
    new = make_pod("new1")
    world.api.on("list_pods", [], [], [], [], [new]).on(CREATE_4090, LOST, "new1").on("find_pod new1", new)
    assert world.ensure().id == "new1"
    assert world.api.orders() == [CREATE_4090, CREATE_4090]
    looks = world.api.calls[world.api.calls.index(CREATE_4090) + 1 :]
    assert looks[:4] == ["list_pods", "list_pods", "list_pods", CREATE_4090]
    assert world.api.specs[0].env["PODTASKS_LAUNCH"] == world.api.specs[1].env["PODTASKS_LAUNCH"]


def test_pod_of_a_lost_answer_that_appears_beside_the_second_is_deleted(world: World) -> None:
    def both() -> list[Pod]:
        return [with_nonce(world, "zz-late"), with_nonce(world, "aa-second")]

    world.api.on("list_pods", [], [], [], [], both).on(CREATE_4090, LOST, "aa-second")
    world.api.on("find_pod aa-second", lambda: with_nonce(world, "aa-second", 1)).on("terminate_pod zz-late", None)
    assert world.ensure().id == "aa-second"
    assert world.api.orders() == [CREATE_4090, CREATE_4090, "terminate_pod zz-late"]


def test_two_launches_have_two_nonces(world: World) -> None:
    for number in (1, 2):
        new = make_pod(f"new{number}")
        world.api.on("list_pods", [new]).on(CREATE_4090, new.id).on(f"find_pod {new.id}", new)
        world.api.instead("list_pods", [new])
        create_pod(make_cloud(world.api, world.folder), REQUEST, world.report, world.clock)
    nonces = {spec.env["PODTASKS_LAUNCH"] for spec in world.api.specs}
    assert len(nonces) == 2
    assert all(spec.env["PODTASKS_PROJECT"] == "demo" for spec in world.api.specs)


def test_creation_refused_for_too_many_calls_is_tried_again_after_the_time_asked(world: World) -> None:
    busy = ApiCallError("too many calls (HTTP 429)", may_have_acted=False, retry_after_s=7)
    new = make_pod("new1")
    world.api.on("list_pods", [], [new]).on(CREATE_4090, busy, "new1").on("find_pod new1", new)
    assert world.ensure().id == "new1"
    assert world.clock.sleeps == [7]
    assert world.api.calls[:3] == ["list_pods", CREATE_4090, CREATE_4090], "nothing was made: no need to look"


def test_creation_refused_for_an_hour_does_not_hang_for_an_hour(world: World) -> None:
    busy = ApiCallError("too many calls (HTTP 429)", may_have_acted=False, retry_after_s=3600)
    world.api.on("list_pods", []).on(CREATE_4090, busy, busy, busy)
    with pytest.raises(ApiUnreachableError, match="HTTP 429"):
        world.ensure()
    assert sum(world.clock.sleeps) <= 200


def test_creation_that_never_gets_an_answer_ends_and_says_that_it_is_found_later(world: World) -> None:
    world.api.on("list_pods", []).on(CREATE_4090, LOST, LOST, LOST)
    with pytest.raises(ApiUnreachableError) as caught:
        world.ensure()
    assert world.api.orders() == [CREATE_4090] * 3
    assert "finds a pod that appeared late" in caught.value.next_step


# Two launches at once


def test_twin_with_the_smaller_id_is_kept_and_ours_deleted(world: World) -> None:
    ours, theirs = make_pod("mm", env={"PODTASKS_LAUNCH": "1"}), make_pod("aa", env={"PODTASKS_LAUNCH": "2"})
    world.api.on("list_pods", [], [ours, theirs]).on(CREATE_4090, "mm").on("find_pod mm", ours)
    world.api.on("terminate_pod mm", None)
    assert world.ensure().id == "aa"
    assert world.api.orders() == [CREATE_4090, "terminate_pod mm"]
    assert world.remembered() == "POD_ID=aa\n"


def test_twin_with_the_greater_id_is_left_to_the_launch_that_made_it(world: World) -> None:
    ours, theirs = make_pod("mm", env={"PODTASKS_LAUNCH": "1"}), make_pod("zz", env={"PODTASKS_LAUNCH": "2"})
    world.api.on("list_pods", [], [ours, theirs]).on(CREATE_4090, "mm").on("find_pod mm", ours)
    assert world.ensure().id == "mm"
    assert world.api.orders() == [CREATE_4090]


def test_twins_without_a_mark_are_not_taken_for_one_order(world: World) -> None:
    world.api.on("list_pods", [], [make_pod("mm"), make_pod("zz")]).on(CREATE_4090, "mm")
    world.api.on("find_pod mm", make_pod("mm"))
    assert world.ensure().id == "mm"
    assert world.api.orders() == [CREATE_4090]


def test_stopped_pod_and_a_strangers_pod_are_no_twins(world: World) -> None:
    ours = make_pod("mm")
    world.api.on("list_pods", [], [ours, STRANGER, make_pod("ab", status=PodStatus.EXITED)])
    world.api.on(CREATE_4090, "mm").on("find_pod mm", ours)
    assert world.ensure().id == "mm"
    assert world.api.orders() == [CREATE_4090]


# Waiting for SSH

OLD, NEW = SshEndpoint("203.0.113.7", 40022), SshEndpoint("203.0.113.7", 41999)


def test_pod_that_greets_is_ready(world: World, greeting: Greeting) -> None:
    greeting.at = {OLD}
    world.api.on("find_pod pod1", make_pod(ssh=None), make_pod(ssh=None), make_pod())
    assert world.wait(make_pod(ssh=None)) == (make_pod(), OLD)
    assert world.report.steps == ["waiting for the pod to boot", "SSH answers at 203.0.113.7:40022"]


def test_stale_port_is_left_for_the_new_one_as_soon_as_it_is_published(world: World, greeting: Greeting) -> None:
    greeting.at = {NEW}
    world.api.on("find_pod pod1", make_pod(ssh=OLD), make_pod(ssh=OLD), make_pod(ssh=NEW))
    pod, endpoint = world.wait(make_pod(ssh=OLD))
    assert (pod.ssh, endpoint) == (NEW, NEW)
    assert set(greeting.tried) == {OLD, NEW}


def test_port_is_probed_often_and_the_api_seldom(world: World, greeting: Greeting) -> None:
    world.api.on("find_pod pod1", make_pod())

    def greet_after_a_minute() -> None:
        if world.clock.now() > 1060:
            greeting.at = {OLD}

    greeting.on_try = greet_after_a_minute
    world.wait(make_pod(), timeout_s=900)
    assert len(greeting.tried) > 100
    assert len(world.api.calls) < 20


def test_pod_that_never_answers_is_stopped_and_the_last_state_told(world: World, greeting: Greeting) -> None:
    world.api.on("find_pod pod1", make_pod()).on("stop_pod pod1", None)
    with pytest.raises(PodTimeoutError) as caught:
        world.wait(make_pod(), timeout_s=900)
    assert greeting.tried
    assert "within 900 s; last seen: no SSH at 203.0.113.7:40022 yet" in caught.value.what
    assert caught.value.means == "It was stopped, so no GPU is billed."
    assert world.api.orders() == ["stop_pod pod1"]
    assert 1900 <= world.clock.now() < 1910


def test_pod_that_never_answers_and_cannot_be_stopped_says_so(world: World, greeting: Greeting) -> None:
    refusal = ApiUnreachableError("RunPod gave no usable answer.", next_step="x")
    world.api.on("find_pod pod1", make_pod(ssh=None)).on("stop_pod pod1", refusal)
    with pytest.raises(PodTimeoutError) as caught:
        world.wait(make_pod(ssh=None))
    assert greeting.tried == []
    assert "could NOT be stopped" in caught.value.means


@pytest.mark.parametrize("bad", [None, make_pod(status=PodStatus.EXITED, status_change="Exited by Runpod")])
def test_pod_that_vanishes_is_believed_after_three_readings(world: World, greeting: Greeting, bad: Pod | None) -> None:
    world.api.on("find_pod pod1", bad)
    with pytest.raises(PodFailedError) as caught:
        world.wait(make_pod())
    assert world.api.calls == ["find_pod pod1"] * 3
    assert greeting.tried == [], "a port of a pod that does not run leads to nobody, or to somebody else"
    assert ("Exited by Runpod" if bad else "no longer there") in caught.value.what


def test_pod_just_started_that_reads_as_stopped_twice_is_still_waited_for(world: World, greeting: Greeting) -> None:
    greeting.at = {NEW}
    world.api.on("find_pod pod1", STOPPED, None, make_pod(ssh=None), STOPPED, None, make_pod(ssh=NEW))
    assert world.wait(STOPPED)[1] == NEW


def test_image_name_of_the_fakes_is_the_one_asked_for() -> None:
    assert SPEC.image == IMAGE == make_pod().image
