"""Launching again on whichever pod is to be had: the volume has the last word, and a run that lives is left alone."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import relaunch as module
from podtasks.flows.end_marks import note_end
from podtasks.flows.launched import Launched
from podtasks.flows.relaunch import Ground, relaunch
from podtasks.flows.train import NotNeededError
from podtasks.pure.chain import Chain
from podtasks.pure.errors import CodeError, OvertakenError, RemoteCommandError
from podtasks.pure.secret import Secret
from podtasks.pure.settings import Settings
from tests.unit.fake_pod import FakePod, launched, leased, refusal
from tests.unit.fake_reader import FakeReader
from tests.unit.fakes import IMAGE, RTX_4090, STOPPED, VOLUME, World, make_pod
from tests.unit.test_restart import record_of
from tests.unit.test_run import COMMIT, LAUNCH

RUN_ID = LAUNCH.run_id
CHAIN = Chain(RUN_ID, 0, 0.0, 0.0, max_restarts=2, max_hours=10.0, max_cost_usd=5.0)
WALL = 1_800_000_000.0
LOST = record_of(LAUNCH, launched_at=WALL - 3600, ended_at=None, chain=CHAIN.to_json())
IDLE: dict[str, Any] = {"guard": {"lease": None}}
STILL = b'{"beat": 7}'
FOUND = {"found": {"path": "/workspace/demo/out/checkpoint-400", "step": 400}}


class Shelf(FakeReader):
    """The volume as the pod sees it; its heartbeat beats while `beats`."""

    def __init__(self, world: World, record: dict[str, Any] | None) -> None:
        super().__init__()
        self.world = world
        self.beats = False
        if record is not None:
            self.add_run(**{**record, "newest": True})

    def read(self, place: str) -> bytes | None:
        if place.endswith("/heartbeat"):
            return b'{"beat": %d}' % (self.world.clock.now() // 5) if self.beats else STILL
        return super().read(place)


class Yard:
    """A stopped pod that can be resumed, and the volume it then sees."""

    def __init__(self, world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.shelf = Shelf(world, LOST)
        self.ground = Ground(
            world.cloud(),
            Settings(project="demo", image=IMAGE, gpu_types=(RTX_4090.id,), max_usd_per_hour=2.0, notify="echo"),
            ProjectFiles(folder),
            world.report,
            world.clock,
            lambda: {"HF_TOKEN": Secret("hf_VERYSECRET")},
            lambda: WALL,
        )
        monkeypatch.setattr(module, "ShellVolume", lambda *_: self.shelf)
        monkeypatch.setattr("podtasks.doors.local_git.find_root", lambda root: root)
        world.api.on("list_network_volumes", [VOLUME]).on("list_offers 1 EU-RO-1 secure", [RTX_4090])
        world.api.on("list_pods", [STOPPED]).on("resume_pod pod1 1", None).on("find_pod pod1", make_pod())

    def relaunch(self, *, still_beat: bytes | None = STILL) -> Launched:
        return relaunch(self.ground, RUN_ID, CHAIN, still_beat=still_beat)


@pytest.fixture
def yard(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Yard:
    return Yard(world, tmp_path, monkeypatch)


def takes_the_launch(pod: FakePod, *, commits: Sequence[str] = (COMMIT,)) -> FakePod:
    pod.on("status.py", IDLE).on("prepare.py", leased(clone_commits=list(commits)))
    pod.on("sync_code.py", {"commit": COMMIT, "changed": False}).on("find_checkpoint.py", FOUND)
    return pod.on("launch.py", launched())


def stops_the_pod(world: World) -> None:
    world.api.on("stop_pod pod1", None)


def test_lost_run_is_launched_again_from_its_record_with_what_its_bounds_leave(yard: Yard, pod: FakePod) -> None:
    takes_the_launch(pod)
    made = yard.relaunch()
    [question] = pod.questions("launch.py")
    assert question["after_run"] == RUN_ID and question["force_restart"] is False
    assert question["max_hours"] == 9.0 and question["max_cost_usd"] == pytest.approx(5 - 0.69)
    assert question["chain"]["restarts"] == 1 and question["chain"]["first_run"] == RUN_ID
    assert question["checkpoint"] == FOUND["found"]
    assert question["script_env"] == dict(LAUNCH.env) and question["secrets"] == {"HF_TOKEN": "hf_VERYSECRET"}
    assert question["notify"] == "echo"
    assert question["run_id"] == made.run.run_id and made.run.run_id.startswith("digits-20270115-080000-3f2a1b9-")
    assert made.chain is not None and made.chain.restarts == 1
    assert made.run.checkpoint == FOUND["found"]["path"]
    assert yard.world.api.orders() == ["resume_pod pod1 1"]
    assert pod.questions("sync_code.py")[0]["pack"] is False, "the code is in the clone on the volume"


@pytest.mark.parametrize("is_here", [True, False])
def test_code_that_is_gone_from_the_volume_comes_from_here_or_is_missed_by_name(
    yard: Yard, pod: FakePod, monkeypatch: pytest.MonkeyPatch, is_here: bool
) -> None:
    """The clone was deleted, and a snapshot's commit is on no branch."""
    monkeypatch.setattr("podtasks.doors.local_git.has_commit", lambda *_: is_here)
    monkeypatch.setattr("podtasks.doors.local_git.shallow_commits", lambda _: [])
    asked = SimpleNamespace(stdout=io.BytesIO(b"PACK"))
    monkeypatch.setattr("podtasks.doors.local_git.open_pack", lambda *_: contextlib.nullcontext(asked))
    if is_here:
        takes_the_launch(pod, commits=[])
        assert yard.relaunch().run.run_id and pod.questions("sync_code.py")[0]["pack"] is True
        return
    pod.on("status.py", IDLE, IDLE).on("prepare.py", leased(clone_commits=[]))
    stops_the_pod(yard.world)
    with pytest.raises(CodeError, match="neither in the pod's clone any more nor in this checkout"):
        yard.relaunch()
    assert pod.questions("sync_code.py") == []


