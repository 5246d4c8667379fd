"""Looking at our pod, ending its run and stopping it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.doors.ssh import Output
from podtasks.flows.control import SELF_STOP_S, PodReport, find_run, is_running, read_status, stop, terminate
from podtasks.flows.launched import Launched
from podtasks.flows.stopping import STOP_WAIT_S
from podtasks.pure.errors import ApiUnreachableError, PodTimeoutError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.run import Run
from podtasks.tasks import pod as pod_tasks
from tests.unit.fake_pod import BROKEN, OTHER_MACHINE, FakePod, refusal
from tests.unit.fakes import STOPPED, STRANGER, World, make_pod

ENDED = {"ok": True, "run_id": "digits-1", "ended": True}
NOT_ENDED = {"ok": True, "run_id": "digits-1", "ended": False}
NO_RUN = refusal("No run holds the pod.", detail="There is nothing to end.", ok=False, run_id=None, ended=False)
RECORD = {
    "run_id": "digits-1",
    "run_dir": "/workspace/runs/digits-1",
    "log": "/workspace/logs/current.log",
    "log_start": 170,
    "when_done": "stop",
    "output_dir": "/workspace/demo/out",
}


def stop_ours(world: World, *, now: bool = False) -> Pod | None:
    return stop(world.cloud(), "demo", world.report, world.clock, now=now, grace_s=30)


# Stopping


def test_pod_that_stops_itself_after_its_run_ended_is_not_stopped_again(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [STRANGER, make_pod()]).on("find_pod pod1", make_pod(), make_pod(), STOPPED)
    pod.on("end_run.py", ENDED)
    assert stop_ours(world) == make_pod()
    assert world.api.orders() == []
    assert pod.questions("end_run.py") == [{"reason": "user", "timeout_s": 60.0}]
    assert world.report.steps == [
        "run digits-1 ended; its checkpoints are kept",
        "pod pod1 has stopped itself: no GPU is billed any more",
    ]


def test_pod_that_deletes_itself_after_its_run_ended_is_not_ordered_to(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", make_pod(), None)
    pod.on("end_run.py", ENDED)
    assert stop_ours(world) == make_pod()
    assert world.api.orders() == []


def test_who_interrupts_a_stop_hears_that_the_pod_may_still_be_billed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt() -> list[Pod]:
        raise KeyboardInterrupt

    settings = SimpleNamespace(project="demo", stop_grace_s=30)
    project = SimpleNamespace(
        open_existing_cloud=world.cloud, settings=settings, console=world.report, clock=world.clock
    )
    monkeypatch.setattr(pod_tasks, "open_project", lambda *_: project)
    helper = make_pod("cpu1", env={"PODTASKS_HELPER": "demo"})
    world.api.on("list_pods", interrupt, [helper]).on("terminate_pod cpu1", None)
    with pytest.raises(Exit, match="may still run and be billed"):
        pod_tasks.stop(Context())
    assert world.api.orders() == ["terminate_pod cpu1"]


def test_pod_that_is_kept_after_its_run_ended_is_stopped(world: World, pod: FakePod) -> None:
    began = world.clock.now()

    def read() -> Pod:
        return STOPPED if "stop_pod pod1" in world.api.calls else make_pod()

    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", read).on("stop_pod pod1", None)
    pod.on("end_run.py", ENDED)
    assert stop_ours(world) == make_pod()
    assert world.api.orders() == ["stop_pod pod1"]
    assert world.clock.now() - began == pytest.approx(SELF_STOP_S)


def test_run_that_did_not_end_is_stopped_with_its_pod(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    pod.on("end_run.py", NOT_ENDED)
    assert stop_ours(world) == make_pod()
    assert world.api.calls == ["list_pods", "stop_pod pod1", "find_pod pod1"], "it is stopped without waiting"
    assert "run digits-1 did not end in time; its checkpoints are kept" in world.report.steps


def test_pod_without_a_run_is_stopped_and_nothing_is_made_of_it(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    pod.on("end_run.py", NO_RUN)
    assert stop_ours(world) == make_pod()
    assert world.api.orders() == ["stop_pod pod1"]
    assert world.report.notes == []


@pytest.mark.parametrize("trouble", [BROKEN, OTHER_MACHINE])
def test_pod_that_cannot_be_asked_is_stopped_all_the_same(world: World, pod: FakePod, trouble: Exception) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    pod.connects = [trouble]
    assert stop_ours(world) == make_pod()
    assert world.api.orders() == ["stop_pod pod1"]
    assert world.report.notes == [f"the run could not be asked to end: {str(trouble).splitlines()[0]}"]


def test_pod_that_fails_when_asked_is_stopped_all_the_same(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    pod.on("end_run.py", Output(1, b"", b"Traceback: no space left\n"))
    assert stop_ours(world) == make_pod()
    assert world.api.orders() == ["stop_pod pod1"]
    assert "no space left" in world.report.notes[0]


def test_pod_whose_port_is_not_published_yet_is_stopped_all_the_same(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod(ssh=None)]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    assert stop_ours(world) == make_pod(ssh=None)
    assert pod.reached == []
    assert world.report.notes == ["the run could not be asked to end: pod pod1 publishes no SSH port yet."]


def test_stop_now_asks_nobody(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    assert stop_ours(world, now=True) == make_pod()
    assert pod.reached == []
    assert world.api.calls == ["list_pods", "stop_pod pod1", "find_pod pod1"]


def test_pod_that_goes_on_running_is_an_error_that_says_what_it_costs(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", make_pod()).on("stop_pod pod1", None)
    with pytest.raises(PodTimeoutError, match="still reads as running") as caught:
        stop_ours(world, now=True)
    assert pod.reached == []
    assert "$0.69/h" in caught.value.means
    assert sum(world.clock.sleeps) == pytest.approx(STOP_WAIT_S)


def test_pod_that_cannot_be_stopped_is_not_called_stopped(world: World, pod: FakePod) -> None:
    refused = ApiUnreachableError("RunPod gave no usable answer.", next_step="x")
    world.api.on("list_pods", [make_pod()]).on("stop_pod pod1", refused)
    pod.on("end_run.py", NOT_ENDED)
    with pytest.raises(ApiUnreachableError):
        stop_ours(world)
    assert not [step for step in world.report.steps if "stopped" in step]


@pytest.mark.parametrize("there", [[], [STOPPED], [STRANGER]])
def test_nothing_is_stopped_where_no_pod_of_ours_runs(world: World, pod: FakePod, there: list[Pod]) -> None:
    world.api.on("list_pods", there)
    assert stop_ours(world) is None
    assert pod.reached == []
    assert world.api.calls == ["list_pods"]


def test_terminated_pod_is_told(world: World) -> None:
    world.api.on("terminate_pod pod1", None)
    terminate(world.cloud(), STOPPED, world.report)
    assert world.report.steps == ["pod pod1 is deleted; nothing of it is billed any more"]


# Looking


def test_status_is_one_api_call_and_one_command(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()])
    pod.on("status.py", {"run": RECORD, "last_lines": ["step 1"]})
    report = read_status(world.cloud(), "demo", 5)
    assert report == PodReport(make_pod(), {"run": RECORD, "last_lines": ["step 1"]})
    assert report.runs
    assert world.api.calls == ["list_pods"]
    assert pod.asked == [("status.py", {"lines": 5})]
    assert pod.open_shells() == 0
    run = Run("digits-1", "/workspace/runs/digits-1", "/workspace/logs/current.log", 170, "stop", "/workspace/demo/out")
    assert find_run(report) == Launched(make_pod(), run)


@pytest.mark.parametrize("trouble", [BROKEN, OTHER_MACHINE])
def test_pod_that_does_not_answer_is_shown_as_running_and_silent(
    world: World, pod: FakePod, trouble: Exception
) -> None:
    world.api.on("list_pods", [make_pod()])
    pod.connects = [trouble]
    report = read_status(world.cloud(), "demo", 5)
    assert (report.runs, report.answer) == (True, {})
    assert report.silence == str(trouble).splitlines()[0]
    assert find_run(report) is None


def test_pod_that_still_boots_is_shown_as_running_and_silent(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod(ssh=None)])
    report = read_status(world.cloud(), "demo", 5)
    assert report == PodReport(make_pod(ssh=None), {}, "pod pod1 publishes no SSH port yet.")
    assert pod.reached == []


def test_pod_without_a_run_has_none_to_follow(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()])
    pod.on("status.py", {"run": None})
    assert find_run(read_status(world.cloud(), "demo", 0)) is None


@pytest.mark.parametrize("ours", [None, STOPPED, make_pod(status=PodStatus.UNKNOWN)])
def test_pod_that_does_not_run_is_not_asked(world: World, pod: FakePod, ours: Pod | None) -> None:
    world.api.on("list_pods", [ours] if ours else [])
    report = read_status(world.cloud(), "demo", 5)
    assert report == PodReport(ours, {})
    assert not report.runs
    assert pod.reached == []


def test_status_takes_one_api_call_and_one_command_and_names_helper_pods(world: World, pod: FakePod) -> None:
    helper = make_pod("cpu1", env={"PODTASKS_PROJECT": "", "PODTASKS_HELPER": "demo"})
    foreign = make_pod("cpu2", env={"PODTASKS_PROJECT": "", "PODTASKS_HELPER": "other"})
    ended = make_pod("cpu3", env={"PODTASKS_PROJECT": "", "PODTASKS_HELPER": "demo"}, status=PodStatus.EXITED)
    world.api.on("list_pods", [helper, foreign, ended, make_pod()])
    pod.on("status.py", {"run": RECORD})
    report = read_status(world.cloud(), "demo", 3)
    assert (report.pod, report.helpers, report.silence) == (make_pod(), (helper,), "")
    assert world.api.calls == ["list_pods"]
    assert (pod.commands, pod.uploads, len(pod.shells)) == (1, 0, 1)


def test_status_of_a_pod_without_these_programs_uploads_them(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()])
    pod.installed = False
    pod.on("status.py", {"run": None})
    assert read_status(world.cloud(), "demo", 0).answer == {"run": None}
    assert pod.uploads == 1


def test_only_the_very_run_that_has_not_ended_is_running() -> None:
    report = PodReport(make_pod(), {"run": {**RECORD, "ended_at": None}})
    assert is_running(report, "digits-1")
    assert not is_running(report, "digits-2")
    assert not is_running(PodReport(make_pod(), {"run": {**RECORD, "ended_at": 1.0}}), "digits-1")
    assert not is_running(PodReport(None, {}), "digits-1")
