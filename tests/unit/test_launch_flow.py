"""From a pod that answers SSH to a training that runs, against a pod that runs nothing undeclared."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from podtasks.doors import ssh
from podtasks.doors.ssh import Output
from podtasks.flows.connect import build_login
from podtasks.flows.launch import LEASE_WAIT_S, PodHeldError, launch_training
from podtasks.pure.errors import (
    CloneSetAsideError,
    CodeError,
    PodFailedError,
    PodtasksError,
    RemoteCommandError,
    RemoteRefusedError,
    TransportError,
    UsageError,
)
from podtasks.pure.pod import SshEndpoint
from podtasks.pure.run import Launch, Run
from tests.unit.fake_pod import BROKEN, FakePod, FakeProcess, launched, leased, refusal, refused_lease
from tests.unit.fakes import World, make_pod
from tests.unit.test_run import COMMIT, LAUNCH

RUN_HOLDER = {"kind": "run", "who": "ann", "run_id": "digits-0", "since": 1}
LAUNCH_HOLDER = {"kind": "prepare", "who": "inv train by bob on box", "run_id": None, "since": 1}
SYNCED = {"commit": COMMIT, "cloned": False, "changed": True, "patch": None, "kept_ref": None, "overwritten": []}
NOTHING_FOUND: dict[str, object] = {"found": None, "skipped": []}


def launch(world: World, pod: FakePod, what: Launch = LAUNCH, root: Path = Path("/nowhere")) -> Run:
    shell = pod.make_shell(SshEndpoint("203.0.113.7", 40022), build_login(world.cloud(), make_pod()))
    shell.connect()
    return launch_training(cast(ssh.PodShell, shell), make_pod(), what, root, world.report, world.clock)


def ready(pod: FakePod, **lease: object) -> FakePod:
    """Declare a pod that has the commit and takes the launch."""
    return pod.on("prepare.py", leased(clone_commits=[COMMIT], **lease))


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """The packs that were made of local commits: what of, and for a receiver that has what."""
    made: list[tuple[str, list[str]]] = []

    @contextlib.contextmanager
    def open_pack(root: Path, commit: str, have: Iterable[str]) -> Iterator[Any]:
        del root
        made.append((commit, list(have)))
        yield SimpleNamespace(stdout=io.BytesIO(b"PACK\n\xff whole"))

    monkeypatch.setattr("podtasks.doors.local_git.open_pack", open_pack)
    monkeypatch.setattr("podtasks.doors.local_git.shallow_commits", lambda _: ["5" * 40])
    return made


def test_launch_step_by_step(world: World, pod: FakePod) -> None:
    ready(pod).on("sync_code.py", SYNCED).on("find_checkpoint.py", NOTHING_FOUND).on("launch.py", launched())
    run = launch(world, pod)
    assert run == Run(
        LAUNCH.run_id,
        f"/workspace/runs/{LAUNCH.run_id}",
        "/workspace/logs/current.log",
        170,
        "stop",
        "/workspace/demo/out",
    )
    assert pod.programs() == ["prepare.py", "sync_code.py", "find_checkpoint.py", "launch.py"]
    assert pod.questions("launch.py")[0]["token"] == "t0ken"
    assert pod.questions("launch.py")[0]["checkpoint"] is None
    assert not pod.processes[0].closed, "the lease is held by the connection, which stays open"
    assert world.report.notes == []
    assert world.report.steps == [
        "code synced: main at 3f2a1b9c0f in /workspace/demo",
        "checkpoint: none complete under /workspace/demo/out; starting fresh",
        f"run {LAUNCH.run_id} started in tmux session train",
    ]


def test_programs_are_uploaded_once_to_a_pod_that_has_not_this_version(world: World, pod: FakePod) -> None:
    pod.installed = False
    ready(pod).on("sync_code.py", SYNCED).on("find_checkpoint.py", NOTHING_FOUND).on("launch.py", launched())
    launch(world, pod)
    assert pod.uploads == 1


# The lease


def test_pod_that_a_run_holds_is_refused_at_once_and_its_holder_told(world: World, pod: FakePod) -> None:
    pod.on("prepare.py", refused_lease(RUN_HOLDER))
    with pytest.raises(PodHeldError, match="Run digits-0 is training on this pod") as caught:
        launch(world, pod)
    assert caught.value.holder == RUN_HOLDER
    assert world.clock.sleeps == []
    assert pod.programs() == ["prepare.py"]
    assert pod.processes[0].closed


def test_other_launch_that_goes_away_is_waited_for(world: World, pod: FakePod) -> None:
    pod.on("prepare.py", *[refused_lease(LAUNCH_HOLDER) for _ in range(3)])
    ready(pod).on("sync_code.py", SYNCED).on("find_checkpoint.py", NOTHING_FOUND).on("launch.py", launched())
    launch(world, pod)
    assert len(world.clock.sleeps) == 3
    assert [process.closed for process in pod.processes] == [True, True, True, False]


def test_other_launch_that_becomes_a_run_is_told_as_that_run(world: World, pod: FakePod) -> None:
    pod.on("prepare.py", refused_lease(LAUNCH_HOLDER), refused_lease(RUN_HOLDER))
    with pytest.raises(PodHeldError, match="Run digits-0"):
        launch(world, pod)


def test_other_launch_that_stays_is_told(world: World, pod: FakePod) -> None:
    pod.always("prepare.py", lambda _: refused_lease(LAUNCH_HOLDER))
    began = world.clock.now()
    with pytest.raises(PodHeldError, match="Another launch is under way on this pod: inv train by bob on box"):
        launch(world, pod)
    assert LEASE_WAIT_S <= world.clock.now() - began < LEASE_WAIT_S + 5
    assert set(pod.programs()) == {"prepare.py"}


def test_pod_that_lacks_programs_is_refused_with_their_names(world: World, pod: FakePod) -> None:
    pod.on("prepare.py", refused_lease(None, error="The image lacks programs.", detail="tmux rsync"))
    with pytest.raises(RemoteRefusedError, match=r"The image lacks programs: tmux rsync\.") as caught:
        launch(world, pod)
    assert "use an image that has these programs" in caught.value.next_step
    assert pod.programs() == ["prepare.py"]


def test_pod_that_is_being_stopped_is_a_pod_that_failed(world: World, pod: FakePod) -> None:
    pod.on("prepare.py", refused_lease(None, error="The pod is being stopped.", stopping="run digits-0 ended"))
    with pytest.raises(PodFailedError, match="run digits-0 ended"):
        launch(world, pod)


@pytest.mark.parametrize("exit_code", [1, 0])
def test_preparation_that_dies_shows_its_last_words(world: World, pod: FakePod, exit_code: int) -> None:
    pod.on("prepare.py", FakeProcess(output=Output(exit_code, b"", b"SyntaxError: f-string\n")))
    with pytest.raises(RemoteCommandError, match="SyntaxError: f-string"):
        launch(world, pod)


def test_program_installed_on_the_way_is_told(world: World, pod: FakePod) -> None:
    ready(pod, installed=["tmux", "rsync"])
    pod.on("sync_code.py", SYNCED).on("find_checkpoint.py", NOTHING_FOUND).on("launch.py", launched())
    launch(world, pod)
    assert world.report.notes == [f"the image has no {name}; it was installed" for name in ("tmux", "rsync")]


# The code


def test_code_that_the_pod_has_is_not_sent_again(
    world: World, pod: FakePod, packs: list[tuple[str, list[str]]]
) -> None:
    ready(pod).on("sync_code.py", {**SYNCED, "changed": False})
    pod.on("find_checkpoint.py", NOTHING_FOUND).on("launch.py", launched())
    launch(world, pod)
    assert packs == []
    assert pod.more["sync_code.py"] == b""
    question = pod.questions("sync_code.py")[0]
    assert (question["pack"], question["shallow"], question["commit"]) == (False, [], COMMIT)
    assert world.report.steps[0].startswith("code unchanged: main at")


@pytest.mark.parametrize("code", ["local", "snapshot"])
def test_code_that_the_pod_lacks_is_sent_as_a_pack_against_what_it_has(
    world: World, pod: FakePod, packs: list[tuple[str, list[str]]], code: str
) -> None:
    pod.on("prepare.py", leased(clone_commits=["1" * 40, "2" * 40])).on("sync_code.py", {**SYNCED, "cloned": True})
    pod.on("find_checkpoint.py", NOTHING_FOUND).on("launch.py", launched())
    launch(world, pod, replace(LAUNCH, code=code))
    assert packs == [(COMMIT, ["1" * 40, "2" * 40])]
    assert pod.more["sync_code.py"] == b"PACK\n\xff whole"
    question = pod.questions("sync_code.py")[0]
    assert (question["pack"], question["shallow"]) == (True, ["5" * 40])
    assert world.report.steps[0].startswith("code cloned: main at")


def test_code_is_sent_whole_at_once_where_the_clone_was_damaged(
    world: World, pod: FakePod, packs: list[tuple[str, list[str]]]
) -> None:
    damaged = refusal("The pod's clone was damaged.", set_aside="/workspace/runs/saved/x-git")
    pod.on("prepare.py", leased(clone_commits=[COMMIT])).on("sync_code.py", damaged, {**SYNCED, "cloned": True})
    pod.on("find_checkpoint.py", NOTHING_FOUND).on("launch.py", launched())
    launch(world, pod)
    assert packs == [(COMMIT, [])]
    assert world.report.notes == [
        "the pod's clone was damaged; its .git is kept in /workspace/runs/saved/x-git, and the code is sent whole"
    ]


@pytest.mark.usefixtures("packs")
def test_clone_that_is_damaged_again_ends_the_launch(world: World, pod: FakePod) -> None:
    damaged = refusal("The pod's clone was damaged.", set_aside="/workspace/runs/saved/x-git")
    ready(pod).on("sync_code.py", damaged, damaged)
    with pytest.raises(CloneSetAsideError) as caught:
        launch(world, pod)
    assert "run the same command again" in caught.value.next_step


def test_code_from_the_origin_is_never_sent_from_here(
    world: World, pod: FakePod, packs: list[tuple[str, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "git@git.example.org:demo.git"
    monkeypatch.setattr("podtasks.doors.local_git.known_host_lines", lambda of: [f"a line for {of}"])
    pod.on("prepare.py", leased(clone_commits=[])).on("sync_code.py", SYNCED)
    pod.on("find_checkpoint.py", NOTHING_FOUND).on("launch.py", launched())
    launch(world, pod, replace(LAUNCH, code="origin", repository=url))
    assert packs == []
    question = pod.questions("sync_code.py")[0]
    assert (question["code"], question["url"], question["pack"]) == ("origin", url, False)
    assert question["known_hosts"] == [f"a line for {url}"]


def test_what_was_found_in_the_pods_clone_and_put_aside_is_told(world: World, pod: FakePod) -> None:
    kept = {"patch": "/workspace/runs/saved/1.patch", "kept_ref": "refs/kept/1", "overwritten": ["a b", "c"]}
    ready(pod).on("sync_code.py", {**SYNCED, **kept})
    pod.on("find_checkpoint.py", NOTHING_FOUND).on("launch.py", launched())
    launch(world, pod)
    assert world.report.notes == [
        "the pod's clone had edits; they are saved in /workspace/runs/saved/1.patch",
        "the pod's clone had commits of its own; they are kept as refs/kept/1",
        "files in the way were copied aside: a b, c",
    ]


# The checkpoint


def test_newest_complete_checkpoint_is_resumed_and_incomplete_ones_are_named(world: World, pod: FakePod) -> None:
    found = {"path": "/workspace/demo/out/checkpoint-200", "step": 200}
    skipped = [{"path": "/workspace/demo/out/checkpoint-300", "why": "no trainer_state.json"}]
    ready(pod).on("sync_code.py", SYNCED).on("find_checkpoint.py", {"found": found, "skipped": skipped})
    pod.on("launch.py", launched())
    launch(world, pod)
    question = pod.questions("launch.py")[0]
    assert question["checkpoint"] == found
    assert question["command"][-2:] == ["--resume", found["path"]]
    assert world.report.steps[1] == "checkpoint: resuming from /workspace/demo/out/checkpoint-200"
    assert world.report.notes == [
        "incomplete checkpoint skipped: /workspace/demo/out/checkpoint-300: no trainer_state.json"
    ]


def test_forced_restart_looks_for_no_checkpoint(world: World, pod: FakePod) -> None:
    ready(pod).on("sync_code.py", SYNCED).on("launch.py", launched(archived="/workspace/demo/out/archive-1"))
    launch(world, pod, replace(LAUNCH, force_restart=True))
    assert pod.questions("launch.py")[0]["force_restart"] is True
    assert world.report.steps[1] == "checkpoints: ignored, as --force-restart asks"
    assert world.report.notes == [
        "the old checkpoints were moved aside; --resume-from /workspace/demo/out/archive-1/NAME takes one of them"
    ]


def test_forced_restart_from_a_named_checkpoint_looks_for_that_one(world: World, pod: FakePod) -> None:
    found = {"path": "/workspace/demo/out/checkpoint-100", "step": 100}
    ready(pod).on("sync_code.py", SYNCED).on("find_checkpoint.py", {"found": found}).on("launch.py", launched())
    launch(world, pod, replace(LAUNCH, force_restart=True, resume_from="checkpoint-100"))
    assert pod.questions("find_checkpoint.py") == [
        {
            "clone": "/workspace/demo",
            "directory": "/workspace/demo/out",
            "pattern": "checkpoint-*",
            "resume_from": "checkpoint-100",
            "links": {"data": "data"},
        }
    ]
    assert pod.questions("launch.py")[0]["checkpoint"] == found


# The start


def test_what_the_launch_has_to_say_is_passed_on(world: World, pod: FakePod) -> None:
    ready(pod).on("sync_code.py", SYNCED).on("find_checkpoint.py", NOTHING_FOUND)
    pod.on("launch.py", launched(notes=["data is a folder of the clone; it was not linked"]))
    launch(world, pod)
    assert world.report.notes == ["data is a folder of the clone; it was not linked"]


@pytest.mark.parametrize(
    ("program", "expected"),
    [("sync_code.py", CodeError), ("find_checkpoint.py", UsageError), ("launch.py", RemoteRefusedError)],
)
def test_refusal_ends_the_launch_there(
    world: World, pod: FakePod, program: str, expected: type[PodtasksError]
) -> None:
    ready(pod)
    for name, answer in (("sync_code.py", SYNCED), ("find_checkpoint.py", NOTHING_FOUND), ("launch.py", launched())):
        pod.on(name, refusal("No.", detail="because") if name == program else answer)
        if name == program:
            break
    with pytest.raises(expected, match=r"No: because\."):
        launch(world, pod)
    assert pod.programs()[-1] == program


def test_link_that_breaks_ends_the_launch_there(world: World, pod: FakePod) -> None:
    ready(pod).on("sync_code.py", BROKEN)
    with pytest.raises(TransportError, match="reset by peer"):
        launch(world, pod)