def test_no_older_checkpoint_than_the_run_s_own_is_resumed_from(yard: Yard, pod: FakePod) -> None:
    older = {"found": {"path": "/workspace/demo/out/checkpoint-100", "step": 100}}
    own = {"found": {"path": "/elsewhere/checkpoint-200", "step": 200}}
    yard.shelf.add_run(**{**LOST, "checkpoint": own["found"], "newest": True})
    pod.on("status.py", IDLE).on("prepare.py", leased(clone_commits=[COMMIT]))
    pod.on("sync_code.py", {"commit": COMMIT}).on("find_checkpoint.py", older, own).on("launch.py", launched())
    assert yard.relaunch().run.checkpoint == "/elsewhere/checkpoint-200"
    assert [q["resume_from"] for q in pod.questions("find_checkpoint.py")] == [None, "/elsewhere/checkpoint-200"]


def test_own_checkpoint_that_is_not_whole_any_more_is_done_without(yard: Yard, pod: FakePod) -> None:
    pod.on("status.py", IDLE).on("prepare.py", leased(clone_commits=[COMMIT])).on("sync_code.py", {"commit": COMMIT})
    pod.on("find_checkpoint.py", {"found": None}, refusal("There is no such checkpoint.")).on("launch.py", launched())
    assert yard.relaunch().run.checkpoint is None


def test_run_that_the_volume_knows_to_have_finished_is_not_launched_again(yard: Yard, pod: FakePod) -> None:
    yard.shelf.add_run(**{**LOST, "ended_at": WALL, "exit_code": 0, "reason": "finished", "newest": True})
    pod.on("status.py", IDLE)
    stops_the_pod(yard.world)
    with pytest.raises(NotNeededError) as caught:
        yard.relaunch()
    assert caught.value.record["exit_code"] == 0 and not caught.value.is_alive
    assert yard.world.api.orders() == ["resume_pod pod1 1", "stop_pod pod1"], "what was started for it is stopped"
    assert pod.questions("launch.py") == [] and pod.open_shells() == 0


