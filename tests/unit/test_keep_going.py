"""Keeping a training going: what is done after each look, end and failed launch, and what is told of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import judge, keep_going, launch_tries, restarter
from podtasks.flows.control import Ending, stop
from podtasks.flows.follow import Outcome
from podtasks.flows.keep_going import Keeper
from podtasks.flows.launch import PodHeldError
from podtasks.flows.launched import Launched
from podtasks.flows.relaunch import Ground
from podtasks.flows.restarter import LAUNCH_TRIES, LONGEST_PAUSE_S, POD_TRIES
from podtasks.flows.sight import STUCK_LOOKS, STUCK_S, Sight
from podtasks.flows.train import NotNeededError
from podtasks.flows.watch_notes import WatchNotes
from podtasks.flows.watched import Watched, from_record
from podtasks.pure.chain import Chain
from podtasks.pure.errors import (
    ApiUnreachableError,
    AuthenticationError,
    CapacityError,
    CodeError,
    OutcomeUnknownError,
    OvertakenError,
    PodtasksError,
    PodTimeoutError,
)
from podtasks.pure.pod import Pod
from podtasks.pure.recovery import Done, GiveUp, Relaunch, Wait
from podtasks.pure.run import Run
from podtasks.pure.secret import Secret
from podtasks.pure.settings import Settings
from podtasks.pure.signs import Life
from tests.unit.fake_pod import again
from tests.unit.fake_reader import FakeReader
from tests.unit.fakes import STOPPED, World, make_pod

CHAIN = Chain("run1", 0, 0.0, 0.0, max_restarts=2, max_hours=10.0, max_cost_usd=None)
NO_GPU = CapacityError("No GPU is to be had now.", next_step="try again later")
OFFLINE = ApiUnreachableError("RunPod gave no usable answer.", next_step="try again in a minute")
REFUSED = AuthenticationError("RunPod refused the API key.", next_step="mend it")
NO_CODE = CodeError("The pod refused. git failed.", next_step="mend the repository")
NO_POD = PodTimeoutError("Pod pod2 did not answer.", next_step="run it again")
GONE = OutcomeUnknownError("Pod pod1 is no longer there.", next_step="again")
FASTER = OvertakenError("The pod refused. run2 is newer.", run_id="run2", next_step="inv logs")
WALL = 1_800_000_000.0
BEAT = b'{"beat": 7}'


def make_record(run_id: str = "run1", **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    return {
        "run_id": run_id,
        "pod": {"id": "pod1", "usd_per_hour": 0.5},
        "launched_at": WALL - 3600,
        "ended_at": None,
        "log": "/workspace/logs/current.log",
        "log_start": 170,
        "volume": "/workspace",
        "when_done": "stop",
        "output_dir": "/workspace/out",
        "chain": CHAIN.to_json(),
        **changes,
    }


FINISHED = make_record(ended_at=WALL, exit_code=0, reason="finished")


def make_run(run_id: str, checkpoint: str | None = None) -> Run:
    return Run(run_id, f"/workspace/runs/{run_id}", "/workspace/logs/current.log", 170, "stop", "/out", checkpoint)


class Stage:
    """A keeper whose looks, log views and launches go as declared; what they were asked is kept."""

    def __init__(self, world: World, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.folder = folder
        self.sights: list[Sight] = []
        self.ends: list[Mapping[str, Any] | None] = []
        self.views: list[Outcome | PodtasksError] = []
        self.launches: list[Launched | BaseException] = []
        self.asked: list[tuple[str, Chain, bytes | None]] = []
        self.first_bytes: list[int | None] = []
        self.told: list[GiveUp] = []
        self.seen_off: list[str] = []
        self.rests: list[tuple[object, int]] = []
        self.wall = WALL
        self.keys: tuple[Secret, Secret] | None = None
        monkeypatch.setattr(judge, "Lookout", self._make_lookout)
        monkeypatch.setattr(keep_going, "make_view", self._make_view)
        monkeypatch.setattr(restarter, "relaunch", self._relaunch)
        monkeypatch.setattr(keep_going, "show_rest", lambda _, record, first, *__: self.rests.append((record, first)))
        monkeypatch.setattr(keep_going, "see_pod_end", lambda _, pod_id, *__: self.seen_off.append(pod_id))

    def keeper(self, bounds: Chain | None = None) -> Keeper:
        ground = Ground(
            replace(self.world.cloud(), s3_keys=self.keys),
            Settings(project="demo"),
            ProjectFiles(self.folder),
            self.world.report,
            self.world.clock,
            dict,
            lambda: self.wall,
        )
        return Keeper(ground, bounds, lambda _: None, lambda _, decision: self.told.append(decision))

    def leftovers(self) -> list[object]:
        return [*self.sights, *self.views, *self.launches]

    # Stand-ins

    def _make_lookout(self, *_: object) -> Stage:
        return self

    def know_pod(self, pod: Pod) -> None:
        assert pod.id

    def look(self, timeout_s: float) -> Sight:
        assert timeout_s > 0 and self.sights, "looked at once too often"
        return self.sights.pop(0)

    def read_end(self, timeout_s: float) -> Mapping[str, Any] | None:
        assert timeout_s >= 0
        return self.ends.pop(0) if self.ends else None

    def _make_view(self, launched: Launched, *_: object, first_byte: int | None, patience_s: float) -> View:
        assert patience_s > 0
        self.first_bytes.append(first_byte)
        return View(self, launched.pod)

    def _relaunch(self, _: Ground, run_id: str, chain: Chain, *, still_beat: bytes | None) -> Launched:
        self.asked.append((run_id, chain, still_beat))
        outcome = self.launches.pop(0)
        if isinstance(outcome, BaseException):
            raise again(outcome)
        return outcome


class View:
    """A log view that ends as declared."""

    next_byte = 400

    def __init__(self, stage: Stage, pod: Pod) -> None:
        self.pod = pod
        self._stage = stage

    def follow(self) -> Outcome:
        outcome = self._stage.views.pop(0)
        if isinstance(outcome, PodtasksError):
            raise again(outcome)
        return outcome


@pytest.fixture
def stage(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(world, tmp_path, monkeypatch)


def sight(life: Life, record: Mapping[str, Any] | None = None, pod: Pod | None = None, silent_s: float = 0.0) -> Sight:
    record = make_record() if record is None else record
    return Sight(life, record, BEAT, pod, silent_s, silence_was_read=True)


LOST = sight(Life.LOST)
SECOND = Launched(make_pod("pod2"), make_run("run2", "/out/checkpoint-4"), None, replace(CHAIN, restarts=1))


def launched_here(stage: Stage, keeper: Keeper) -> Watched:
    watched = keeper.take(Launched(make_pod(), make_run("run1")), CHAIN)
    stage.wall += 3600
    return watched


def of_record(**changes: Any) -> Watched:  # noqa: ANN401
    watched = from_record(make_record(**changes), None, None)
    assert watched is not None
    return watched


# To the end


def test_training_that_finishes_is_done_and_nobody_looks_any_further(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.views = [Outcome(0, "finished")]
    finish = keeper.keep(launched_here(stage, keeper))
    assert finish.decision == Done(0, "finished") and finish.outcome == Outcome(0, "finished")
    assert stage.asked == [] and stage.told == []


def test_lost_run_is_launched_again_and_its_log_goes_on_where_it_broke_off(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.views = [GONE, Outcome(0, "finished")]
    stage.sights = [LOST]
    stage.launches = [SECOND]
    finish = keeper.keep(launched_here(stage, keeper))
    assert finish.watched.run_id == "run2" and finish.decision == Done(0, "finished")
    assert stage.asked == [("run1", CHAIN, BEAT)]
    assert stage.first_bytes == [None, View.next_byte]
    [told] = [step for step in stage.world.report.steps if step.startswith("restart 1 of at most 2")]
    assert "run run1 was lost with its pod" in told and "so far" in told and "/out/checkpoint-4" in told
    assert keeper.restarts == ["run2"]


def test_rest_of_the_log_of_a_run_whose_end_only_the_volume_told_is_shown(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.views, stage.sights = [GONE], [sight(Life.LOST, FINISHED)]
    finish = keeper.keep(launched_here(stage, keeper))
    assert finish.decision == Done(0, "finished") and stage.rests == [(FINISHED, View.next_byte)]

    stage.views, stage.rests = [Outcome(0, "finished")], []
    keeper.keep(launched_here(stage, keeper))
    assert stage.rests == []


def test_run_that_turns_out_to_live_is_followed_on_and_never_replaced(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.views = [GONE, OFFLINE, Outcome(0, "finished")]
    stage.sights = [sight(Life.ALIVE, pod=make_pod()), sight(Life.ALIVE, pod=make_pod())]
    finish = keeper.keep(launched_here(stage, keeper))
    assert finish.decision == Done(0, "finished") and stage.asked == []
    assert stage.first_bytes == [None], "one view, that goes on with its next byte"


def test_unclear_run_is_looked_at_again_until_it_is_clear(stage: Stage) -> None:
    keeper = stage.keeper()
    unclear = sight(Life.UNCLEAR)
    stage.sights = [unclear, unclear, unclear, sight(Life.UNCLEAR, FINISHED)]
    finish = keeper.keep(of_record())
    assert finish.decision == Done(0, "finished")
    assert len([note for note in stage.world.report.notes if "looking again" in note]) == 1


def test_failure_is_judged_by_its_record_where_the_stream_knows_less(stage: Stage) -> None:
    keeper = stage.keeper()
    failed = make_record("run2", ended_at=WALL, exit_code=7, reason="failed", last_step=5)
    before = replace(CHAIN, restarts=1, last_failure=None)
    stage.views = [Outcome(7, "failed"), Outcome(7, "failed")]
    first_end = make_record(ended_at=WALL, exit_code=7, reason="failed", last_step=5)
    stage.ends = [first_end, failed]
    stage.launches = [replace(SECOND, chain=replace(before, last_failure=_failed_at(5)))]
    finish = keeper.keep(launched_here(stage, keeper))
    assert isinstance(finish.decision, GiveUp) and "failed again at step 5" in finish.decision.reason
    assert finish.decision.exit_code == 7 and stage.told == [], "the pod told of it"
    notes = WatchNotes(ProjectFiles(stage.folder), stage.world.cloud().name)
    assert "failed again at step 5" in notes.given_up("run2"), "no later look starts it again"
    noted = notes.read_record()
    assert noted is not None and (noted["run_id"], noted["exit_code"], noted["reason"]) == ("run2", 7, "failed")


def _failed_at(step: int) -> Any:  # noqa: ANN401
    from podtasks.pure.chain import FailedAt

    return FailedAt(step, None)


# Others are faster


@pytest.mark.parametrize(
    "error",
    [
        FASTER,
        PodHeldError("Run run2 is training on this pod.", {"kind": "run", "run_id": "run2"}),
        NotNeededError(make_record("run2", pod={"id": "pod2", "usd_per_hour": 0.5}), is_alive=True),
    ],
    ids=lambda error: type(error).__name__,
)
def test_run_of_a_faster_watcher_is_followed(stage: Stage, error: PodtasksError) -> None:
    newer = make_record("run2", pod={"id": "pod2", "usd_per_hour": 0.5})
    stage.world.api.on("find_pod pod2", make_pod("pod2"))
    keeper = stage.keeper()
    stage.views = [GONE, Outcome(0, "finished")]
    stage.sights = [LOST] if isinstance(error, NotNeededError) else [LOST, sight(Life.UNCLEAR, newer)]
    stage.launches = [error]
    finish = keeper.keep(launched_here(stage, keeper))
    assert finish.watched.run_id == "run2" and finish.decision == Done(0, "finished")
    assert len(stage.asked) == 1 and stage.leftovers() == []


def test_newer_run_that_nobody_asked_to_keep_going_is_left_alone(stage: Stage) -> None:
    stage.launches = [NotNeededError(make_record("run2", chain=None), is_alive=True)]
    stage.world.api.on("find_pod pod1", None)
    decision = look_once(stage, LOST)
    assert isinstance(decision, Done) and "nobody asked to keep going" in decision.reason


def test_run_without_a_chain_of_its_own_that_was_joined_is_kept_going(stage: Stage) -> None:
    keeper = stage.keeper()
    watched = keeper.take(Launched(make_pod(), make_run("run1")), CHAIN)
    failed = make_record(chain=None, ended_at=WALL, exit_code=7, reason="failed", last_step=3)
    stage.views = [GONE, Outcome(0, "finished")]
    stage.sights = [LOST]
    stage.launches = [NotNeededError(failed, is_alive=False), SECOND]
    assert keeper.keep(watched).decision == Done(0, "finished")


def test_end_that_the_pod_found_on_the_volume_ends_it_all(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.sights = [LOST]
    stage.launches = [NotNeededError(FINISHED, is_alive=False)]
    assert keeper.keep(of_record()).decision == Done(0, "finished")


# Launches that fail


@pytest.mark.parametrize("error", [NO_GPU, OFFLINE], ids=str)
def test_gpu_that_is_not_to_be_had_is_waited_for_with_growing_pauses_and_few_words(
    stage: Stage, error: PodtasksError
) -> None:
    keeper = stage.keeper()
    stage.sights = [LOST]
    stage.launches = [*[error] * 30, SECOND]
    stage.views = [Outcome(0, "finished")]
    began = stage.world.clock.now()
    keeper.keep(of_record())
    pauses = stage.world.clock.sleeps
    assert pauses[0] == 10.0 and max(pauses) == LONGEST_PAUSE_S and pauses == sorted(pauses)
    hours = (stage.world.clock.now() - began) / 3600
    told = [note for note in stage.world.report.notes if error.what in note]
    assert 1 <= len(told) <= hours * 2 + 1


def test_pod_that_is_waited_for_is_not_asked_for_once_somebody_else_has_one(stage: Stage) -> None:
    keeper = stage.keeper()
    newer = make_record("run2", ended_at=WALL, exit_code=0, reason="finished")
    stage.sights = [LOST, sight(Life.UNCLEAR, newer)]
    stage.launches = [NO_GPU]
    stage.ends = [newer]
    assert keeper.keep(of_record()).decision == Done(0, "finished")


@pytest.mark.parametrize("end", [LOST, None], ids=["lost", "failed"])
def test_inv_stop_while_a_pod_is_waited_for_ends_the_wait(stage: Stage, end: Sight | None) -> None:
    """There is no pod then that could be asked to end its run, and no run that could note it."""
    keeper = stage.keeper()
    watched = of_record() if end else of_record(ended_at=WALL, exit_code=7, reason="failed", last_step=3)
    stage.sights = [end] if end else []
    stage.launches = [NO_GPU, NO_GPU]
    sleep = stage.world.clock.sleep

    def sleep_then_stop(seconds: float) -> None:
        sleep(seconds)
        if len(stage.asked) == 2:
            stop_nothing(stage)

    stage.world.clock.sleep = sleep_then_stop  # type: ignore[method-assign]
    assert isinstance(keeper.keep(watched).decision, Done)
    assert len(stage.asked) == 2 and stage.told == []


def stop_nothing(stage: Stage) -> None:
    stage.world.api.on("list_pods", [])
    ending = Ending(ProjectFiles(stage.folder), stage.wall)
    report, clock = stage.world.report, stage.world.clock
    assert stop(stage.world.cloud(), "demo", report, clock, now=False, grace_s=30.0, ending=ending) is None


@pytest.mark.parametrize("reason", ["failed", "pod lost", None])
def test_run_that_was_called_off_is_not_started_again_however_it_ended(stage: Stage, reason: str | None) -> None:
    stop_nothing(stage)
    changes = {"ended_at": WALL - 60, "exit_code": 7, "reason": reason} if reason else {}
    stage.sights = [] if reason else [LOST]
    assert isinstance(stage.keeper().act_once(of_record(**changes))[1], Done)
    stage.launches = [SECOND]
    stage.sights = []
    later = of_record(launched_at=WALL + 60, ended_at=WALL + 90, exit_code=7, reason="failed")
    assert isinstance(stage.keeper().act_once(later)[1], Relaunch), "a run after that is another story"


def test_api_key_that_is_refused_for_long_ends_the_watch(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.sights = [LOST]
    stage.launches = [REFUSED] * 50
    with pytest.raises(AuthenticationError):
        keeper.keep(of_record())
    assert stage.world.clock.now() > 1600


@pytest.mark.parametrize(("error", "tries"), [(NO_CODE, LAUNCH_TRIES), (NO_POD, POD_TRIES)], ids=str)
def test_launch_that_fails_again_and_again_is_given_up_and_told(
    stage: Stage, error: PodtasksError, tries: int
) -> None:
    if error is NO_POD:
        stage.world.api.on("list_pods", [STOPPED], [make_pod("pod2")]).on("terminate_pod pod1", None)
    keeper = stage.keeper()
    stage.sights = [LOST]
    stage.launches = [error] * tries
    finish = keeper.keep(of_record())
    assert isinstance(finish.decision, GiveUp) and error.what in finish.decision.reason
    assert finish.decision.next_step == error.next_step
    assert len(stage.asked) == tries and stage.told == [finish.decision]
    assert stage.world.api.orders() == (["terminate_pod pod1"] if error is NO_POD else []), "only one that is stopped"


def test_watchers_that_look_once_count_failed_launches_together(stage: Stage) -> None:
    stage.sights = [LOST] * 3
    stage.launches = [NO_CODE] * 2
    with pytest.raises(CodeError):
        stage.keeper().act_once(of_record())
    for _ in range(2):
        _, decision = stage.keeper().act_once(of_record())
        assert isinstance(decision, GiveUp)
        assert NO_CODE.what in decision.reason
    assert len(stage.told) == 1, "it is told once"
    assert len(stage.asked) == LAUNCH_TRIES, "each try may cost a pod's start"


class Shelf(FakeReader):
    """A volume that takes small files as well."""

    def write(self, place: str, data: bytes) -> None:
        self._fail()
        self.files[place] = data


def look_as_somebody_new(stage: Stage, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> object:
    """Look once from a machine that remembers nothing, and has S3 keys."""
    monkeypatch.setattr("podtasks.flows.watch_notes.write_atomically", _refuse)
    monkeypatch.setattr(launch_tries, "open_s3_volume", lambda _: shelf)
    stage.keys = (Secret("user_x"), Secret("rps_x"))
    return look_once(stage, LOST)


@pytest.mark.parametrize("error", [NO_CODE, NO_POD], ids=str)
def test_watchers_that_remember_nothing_count_on_the_volume(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, error: PodtasksError
) -> None:
    """Each look of a machine at GitHub's is the first of its life: pods would be started without end."""
    stage.launches = [error] * 9
    shelf, seen = Shelf(), []
    for _ in range(6):
        try:
            seen.append(look_as_somebody_new(stage, shelf, monkeypatch))
        except type(error):
            seen.append(None)
    tries = LAUNCH_TRIES if error is NO_CODE else POD_TRIES
    assert len(stage.asked) == tries
    assert [type(decision) for decision in seen] == [type(None)] * (tries - 1) + [GiveUp] * (7 - tries)
    last = seen[-1]
    assert isinstance(last, GiveUp) and error.what in last.reason


