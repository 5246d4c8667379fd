"""Looking at our pod, ending its run and stopping it."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.doors.project_files import ProjectFiles
from podtasks.doors.ssh import Output
from podtasks.flows import end_marks
from podtasks.flows.control import Ending, PodReport, find_run, is_running, read_status, stop, terminate
from podtasks.flows.launched import Launched
from podtasks.flows.stopping import SELF_STOP_S, STOP_WAIT_S
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


NOW = 1_800_000_000.0
LOST = {
    "run_id": "digits-20270115-051400-3f2a1b9",
    "pod": {"id": "pod1"},
    "ended_at": 1_800_000_060.0,
    "exit_code": None,
    "reason": "pod lost",
    "failure": {"kind": "pod_lost", "title": "The pod went away."},
}


def ending(world: World) -> Ending:
    return Ending(ProjectFiles(world.folder), NOW)


def stop_ours(world: World, *, now: bool = False) -> Pod | None:
    return stop(world.cloud(), "demo", world.report, world.clock, now=now, grace_s=30, ending=ending(world))


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
        files=ProjectFiles(world.folder),
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


def test_stop_now_marks_the_run_as_ended_by_the_user_and_waits_for_nothing(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    pod.on("end_run.py", NOT_ENDED)
    assert stop_ours(world, now=True) == make_pod()
    assert pod.asked == [("end_run.py", {"reason": "user", "timeout_s": 0})]
    assert world.api.calls == ["list_pods", "stop_pod pod1", "find_pod pod1"]
    assert world.report.steps[0] == "run digits-1 is marked as ended by you"
    assert world.clock.sleeps == []


def test_stop_now_of_a_pod_without_a_run_has_nothing_to_mark(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    pod.on("end_run.py", NO_RUN)
    assert stop_ours(world, now=True) == make_pod()
    assert len(world.report.steps) == 1 and world.report.notes == []


def test_stop_now_of_a_pod_that_does_not_answer_says_who_knows_of_it(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    pod.connects = [BROKEN]
    assert stop_ours(world, now=True) == make_pod()
    assert world.api.orders() == ["stop_pod pod1"]
    (note,) = world.report.notes
    assert "could not be marked as ended by you (The SSH link to the pod broke: reset by peer)" in note
    assert "one elsewhere may start it again" in note
    assert end_marks.was_ended_here(ProjectFiles(world.folder), LOST)


def test_run_whose_record_does_not_take_the_mark_is_not_called_marked(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    pod.on("end_run.py", {**NOT_ENDED, "noted": False})
    assert stop_ours(world, now=True) == make_pod()
    assert [step for step in world.report.steps if "marked" in step] == []
    assert "its record could not be written in time" in world.report.notes[0]


def test_marking_delays_the_stop_for_seconds_only(
    world: World, pod: FakePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(end_marks, "MARK_TIMEOUT_S", 0.05)
    released = threading.Event()
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", STOPPED).on("stop_pod pod1", None)
    pod.always("end_run.py", lambda _: released.wait() and NOT_ENDED)
    assert stop_ours(world, now=True) == make_pod()
    released.set()
    assert "no answer within" in world.report.notes[0]


def test_pod_that_goes_on_running_is_an_error_that_says_what_it_costs(world: World, pod: FakePod) -> None:
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", make_pod()).on("stop_pod pod1", None)
    pod.on("end_run.py", NO_RUN)
    with pytest.raises(PodTimeoutError, match="still reads as running") as caught:
        stop_ours(world, now=True)
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
    terminate(world.cloud(), STOPPED, world.report, ending(world))
    assert world.report.steps == ["pod pod1 is deleted; nothing of it is billed any more"]


def test_run_on_a_terminated_pod_is_marked_as_ended_by_the_user_first(world: World, pod: FakePod) -> None:
    world.api.on("terminate_pod pod1", None)
    pod.on("end_run.py", NOT_ENDED)
    terminate(world.cloud(), make_pod(), world.report, ending(world))
    assert pod.questions("end_run.py") == [{"reason": "user", "timeout_s": 0}]
    assert [step.split()[0] for step in world.report.steps] == ["run", "pod"]


def test_stop_without_a_running_pod_blames_no_earlier_loss_on_the_user(world: World) -> None:
    world.api.on("list_pods", [STOPPED])
    assert stop_ours(world) is None
    files = ProjectFiles(world.folder)
    assert end_marks.was_called_off(files, "RunPod", LOST) and end_marks.tell_end(files, LOST) is LOST
    assert not end_marks.was_called_off(files, "local cloud", LOST), "its runs are others"


# What this machine knows of it


@pytest.mark.parametrize(
    ("record", "is_ours"),
    [
        (LOST, True),
        ({**LOST, "run_id": "odd", "launched_at": NOW - 1}, True),
        ({**LOST, "run_id": "odd", "launched_at": NOW + 1}, False),
        ({**LOST, "run_id": "digits-20270116-051400-3f2a1b9"}, False),
        ({**LOST, "pod": {"id": "pod2"}}, False),
        ({**LOST, "pod": None}, False),
        ({"run_id": "odd", "pod": {"id": "pod1"}}, False),
    ],
)
def test_run_was_ended_here_when_its_pod_was_after_its_launch(
    world: World, record: dict[str, object], is_ours: bool
) -> None:
    files = ProjectFiles(world.folder)
    assert not end_marks.was_ended_here(files, record)
    end_marks.note_end(files, world.cloud(), make_pod(), NOW, world.report)
    assert end_marks.was_ended_here(files, record) is is_ours


def test_run_whose_pod_was_deleted_from_here_is_told_as_that_and_not_as_lost(world: World) -> None:
    files = ProjectFiles(world.folder)
    assert end_marks.tell_end(files, LOST) is LOST
    end_marks.note_end(files, world.cloud(), make_pod(), NOW, world.report)
    told = end_marks.tell_end(files, LOST)
    assert (told["reason"], told["failure"]) == ("user", None)
    assert end_marks.tell_end(files, {**LOST, "ended_at": None, "reason": None})["reason"] == "user"
    asked = {**LOST, "pod": {"id": "pod2"}, "ended_at": None, "reason": None, "ending": "max_hours"}
    assert end_marks.tell_end(files, asked)["reason"] == "max_hours", "by whomever"
    finished = {**LOST, "reason": "finished", "exit_code": 0}
    assert end_marks.tell_end(files, finished) is finished


@pytest.mark.parametrize("text", ["", "[1]", '{"pod1": "x"}'])
def test_notes_that_cannot_be_read_are_none_and_are_replaced(world: World, text: str) -> None:
    files = ProjectFiles(world.folder)
    files.ensure_state_folder()
    (files.state_folder / "ended-pods.json").write_text(text)
    assert not end_marks.was_ended_here(files, LOST)
    end_marks.note_end(files, world.cloud(), make_pod(), NOW, world.report)
    assert end_marks.was_ended_here(files, LOST)


def test_notes_of_long_ago_are_let_go(world: World) -> None:
    files = ProjectFiles(world.folder)
    for number in range(end_marks.MOST_NOTES + 1):
        end_marks.note_end(files, world.cloud(), make_pod(f"pod{number}"), NOW + number, world.report)
    assert not end_marks.was_ended_here(files, {**LOST, "pod": {"id": "pod0"}})
    assert end_marks.was_ended_here(files, {**LOST, "pod": {"id": "pod2"}})


def test_disk_that_takes_no_note_keeps_no_pod_running(world: World) -> None:
    files = ProjectFiles(world.folder / "missing" / "folder")
    (world.folder / "missing").write_text("a file")
    end_marks.note_end(files, world.cloud(), make_pod(), NOW, world.report)
    assert "is not noted here" in world.report.notes[0]


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