def test_run_that_the_user_has_called_off_meanwhile_is_not_launched_again(yard: Yard, pod: FakePod) -> None:
    pod.on("status.py", IDLE, IDLE)
    stops_the_pod(yard.world)
    note_end(yard.ground.files, yard.ground.cloud, make_pod("pod2"), WALL + 1, yard.world.report)
    with pytest.raises(NotNeededError) as caught:
        yard.relaunch()
    assert not caught.value.is_alive and pod.questions("launch.py") == []


def test_newer_run_on_the_volume_is_left_alone(yard: Yard, pod: FakePod) -> None:
    yard.shelf.add_run("digits-2", newest=True, ended_at=None)
    pod.on("status.py", {"guard": {"lease": {"kind": "run", "who": "ann", "run_id": "digits-2"}}})
    with pytest.raises(NotNeededError) as caught:
        yard.relaunch()
    assert caught.value.record["run_id"] == "digits-2" and caught.value.is_alive
    assert yard.world.api.orders() == ["resume_pod pod1 1"], "somebody works on it"


@pytest.mark.parametrize("still_beat", [None, STILL], ids=["unread", "stood still for the S3 API"])
def test_heart_that_beats_on_the_volume_stops_the_launch(
    yard: Yard, pod: FakePod, still_beat: bytes | None
) -> None:
    yard.shelf.beats = True
    pod.on("status.py", IDLE, IDLE)
    stops_the_pod(yard.world)
    with pytest.raises(NotNeededError) as caught:
        yard.relaunch(still_beat=still_beat)
    assert caught.value.is_alive and pod.questions("launch.py") == []


@pytest.mark.parametrize("still_beat", [None, b'{"beat": 6}'], ids=["unread", "an older one"])
def test_still_heart_is_watched_long_enough_before_the_launch(
    yard: Yard, pod: FakePod, still_beat: bytes | None
) -> None:
    takes_the_launch(pod)
    began = yard.world.clock.now()
    yard.relaunch(still_beat=still_beat)
    assert yard.world.clock.now() - began >= 12


def test_heart_that_is_known_to_stand_still_is_not_waited_for(yard: Yard, pod: FakePod) -> None:
    takes_the_launch(pod)
    began = yard.world.clock.now()
    yard.relaunch()
    assert yard.world.clock.now() - began < 5


def test_launch_that_somebody_else_was_faster_with_says_whose_run_it_is(yard: Yard, pod: FakePod) -> None:
    pod.on("status.py", IDLE, IDLE).on("prepare.py", leased(clone_commits=[COMMIT]))
    pod.on("sync_code.py", {"commit": COMMIT}).on("find_checkpoint.py", FOUND)
    pod.on("launch.py", refusal("Another run is newer.", overtaken="digits-2"))
    stops_the_pod(yard.world)
    with pytest.raises(OvertakenError) as caught:
        yard.relaunch()
    assert caught.value.run_id == "digits-2"


@pytest.mark.parametrize("record", [None, {"run_id": RUN_ID, "launched_at": WALL}], ids=["none", "broken"])
def test_record_that_does_not_tell_is_one_clear_error(yard: Yard, pod: FakePod, record: dict[str, Any] | None) -> None:
    yard.shelf = Shelf(yard.world, record)
    pod.on("status.py", *[IDLE] * (1 if record is None else 2))
    stops_the_pod(yard.world)
    with pytest.raises(RemoteCommandError, match="does not tell how it was launched"):
        yard.relaunch()


def test_read_only_checkout_fails_nothing(yard: Yard, pod: FakePod, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("podtasks.flows.cloud.write_identity_value", refuse)
    monkeypatch.setattr(ProjectFiles, "ensure_state_folder", refuse)
    yard.ground = replace(yard.ground, cloud=replace(yard.ground.cloud, must_remember=False))
    takes_the_launch(pod)
    assert yard.relaunch().run.run_id