def test_watchers_that_are_killed_in_the_launch_do_not_try_for_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GitHub ends a job after its minutes, systemd after TimeoutStartSec: maybe in each launch."""
    stage.launches = [Killed() for _ in range(9)]
    shelf = Shelf()
    for _ in range(POD_TRIES):
        with pytest.raises(Killed):
            look_as_somebody_new(stage, shelf, monkeypatch)
    for _ in range(2):
        decision = look_as_somebody_new(stage, shelf, monkeypatch)
        assert isinstance(decision, GiveUp) and "broken off" in decision.reason
    assert len(stage.asked) == POD_TRIES


class Killed(BaseException):
    """Stands for the end of the process."""


def test_volume_that_takes_no_count_fails_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Shelf()
    shelf.error = OFFLINE
    stage.launches = [SECOND]
    assert isinstance(look_as_somebody_new(stage, shelf, monkeypatch), Relaunch)


@pytest.mark.parametrize("content", [b"", b"7", b"{", b'{"count": "x"}', b'{"count": 1e999, "given_up": ""}', b"\xff"])
def test_count_that_cannot_be_read_is_none(stage: Stage, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    shelf = Shelf({"runs/run1/failed-launches": content})
    stage.launches = [SECOND]
    assert isinstance(look_as_somebody_new(stage, shelf, monkeypatch), Relaunch)


def test_pods_that_find_the_run_alive_are_not_started_for_ever(stage: Stage) -> None:
    """The API does not show its pod, SSH does not reach it, and there are no S3 keys."""
    keeper = stage.keeper()
    stage.sights = [LOST] * 9
    stage.launches = [NotNeededError(make_record(), is_alive=True) for _ in range(9)]
    stage.world.api.on("find_pod pod1", None)
    decision = keeper.keep(of_record()).decision
    assert isinstance(decision, GiveUp) and "lives by its heartbeat" in decision.reason
    assert len(stage.asked) == POD_TRIES


def test_tries_come_to_an_end_though_nothing_can_be_remembered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podtasks.flows.watch_notes.write_atomically", _refuse)
    stage.sights = [LOST]
    stage.launches = [NO_CODE] * LAUNCH_TRIES
    assert isinstance(stage.keeper().keep(of_record()).decision, GiveUp)


def test_newer_run_that_finished_gives_the_outcome_and_not_the_one_that_failed_before(stage: Stage) -> None:
    keeper = stage.keeper()
    stage.views = [Outcome(7, "failed")]
    newer = make_record("run2", ended_at=WALL, exit_code=0, reason="finished")
    stage.launches = [NotNeededError(newer, is_alive=False)]
    finish = keeper.keep(launched_here(stage, keeper))
    assert (finish.decision, finish.outcome, finish.watched.run_id) == (Done(0, "finished"), None, "run2")


# One look


def test_one_look_that_finds_a_newer_run_to_start_again_says_that_it_did_not(stage: Stage) -> None:
    newer = make_record("run2", ended_at=WALL, exit_code=7, reason="failed", last_step=3)
    stage.launches = [NotNeededError(newer, is_alive=False)]
    assert isinstance(look_once(stage, LOST), Wait)


def look_once(stage: Stage, seen: Sight) -> object:
    stage.sights = [seen]
    return stage.keeper().act_once(of_record())[1]


def test_one_look_at_a_run_that_lives_does_nothing(stage: Stage) -> None:
    assert look_once(stage, sight(Life.ALIVE)) == Wait("it runs")


def test_one_look_at_a_lost_run_launches_it_again_and_tells_what_the_pod_knew_of_its_use(stage: Stage) -> None:
    chain = replace(CHAIN, restarts=1, used_hours=0.25, used_usd=0.125)
    stage.launches = [replace(SECOND, chain=chain)]
    decision = look_once(stage, LOST)
    assert isinstance(decision, Relaunch) and decision.chain == chain


@pytest.mark.parametrize("error", [NO_GPU, OFFLINE], ids=str)
def test_one_look_that_gets_no_pod_is_an_error_and_no_failure_of_the_launch(
    stage: Stage, error: PodtasksError
) -> None:
    for _ in range(5):
        stage.launches = [error]
        with pytest.raises(type(error)):
            look_once(stage, LOST)


def test_run_that_has_ended_on_record_is_not_looked_at(stage: Stage) -> None:
    watched = of_record(ended_at=WALL, exit_code=0, reason="finished")
    assert stage.keeper().act_once(watched)[1] == Done(0, "finished")
    assert stage.seen_off == [watched.pod_id] != [""]


def test_bound_that_is_reached_by_a_lost_run_is_told_by_the_watcher(stage: Stage) -> None:
    used_up = make_record(chain=replace(CHAIN, restarts=2).to_json())
    stage.sights = [sight(Life.LOST, used_up)]
    watched = from_record(used_up, None, None)
    assert watched is not None
    decision = stage.keeper().act_once(watched)[1]
    assert isinstance(decision, GiveUp) and stage.told == [decision]


# A pod that runs by the API's word and says nothing


def test_silent_pod_is_stopped_after_ten_minutes_and_then_replaced(stage: Stage) -> None:
    stage.world.api.on("stop_pod pod1", None)
    silent = sight(Life.UNCLEAR, pod=make_pod(), silent_s=35.0)
    for passed_s in (0.0, 300.0, STUCK_S - 40):
        stage.wall = WALL + passed_s
        assert isinstance(look_once(stage, silent), Wait)
    assert stage.world.api.orders() == []
    stage.wall = WALL + STUCK_S - 30
    stage.sights, stage.launches = [silent, LOST], [SECOND]
    assert isinstance(stage.keeper().act_once(of_record())[1], Relaunch)
    assert stage.world.api.orders() == ["stop_pod pod1"]
    assert any("silent for 10 min" in note for note in stage.world.report.notes)


def test_heart_that_beat_between_two_silences_was_not_silent_all_the_time(stage: Stage) -> None:
    """Two hiccups with hours between them, in which nobody looked."""
    for passed_h in range(STUCK_LOOKS + 2):
        stage.wall = WALL + passed_h * 3600
        silent = sight(Life.UNCLEAR, pod=make_pod(), silent_s=35.0)
        assert isinstance(look_once(stage, replace(silent, heartbeat=b'{"beat": %d}' % passed_h)), Wait)
    assert stage.world.api.orders() == []


def test_clock_that_jumps_makes_no_ten_minutes_of_one(stage: Stage) -> None:
    silent = sight(Life.UNCLEAR, pod=make_pod(), silent_s=35.0)
    for passed_s in (0.0, 3 * 3600.0):
        stage.wall = WALL + passed_s
        assert isinstance(look_once(stage, silent), Wait)
    assert stage.world.api.orders() == []


def test_silent_pod_is_stopped_though_nothing_can_be_remembered(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("podtasks.flows.watch_notes.write_atomically", _refuse)
    stage.world.api.on("stop_pod pod1", None)
    silent = sight(Life.UNCLEAR, pod=make_pod(), silent_s=35.0)
    keeper, watched = stage.keeper(), of_record()
    for passed_s in (0.0, 300.0, STUCK_S):
        stage.wall = WALL + passed_s
        stage.sights, stage.launches = [silent, LOST], [SECOND]
        watched, decision = keeper.act_once(watched)
    assert isinstance(decision, Relaunch) and stage.world.api.orders() == ["stop_pod pod1"]


def test_sign_of_life_begins_the_ten_minutes_anew(stage: Stage) -> None:
    silent = sight(Life.UNCLEAR, pod=make_pod(), silent_s=35.0)
    for passed_s, seen in ((0.0, silent), (300.0, sight(Life.ALIVE, pod=make_pod())), (STUCK_S + 60, silent)):
        stage.wall = WALL + passed_s
        assert isinstance(look_once(stage, seen), Wait)
    assert stage.world.api.orders() == []


def test_memory_that_cannot_be_written_fails_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podtasks.flows.watch_notes.write_atomically", _refuse)
    stage.launches = [SECOND]
    assert isinstance(look_once(stage, LOST), Relaunch)


def _refuse(*_: object) -> None:
    raise OSError(30, "Read-only file system")
