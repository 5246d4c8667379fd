"""From a plan to a training that runs: which pod, tried how often, stopped when, joined to what."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.doors.ssh import Output
from podtasks.flows.launch import PodHeldError, launcher_name
from podtasks.flows.launched import Launched
from podtasks.flows.train import LAUNCH_TRIES, NotNeededError, start_training, watch
from podtasks.flows.watch_notes import WatchNotes
from podtasks.pure.errors import (
    ApiUnreachableError,
    CodeError,
    PodFailedError,
    PodtasksError,
    PodTimeoutError,
    RemoteCommandError,
    RemoteRefusedError,
    SshRefusedError,
    TransportError,
    UsageError,
)
from podtasks.pure.plan import Plan
from podtasks.pure.run import Checkpoint, Launch, build_run_request
from tests.unit.fake_pod import ALIVE, BROKEN, FakePod, FakeProcess, ended, launched, leased, refusal, refused_lease
from tests.unit.fakes import CREATE_4090, STOPPED, World, make_pod
from tests.unit.test_plan import PLAN
from tests.unit.test_run import COMMIT, LAUNCH

SYNCED = {"commit": COMMIT, "changed": False}
NO_CHECKPOINT: dict[str, object] = {"found": None}
HOLDER = {"kind": "run", "who": "ann", "run_id": "digits-0", "since": 1}
RECORD = {
    **build_run_request(LAUNCH, make_pod(), Checkpoint("/workspace/demo/out/checkpoint-200", 200), "t0ken"),
    "run_id": "digits-0",
    "run_dir": "/workspace/runs/digits-0",
    "log": "/workspace/logs/current.log",
    "log_start": 170,
}
STOPPING = {"error": "The pod is being stopped.", "stopping": "run digits-0 ended"}


@pytest.fixture
def files(tmp_path: Path) -> ProjectFiles:
    root = tmp_path / "project"
    root.mkdir()
    return ProjectFiles(root)


def start(world: World, files: ProjectFiles, plan: Plan = PLAN) -> Launched:
    return start_training(plan, world.cloud(), files.root, files, world.report, world.clock)


def running(world: World) -> World:
    """Let the account have our pod, which runs."""
    world.api.on("list_pods", [make_pod()]).on("find_pod pod1", make_pod())
    return world


def resumable(world: World) -> World:
    """Let the account have our pod, which is stopped and can be resumed."""
    world.api.on("list_pods", [STOPPED]).on("resume_pod pod1 1", None).on("find_pod pod1", make_pod())
    return world


def takes_the_launch(pod: FakePod) -> FakePod:
    pod.on("prepare.py", leased(clone_commits=[COMMIT])).on("sync_code.py", SYNCED)
    return pod.on("find_checkpoint.py", NO_CHECKPOINT).on("launch.py", launched())


def test_training_is_launched_on_the_pod_that_runs(world: World, pod: FakePod, files: ProjectFiles) -> None:
    running(world)
    takes_the_launch(pod)
    begun = start(world, files)
    assert begun.pod == make_pod()
    assert begun.run.run_id == pod.questions("launch.py")[0]["run_id"]
    assert begun.run.run_id.startswith(f"{LAUNCH.run_id}-"), "the plan's own id may be another launch's too"
    assert pod.open_shells() == 1, "a run that ends at once waits for its log to be followed"
    newest = WatchNotes(files, world.cloud().name).read_record()
    assert newest is not None and newest["run_id"] == begun.run.run_id, "an older run is not watched for it"
    assert world.api.orders() == []
    begun.close()
    assert pod.open_shells() == 0


def test_training_is_launched_on_a_rented_pod(world: World, pod: FakePod, files: ProjectFiles) -> None:
    new = make_pod("new1")
    world.api.on("list_pods", [], [new]).on(CREATE_4090, "new1").on("find_pod new1", new)
    takes_the_launch(pod)
    assert start(world, files).pod == new
    assert pod.questions("launch.py")[0]["pod"]["id"] == "new1"
    assert world.remembered() == "POD_ID=new1\n"


# Trying again


def test_pod_that_is_being_stopped_is_waited_for_and_the_launch_tried_anew(
    world: World, pod: FakePod, files: ProjectFiles
) -> None:
    world.api.on("list_pods", [make_pod()], [STOPPED]).on("resume_pod pod1 1", None)
    world.api.on("find_pod pod1", make_pod(), make_pod(), STOPPED, make_pod())
    pod.on("prepare.py", refused_lease(None, **STOPPING))
    takes_the_launch(pod)
    start(world, files)
    assert world.api.orders() == ["resume_pod pod1 1"]
    assert pod.open_shells() == 1
    [note] = world.report.notes
    assert note.startswith("pod pod1 went away; trying again (The pod takes no launch: it is being stopped")


def test_link_that_breaks_because_the_pod_went_away_is_tried_anew_with_a_new_run_id(
    world: World, pod: FakePod, files: ProjectFiles
) -> None:
    world.api.on("list_pods", [make_pod()], [STOPPED]).on("resume_pod pod1 1", None)
    world.api.on("find_pod pod1", make_pod(), STOPPED, make_pod())
    pod.on("prepare.py", leased(clone_commits=[COMMIT])).on("sync_code.py", SYNCED)
    pod.on("find_checkpoint.py", NO_CHECKPOINT).on("launch.py", BROKEN)
    takes_the_launch(pod)
    start(world, files)
    first, second = [question["run_id"] for question in pod.questions("launch.py")]
    assert first != second, "the first try may have left a record"


def test_link_that_breaks_while_the_pod_runs_is_not_tried_anew_for_a_training_may_have_begun(
    world: World, pod: FakePod, files: ProjectFiles
) -> None:
    running(world)
    pod.on("prepare.py", leased(clone_commits=[COMMIT])).on("sync_code.py", BROKEN)
    with pytest.raises(TransportError, match="reset by peer"):
        start(world, files)
    assert pod.programs() == ["prepare.py", "sync_code.py"]
    assert pod.open_shells() == 0
    assert world.api.orders() == []


def test_pod_that_goes_away_again_and_again_is_given_up(world: World, pod: FakePod, files: ProjectFiles) -> None:
    world.api.on("list_pods", [STOPPED]).on("resume_pod pod1 1", *[None] * LAUNCH_TRIES)
    readings = [make_pod(), make_pod(), STOPPED]
    world.api.on("find_pod pod1", *readings * LAUNCH_TRIES)
    pod.always("prepare.py", lambda _: refused_lease(None, **STOPPING))
    with pytest.raises(PodFailedError):
        start(world, files)
    assert pod.programs() == ["prepare.py"] * LAUNCH_TRIES
    assert world.api.orders() == ["resume_pod pod1 1"] * LAUNCH_TRIES
    assert len(world.report.notes) == LAUNCH_TRIES - 1


# Whose pod it is to stop

REFUSALS: list[tuple[str, Any, type[PodtasksError]]] = [
    ("prepare.py", lambda _: refused_lease(None, error="The image lacks programs."), RemoteRefusedError),
    ("sync_code.py", refusal("The branch is gone."), CodeError),
    ("find_checkpoint.py", refusal("There is no such checkpoint."), UsageError),
    ("launch.py", refusal("The tmux session ended at once."), RemoteRefusedError),
    ("launch.py", Output(1, b"", b"Traceback"), RemoteCommandError),
]


def refuses(pod: FakePod, program: str, answer: object) -> None:
    """Declare a pod that gets as far as this program."""
    steps = {
        "prepare.py": leased(clone_commits=[COMMIT]),
        "sync_code.py": SYNCED,
        "find_checkpoint.py": NO_CHECKPOINT,
        "launch.py": launched(),
    }
    for name, step in steps.items():
        pod.on(name, answer if name == program else step)
        if name == program:
            return


@pytest.mark.parametrize(("program", "answer", "expected"), REFUSALS)
def test_pod_that_we_started_is_stopped_when_the_launch_is_refused(
    world: World, pod: FakePod, files: ProjectFiles, program: str, answer: object, expected: type[PodtasksError]
) -> None:
    resumable(world).api.on("stop_pod pod1", None)
    refuses(pod, program, answer)
    pod.on("status.py", {"guard": {"lease": {"kind": "prepare", "who": launcher_name(files.root)}}})
    with pytest.raises(expected) as caught:
        start(world, files)
    assert world.api.orders() == ["resume_pod pod1 1", "stop_pod pod1"]
    assert caught.value.means == "No training was started. The pod was stopped, so no GPU is billed."
    assert pod.open_shells() == 0


@pytest.mark.parametrize("answer", [BROKEN, Output(1, b"", b"Traceback"), {"guard": {"lease": None}}, {"guard": None}])
def test_pod_that_we_started_is_stopped_where_nobody_is_known_to_work_on_it(
    world: World, pod: FakePod, files: ProjectFiles, answer: object
) -> None:
    resumable(world).api.on("stop_pod pod1", None)
    refuses(pod, "sync_code.py", refusal("The branch is gone."))
    pod.on("status.py", answer)
    with pytest.raises(CodeError, match="The branch is gone"):
        start(world, files)
    assert world.api.orders() == ["resume_pod pod1 1", "stop_pod pod1"]


def test_pod_that_we_started_and_another_launch_has_taken_is_left_to_it(
    world: World, pod: FakePod, files: ProjectFiles
) -> None:
    resumable(world)
    refuses(pod, "launch.py", refusal("This launch does not hold the pod."))
    pod.on("status.py", {"guard": {"lease": {"kind": "run", "who": "inv train by bob on box"}}})
    with pytest.raises(RemoteRefusedError) as caught:
        start(world, files)
    assert world.api.orders() == ["resume_pod pod1 1"]
    assert caught.value.means.endswith("The pod was left running: inv train by bob on box works on it.")
    assert pod.open_shells() == 0


def test_pod_on_which_a_run_lives_is_not_stopped_though_this_machine_launched_it(
    world: World, pod: FakePod, files: ProjectFiles
) -> None:
    """The API called a pod stopped that was not, or another watcher of this checkout was faster."""
    resumable(world)
    pod.on("status.py", {"guard": {"lease": {"kind": "run", "who": launcher_name(files.root), "run_id": "digits-0"}}})

    def needless(*_: object) -> Launch:
        raise NotNeededError({"run_id": "digits-0"}, is_alive=True)

    with pytest.raises(NotNeededError):
        start_training(PLAN, world.cloud(), files.root, files, world.report, world.clock, settle=needless)
    assert world.api.orders() == ["resume_pod pod1 1"]
    assert pod.open_shells() == 0


@pytest.mark.parametrize(("program", "answer", "expected"), REFUSALS)
def test_pod_that_ran_before_is_never_stopped(
    world: World, pod: FakePod, files: ProjectFiles, program: str, answer: object, expected: type[PodtasksError]
) -> None:
    running(world)
    refuses(pod, program, answer)
    with pytest.raises(expected):
        start(world, files)
    assert world.api.orders() == []
    assert pod.open_shells() == 0


def test_pod_that_we_started_and_that_cannot_be_stopped_is_said_to_be_billed(
    world: World, pod: FakePod, files: ProjectFiles
) -> None:
    resumable(world).api.on("stop_pod pod1", ApiUnreachableError("RunPod gave no usable answer.", next_step="x"))
    refuses(pod, "sync_code.py", refusal("The branch is gone."))
    pod.on("status.py", {"guard": {"lease": None}})
    with pytest.raises(CodeError, match="The branch is gone") as caught:
        start(world, files)
    assert "could NOT be stopped" in caught.value.means


@pytest.mark.parametrize("ran_before", [True, False])
def test_pod_that_never_greets_is_stopped_only_if_we_started_it(
    world: World, pod: FakePod, files: ProjectFiles, ran_before: bool
) -> None:
    pod.greeting = set()
    (running if ran_before else resumable)(world)
    if not ran_before:
        world.api.on("stop_pod pod1", None)
    with pytest.raises(PodTimeoutError):
        start(world, files)
    assert ("stop_pod pod1" in world.api.orders()) is not ran_before


def test_interrupt_lets_go_of_the_pod_which_then_stops_itself(world: World, pod: FakePod, files: ProjectFiles) -> None:
    resumable(world)
    pod.on("prepare.py", leased(clone_commits=[COMMIT])).on("sync_code.py", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        start(world, files)
    assert pod.open_shells() == 0
    assert world.api.orders() == ["resume_pod pod1 1"]


# Joining a training that runs


def test_very_same_training_is_followed(world: World, pod: FakePod, files: ProjectFiles) -> None:
    running(world)
    pod.on("prepare.py", refused_lease(HOLDER)).on("status.py", {"run": RECORD})
    begun = start(world, files)
    assert (begun.run.run_id, begun.run.log_start) == ("digits-0", 170)
    assert pod.programs() == ["prepare.py", "status.py"]
    assert world.report.notes == [
        "Run digits-0 is training on this pod. It is this training; following it. inv stop ends it."
    ]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": "configs/other.yaml", "words": ("t.py", "--config", "configs/other.yaml")}, "configuration, arg"),
        ({"commit": "0" * 40}, "commit"),
        ({"branch": "other"}, "branch"),
        ({"words": (*LAUNCH.words, "--debug")}, "arguments"),
        ({"force_restart": True}, "--force-restart"),
        ({"resume_from": "checkpoint-100"}, "--resume-from"),
    ],
)
def test_another_training_is_not_followed_and_the_differences_are_named(
    world: World, pod: FakePod, files: ProjectFiles, changes: dict[str, Any], named: str
) -> None:
    running(world)
    pod.on("prepare.py", refused_lease(HOLDER)).on("status.py", {"run": RECORD})
    with pytest.raises(PodHeldError) as caught:
        start(world, files, replace(PLAN, launch=replace(LAUNCH, **changes)))
    expected = f"Run digits-0 is training on this pod. It is another training than the one asked for: {named}"
    assert caught.value.what.startswith(expected)
    assert str(caught.value).startswith(expected)
    assert caught.value.means == "It was not touched."
    assert world.api.orders() == []
    assert pod.open_shells() == 0


@pytest.mark.parametrize("record", [None, {**RECORD, "run_id": "digits-00"}])
def test_run_of_which_nothing_is_known_is_not_followed(
    world: World, pod: FakePod, files: ProjectFiles, record: dict[str, Any] | None
) -> None:
    running(world)
    pod.on("prepare.py", refused_lease(HOLDER)).on("status.py", {"run": record})
    with pytest.raises(PodHeldError) as caught:
        start(world, files)
    assert caught.value.what == "Run digits-0 is training on this pod."


def test_another_launch_is_no_training_to_compare_with(world: World, pod: FakePod, files: ProjectFiles) -> None:
    running(world)
    other = {"kind": "prepare", "who": "inv train by bob on box", "run_id": None, "since": 1}
    pod.always("prepare.py", lambda _: refused_lease(other))
    with pytest.raises(PodHeldError) as caught:
        start(world, files)
    assert caught.value.what == "Another launch is under way on this pod: inv train by bob on box."


# This machine


def test_second_launch_from_this_machine_waits_for_the_first(world: World, pod: FakePod, files: ProjectFiles) -> None:
    running(world)
    takes_the_launch(pod)
    hold = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
        "print(flush=True); sys.stdin.readline()"
    )
    lock = files.ensure_state_folder() / "launch.lock"
    words = [sys.executable, "-c", hold, str(lock)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdin and first.stdout
        first.stdout.readline()
        note, told = world.report.note, []

        def let_go(text: str) -> None:
            assert world.api.calls == [], "nothing is done before"
            assert first.stdin
            note(text)
            told.append(text)
            first.stdin.close()

        world.report.note = let_go  # type: ignore[method-assign]
        start(world, files)
    assert told == ["another inv train is starting here; waiting for it"]


def test_disk_of_this_machine_that_is_full_costs_neither_the_run_nor_its_exit_code(
    world: World, pod: FakePod, files: ProjectFiles
) -> None:
    running(world)
    takes_the_launch(pod).on("follow_log.py", FakeProcess(ALIVE, (b"step 1\n", b""), ended(3, 177)))
    files.ensure_state_folder()
    (files.state_folder / "runs").write_text("no folder can be made here")
    begun = start(world, files)
    shown: list[bytes] = []
    outcome = watch(begun, world.cloud(), files, shown.append, world.report, world.clock)
    assert (outcome.exit_code, shown) == (3, [b"step 1\n"])
    assert [note.split(":")[0] for note in world.report.notes] == [
        "no copy of the log is kept here",
        "no copy of the log is kept here",
        "the run's end is not noted here",
    ]


def test_run_that_nobody_follows_is_remembered_here(world: World, pod: FakePod, files: ProjectFiles) -> None:
    running(world)
    takes_the_launch(pod)
    run_id = start(world, files).run.run_id
    record = json.loads((files.run_folder(run_id) / "run.json").read_text())
    assert (record["run_id"], record["exit_code"]) == (run_id, None)


def test_key_that_the_pod_refuses_is_tried_once_and_the_pod_stopped(
    world: World, pod: FakePod, files: ProjectFiles
) -> None:
    resumable(world).api.on("stop_pod pod1", None)
    pod.connects = [SshRefusedError("The pod does not accept your SSH key.", next_step="mend it")]
    with pytest.raises(SshRefusedError) as caught:
        start(world, files)
    assert world.api.orders() == ["resume_pod pod1 1", "stop_pod pod1"]
    assert caught.value.means == "No training was started. The pod was stopped, so no GPU is billed."
