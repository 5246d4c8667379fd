"""Looking at a run: what is believed, and that no single wrong, slow or missing answer loses a healthy run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from podtasks.flows import sight
from podtasks.flows.sight import LOOK_S, Lookout, Sight
from podtasks.pure.errors import ApiError, ApiUnreachableError, AuthenticationError, SshRefusedError
from podtasks.pure.secret import Secret
from podtasks.pure.signs import Life
from tests.unit.fake_pod import BROKEN, FakePod
from tests.unit.fake_reader import FakeReader
from tests.unit.fakes import STOPPED, FakeClock, World, make_pod

RUN = "digits-1"
OFFLINE = ApiUnreachableError("RunPod gave no usable answer.", next_step="try again in a minute")
REFUSED = AuthenticationError("RunPod refused the API key.", next_step="mend it")
ODD = ApiError("RunPod answered something else.", next_step="try again")
RUNNING = {"guard": {"lease": {"kind": "run", "run_id": RUN}}, "run": None}
IDLE = {"guard": {"lease": None}, "run": None}
LAUNCHING = {"guard": {"lease": {"kind": "prepare", "who": "ann"}}, "run": None}


class Volume(FakeReader):
    """A volume with one run, whose heartbeat beats every 5 s until `dies_at`."""

    def __init__(self, clock: FakeClock, dies_at: float = float("inf")) -> None:
        super().__init__()
        self.clock = clock
        self.dies_at = dies_at
        self.never_beats = False
        self.sleeps_in = 0
        self.add_run(RUN, newest=True, pod={"id": "pod1"}, launched_at=1.0, ended_at=None)

    def read_range(self, place: str, first_byte: int, last_byte: int | None) -> bytes | None:
        if place == f"runs/{RUN}/heartbeat" and self.error is None:
            if self.never_beats:
                return None
            beat = b'{"beat": %d}' % (min(self.clock.now(), self.dies_at) // 5)
            self.sleeps_in -= 1
            if self.sleeps_in == 0:
                self.clock.sleep(3 * 3600.0)
            return beat
        return super().read_range(place, first_byte, last_byte)


class Scene:
    """A cloud, its volume, and a lookout on the run."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.api = world.api
        self.volume: Volume | None = Volume(world.clock)
        monkeypatch.setattr(sight, "open_s3_volume", lambda _: self.volume)

    def lookout(self, *, knows_pod: bool = False) -> Lookout:
        keys = (Secret("user_x"), Secret("rps_x")) if self.volume else None
        lookout = Lookout(replace(self.world.cloud(), s3_keys=keys), "demo", self.world.clock, RUN, "pod1")
        if knows_pod:
            lookout.know_pod(make_pod())
        return lookout

    def look(self, *, knows_pod: bool = False) -> Sight:
        return self.lookout(knows_pod=knows_pod).look()

    def dead(self) -> Scene:
        """Let the run have died a while ago."""
        assert self.volume is not None
        self.volume.dies_at = 0.0
        return self

    def pods(self, *answers: object) -> Scene:
        """Let the API answer so when asked for the pod, in the list as well."""
        self.api.on("find_pod pod1", *answers[::2])
        self.api.on("list_pods", *[_listed(answer) for answer in (answers[1::2] or answers[-1:])])
        return self


def _listed(answer: object) -> object:
    if isinstance(answer, Exception):
        return answer
    return [] if answer is None else [answer]


@pytest.fixture
def scene(world: World, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(world, monkeypatch)


def unreachable(pod: FakePod) -> None:
    pod.connects = [BROKEN] * 100


def test_pod_that_runs_the_run_is_alive_at_once(scene: Scene, pod: FakePod) -> None:
    scene.api.on("find_pod pod1", make_pod())
    pod.on("status.py", RUNNING)
    seen = scene.look()
    assert (seen.life, seen.pod, seen.silent_s) == (Life.ALIVE, make_pod(), 0.0)
    assert seen.record is not None and seen.record["run_id"] == RUN
    assert scene.world.clock.sleeps == [] and scene.api.calls == ["find_pod pod1"]


def test_run_whose_pod_is_gone_and_whose_heart_is_still_is_lost_in_time(scene: Scene) -> None:
    scene.dead().pods(None, None)
    began = scene.world.clock.now()
    seen = scene.look()
    assert (seen.life, seen.silence_was_read) == (Life.LOST, True)
    assert 12 <= scene.world.clock.now() - began <= 16
    assert len(scene.api.calls) <= 5, "the API is rate-limited"
    assert seen.heartbeat == b'{"beat": 0}'


@pytest.mark.parametrize(
    "answers",
    [
        (None, make_pod()),
        (STOPPED, make_pod()),
        (make_pod(), None, make_pod()),
        (None, None),
        (OFFLINE, OFFLINE),
        (REFUSED, None),
        (ODD, STOPPED),
    ],
    ids=str,
)
def test_beating_heart_vetoes_whatever_the_api_says(scene: Scene, pod: FakePod, answers: tuple[object, ...]) -> None:
    unreachable(pod)
    scene.pods(*answers)
    assert scene.look().life is Life.ALIVE


@pytest.mark.parametrize(
    "answers",
    [
        (None, make_pod(), make_pod(), make_pod()),
        (make_pod(), None, make_pod(), make_pod()),
        (STOPPED, make_pod(), make_pod()),
        (OFFLINE, OFFLINE),
        (None, OFFLINE, OFFLINE, OFFLINE),
        (REFUSED, REFUSED),
        (ODD, ODD),
        (make_pod(), make_pod()),
    ],
    ids=str,
)
def test_still_heart_alone_loses_no_run(scene: Scene, pod: FakePod, answers: tuple[object, ...]) -> None:
    """One 404, one null pod, one list without it, an API that is silent or refuses."""
    unreachable(pod)
    scene.dead().pods(*answers)
    began = scene.world.clock.now()
    assert scene.look().life is Life.UNCLEAR
    assert LOOK_S <= scene.world.clock.now() - began < LOOK_S + 5


def test_api_that_takes_a_minute_to_answer_wrongly_replaces_nothing(scene: Scene) -> None:
    scene.api.on("find_pod pod1", lambda: scene.world.clock.sleep(60))
    assert scene.look().life is Life.ALIVE


def test_volume_that_cannot_be_read_is_no_silence(scene: Scene, pod: FakePod) -> None:
    assert scene.volume is not None
    scene.volume.error = OFFLINE
    scene.pods(None, make_pod(), None)
    pod.always("status.py", lambda _: LAUNCHING)
    seen = scene.look(knows_pod=True)
    assert (seen.life, seen.silence_was_read, seen.record) == (Life.UNCLEAR, False, None)


def test_without_s3_the_pod_itself_is_asked_at_its_last_known_address(
    scene: Scene, pod: FakePod
) -> None:
    scene.volume = None
    scene.pods(None, None)
    unreachable(pod)
    seen = scene.look(knows_pod=True)
    assert (seen.life, seen.silence_was_read) == (Life.LOST, False)
    assert pod.reached == [make_pod().ssh] * len(pod.reached) and len(pod.reached) >= 3


def test_without_s3_a_pod_that_answers_is_alive_though_the_api_has_it_not(
    scene: Scene, pod: FakePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.volume = None
    shelf = Volume(scene.world.clock)
    monkeypatch.setattr(sight, "ShellVolume", lambda *_: shelf)
    scene.pods(None, None)
    pod.connects = [BROKEN]
    pod.always("status.py", lambda _: RUNNING)
    seen = scene.look(knows_pod=True)
    assert seen.life is Life.ALIVE and seen.record is not None


def test_pod_that_is_up_without_the_run_has_lost_it(scene: Scene, pod: FakePod) -> None:
    scene.dead().pods(make_pod(), make_pod())
    pod.always("status.py", lambda _: IDLE)
    assert scene.look().life is Life.LOST


def test_pod_on_which_a_launch_is_under_way_is_left_alone(scene: Scene, pod: FakePod) -> None:
    scene.dead().pods(make_pod(), make_pod())
    pod.always("status.py", lambda _: LAUNCHING)
    seen = scene.look()
    assert (seen.life, seen.silent_s) == (Life.UNCLEAR, 0.0)


def test_pod_that_runs_by_the_api_s_word_and_is_silent_is_told_for_how_long(scene: Scene, pod: FakePod) -> None:
    scene.dead().pods(make_pod(), make_pod())
    unreachable(pod)
    seen = scene.look()
    assert seen.life is Life.UNCLEAR and 30 <= seen.silent_s <= 40


@pytest.mark.parametrize("missing", ["api", "s3", "keys", "heartbeat"])
def test_silence_of_which_one_sign_cannot_be_read_is_no_reason_to_stop_a_pod(
    scene: Scene, pod: FakePod, missing: str
) -> None:
    """A laptop that goes offline, or sits where only HTTPS gets out, hears nothing of a healthy pod."""
    unreachable(pod)
    scene.dead().pods(make_pod(), make_pod(), *([OFFLINE] * 2 if missing == "api" else []))
    assert scene.volume is not None
    scene.volume.error = OFFLINE if missing == "s3" else None
    scene.volume.never_beats = missing == "heartbeat"
    if missing == "keys":
        scene.volume = None
    seen = scene.look(knows_pod=True)
    assert (seen.life, seen.silent_s) == (Life.UNCLEAR, 0.0)


def test_answers_that_came_before_a_laptop_slept_say_nothing_of_the_time_after(scene: Scene) -> None:
    assert scene.volume is not None
    scene.volume.sleeps_in = 3
    scene.pods(None, None)
    assert scene.look().life is Life.ALIVE


@pytest.mark.parametrize(
    "trouble",
    [SshRefusedError("The pod does not accept your SSH key.", next_step="x"), KeyError("getpwuid(): uid not found")],
    ids=["key refused", "no user"],
)
def test_trouble_of_this_machine_is_no_silence_of_the_pod(scene: Scene, pod: FakePod, trouble: Exception) -> None:
    pod.connects = [trouble] * 100
    scene.dead().pods(make_pod(), make_pod())
    assert scene.look(knows_pod=True).silent_s == 0.0
    scene.volume = None
    scene.pods(None, None)
    assert scene.look(knows_pod=True).life is Life.UNCLEAR


def test_host_that_is_gone_and_refuses_nothing_is_not_waited_for_long(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.volume = None
    scene.pods(None, None)
    clock = scene.world.clock

    def swallowed(questions: dict[str, object], timeout_s: float) -> list[tuple[str, object]]:
        clock.sleep(min(timeout_s, 10.0))
        return [(name, TimeoutError()) for name in questions]

    monkeypatch.setattr(sight, "ask_at_once", swallowed)
    began = clock.now()
    assert scene.look(knows_pod=True).life is Life.LOST
    assert clock.now() - began <= 25, "30 s from the loss to the order of a new pod"


def test_without_s3_a_pod_that_is_up_without_the_run_has_lost_it(
    scene: Scene, pod: FakePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Volume(scene.world.clock, dies_at=0.0)
    monkeypatch.setattr(sight, "ShellVolume", lambda *_: shelf)
    scene.volume = None
    scene.pods(make_pod(), make_pod())
    pod.always("status.py", lambda _: IDLE)
    assert scene.look().life is Life.LOST
    shelf.dies_at = float("inf")
    assert scene.look().life is Life.ALIVE


def test_record_with_an_end_or_of_another_run_settles_it_without_the_api(scene: Scene) -> None:
    volume = scene.volume
    assert volume is not None
    volume.add_run(RUN, newest=True, ended_at=2.0, exit_code=0, reason="finished")
    seen = scene.look()
    assert seen.record is not None and seen.record["exit_code"] == 0
    volume.add_run("digits-2", newest=True, launched_at=5.0)
    seen = scene.look()
    assert seen.record is not None and seen.record["run_id"] == "digits-2"
    assert scene.api.calls == []


def test_end_that_comes_late_on_record_is_waited_for(scene: Scene) -> None:
    volume, clock = scene.volume, scene.world.clock
    assert volume is not None
    lookout = scene.lookout()
    sleep: Callable[[float], None] = clock.sleep

    def sleep_then_end(seconds: float) -> None:
        sleep(seconds)
        volume.add_run(RUN, newest=True, ended_at=2.0, exit_code=7, last_step=5)

    clock.sleep = sleep_then_end  # type: ignore[method-assign]
    record = lookout.read_end(8.0)
    assert record is not None and record["last_step"] == 5
    assert scene.api.calls == []


def test_end_that_never_comes_on_record_is_waited_for_as_long_as_told(scene: Scene) -> None:
    began = scene.world.clock.now()
    record: Any = scene.lookout().read_end(8.0)
    assert record["ended_at"] is None and 8 <= scene.world.clock.now() - began < 10
