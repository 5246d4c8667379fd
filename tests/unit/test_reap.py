"""Looking at billed pods, and stopping those without a live run."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from podtasks.flows import heartbeats
from podtasks.flows import reap as reap_flow
from podtasks.flows.heartbeats import read_beat
from podtasks.flows.reap import SILENCE_S, WATCH_S, Reaper
from podtasks.pure.errors import (
    ApiError,
    ApiUnreachableError,
    PodTimeoutError,
    SettingsError,
    SshRefusedError,
    TransportError,
)
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.reap import Beat, State, Verdict, Wish
from tests.unit.fake_reader import FakeReader
from tests.unit.fakes import World, make_cloud, make_pod

NOW = 1_800_000_000.0
# 2 h 46 min before that.
RENTED = "Rented by User: Fri Jan 15 2027 05:13:20 GMT+0000 (Coordinated Universal Time)"
OURS = make_pod(status_change=RENTED)
TWIN = make_pod("pod2", status_change=RENTED)
HELPER = make_pod("cpu1", env={"PODTASKS_PROJECT": "", "PODTASKS_HELPER": "demo"}, status_change=RENTED)
OTHER = make_pod("bbb", env={"PODTASKS_PROJECT": "other"}, status_change=RENTED)
FOREIGN = make_pod("zzz", env={"PODTASKS_PROJECT": ""}, status_change=RENTED)
IDLE: dict[str, Any] = {"guard": {"lease": None, "grace_left_s": None}}
TRAINING = {"guard": {"lease": {"kind": "run", "run_id": "digits-1"}}}
STOPPING = {"guard": {"lease": None, "stopping": "finished"}}
SILENCE = TransportError("The SSH link broke.", next_step="x")


@dataclass
class FakePods:
    """What each pod's programs answer, in order, the last answer again and again; an exception is raised."""

    answers: dict[str, list[Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    volumes: dict[str, FakeReader] = field(default_factory=dict)
    on_open: Callable[[], None] = lambda: None

    def open_shell(self, cloud: object, pod: Pod) -> FakePods._Shell:
        del cloud
        self.asked.append(pod.id)
        self.on_open()
        answers = self.answers[pod.id]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return self._Shell(answer)

    @dataclass
    class _Shell:
        answer: Any

        def __enter__(self) -> FakePods._Shell:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    class Programs:
        def __init__(self, shell: FakePods._Shell, pod: Pod) -> None:
            del pod
            self.shell = shell

        def ask(self, program: str, question: dict[str, Any]) -> Any:  # noqa: ANN401
            assert (program, question) == ("status.py", {"lines": 0})
            return self.shell.answer


@pytest.fixture
def pods(monkeypatch: pytest.MonkeyPatch) -> FakePods:
    """Pods behind SSH, and their volumes."""
    pods = FakePods()
    monkeypatch.setattr(reap_flow, "open_shell", pods.open_shell)
    monkeypatch.setattr(reap_flow, "PodPrograms", pods.Programs)
    monkeypatch.setattr(reap_flow, "require_login_key", lambda _: "ssh-ed25519 AAAA me")
    monkeypatch.setattr(reap_flow, "open_volume", lambda _, pod: pods.volumes.get(pod.network_volume_id))
    return pods


def make_reaper(world: World, *, everything: bool = False) -> Reaper:
    return Reaper(world.cloud(), "demo", everything, world.report, world.clock, NOW)


def states(verdicts: list[Verdict]) -> dict[str, State]:
    return {verdict.pod.id: verdict.state for verdict in verdicts}


def beating(world: World, *, until_s: float = 1e9) -> FakeReader:
    """Return a volume with a run of pod1 whose heartbeat is written anew each 5 s, until so many seconds are over."""

    class Volume(FakeReader):
        def read(self, place: str) -> bytes | None:
            if place.endswith("heartbeat"):
                beat = int(min(world.clock.now() - 1000, until_s)) // 5
                return f'{{"at": {beat * 5}, "beat": {beat}}}'.encode()
            return super().read(place)

    volume = Volume()
    volume.add_run("digits-20270115-051400-3f2a1b9", newest=True, pod={"id": "pod1"})
    return volume


# Looking


def test_pods_of_the_project_are_asked_and_no_others(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OTHER, FOREIGN, OURS, HELPER, make_pod("ccc", status=PodStatus.EXITED)])
    pods.answers = {"pod1": [TRAINING], "cpu1": [IDLE]}
    assert states(make_reaper(world).look()) == {"pod1": State.RUNNING, "cpu1": State.IDLE}
    assert sorted(pods.asked) == ["cpu1", "pod1"]
    assert world.api.orders() == [] and world.clock.sleeps == []


def test_all_pods_that_podtasks_made_are_asked_and_strangers_shown(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OTHER, FOREIGN, OURS])
    pods.answers = {"pod1": [IDLE], "bbb": [TRAINING]}
    found = states(make_reaper(world, everything=True).look())
    assert list(found.items()) == [("pod1", State.IDLE), ("bbb", State.RUNNING), ("zzz", State.STRANGER)]


def test_pods_are_asked_at_once(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS, TWIN, HELPER])
    pods.answers = {pod.id: [TRAINING] for pod in (OURS, TWIN, HELPER)}
    pods.on_open = threading.Barrier(3, timeout=20).wait  # type: ignore[assignment]  # breaks unless all three come
    assert set(states(make_reaper(world).look()).values()) == {State.RUNNING}


def test_without_billed_pods_nothing_is_asked_nor_a_key_needed(world: World) -> None:
    world.api.on("list_pods", [make_pod(status=PodStatus.EXITED)])
    assert make_reaper(world).look() == []


def test_missing_key_is_no_silence_of_all_pods(world: World, pods: FakePods, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise SettingsError(f"There is no key {path}.", next_step="x")

    monkeypatch.setattr(reap_flow, "require_login_key", refuse)
    world.api.on("list_pods", [OURS])
    with pytest.raises(SettingsError):
        make_reaper(world).look()
    assert pods.asked == []


def test_silent_pod_whose_run_s_heart_beats_is_running_and_found_so_early(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS])
    pods.answers, pods.volumes = {"pod1": [SILENCE]}, {"vol1": beating(world)}
    (verdict,) = make_reaper(world).look()
    assert (verdict.state, verdict.run_id) == (State.RUNNING, "digits-20270115-051400-3f2a1b9")
    assert 0 < sum(world.clock.sleeps) < WATCH_S


def test_heartbeat_that_a_large_checkpoint_holds_up_is_no_standstill(world: World, pods: FakePods) -> None:
    volume = beating(world, until_s=0)
    read = volume.read
    began = world.clock.now()
    volume.read = lambda place: b"late" if _is_late(world, place, began) else read(place)  # type: ignore[method-assign]
    world.api.on("list_pods", [OURS])
    pods.answers, pods.volumes = {"pod1": [SILENCE]}, {"vol1": volume}
    assert states(make_reaper(world).look()) == {"pod1": State.RUNNING}


def _is_late(world: World, place: str, began: float) -> bool:
    return place.endswith("/heartbeat") and world.clock.now() - began > 45


def test_silent_pod_whose_heart_stands_still_is_idle_after_a_second_look(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS])
    pods.answers, pods.volumes = {"pod1": [SILENCE]}, {"vol1": beating(world, until_s=0)}
    (verdict,) = make_reaper(world).look()
    assert verdict.state is State.IDLE
    assert sum(world.clock.sleeps) == pytest.approx(SILENCE_S)
    assert pods.asked == ["pod1", "pod1"], "it may answer the second time"


def test_pod_that_answers_the_second_time_is_what_it_says(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS])
    pods.answers, pods.volumes = {"pod1": [SILENCE, TRAINING]}, {"vol1": beating(world, until_s=0)}
    assert states(make_reaper(world).look()) == {"pod1": State.RUNNING}


@pytest.mark.parametrize("guard", [None, [], {"ok": False}])
def test_pod_without_an_answering_guard_is_silent_too(world: World, pods: FakePods, guard: object) -> None:
    world.api.on("list_pods", [OURS])
    pods.answers, pods.volumes = {"pod1": [{"guard": guard}]}, {"vol1": beating(world, until_s=0)}
    (verdict,) = make_reaper(world).look()
    assert (verdict.state, verdict.why[:38]) == (State.IDLE, "no answer: its guard does not answer; ")


def test_silent_pod_without_a_way_to_its_volume_is_silent_and_not_waited_for(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS])
    pods.answers = {"pod1": [SILENCE]}
    assert states(make_reaper(world).look()) == {"pod1": State.SILENT}
    assert sum(world.clock.sleeps) == 0


def test_volume_that_cannot_be_read_is_no_standstill(world: World, pods: FakePods) -> None:
    volume = beating(world, until_s=0)
    volume.error = ApiUnreachableError("The S3 API is silent.", next_step="x")
    world.api.on("list_pods", [OURS])
    pods.answers, pods.volumes = {"pod1": [SILENCE]}, {"vol1": volume}
    assert states(make_reaper(world).look()) == {"pod1": State.SILENT}


@pytest.mark.parametrize(
    "trouble", [SshRefusedError("The pod does not accept your SSH key.", next_step="x"), ValueError("odd key")]
)
def test_pod_that_lets_nobody_in_is_not_taken_for_idle(world: World, pods: FakePods, trouble: Exception) -> None:
    world.api.on("list_pods", [OURS])
    pods.answers, pods.volumes = {"pod1": [trouble]}, {"vol1": beating(world, until_s=0)}
    (verdict,) = make_reaper(world).look()
    assert verdict.state is State.SILENT and str(trouble).split(".")[0] in verdict.why


def test_pod_that_hangs_is_not_waited_for(world: World, pods: FakePods, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reap_flow, "ASK_TIMEOUT_S", 0.05)
    released = threading.Event()
    pods.on_open = released.wait  # type: ignore[assignment]
    world.api.on("list_pods", [OURS])
    pods.answers = {"pod1": [IDLE]}
    (verdict,) = make_reaper(world).look()
    released.set()
    assert verdict.state is State.SILENT and "nothing came within" in verdict.why


def test_pod_that_stops_itself_meanwhile_is_not_shown(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS, TWIN], [TWIN])
    pods.answers = {"pod1": [STOPPING], "pod2": [TRAINING]}
    assert states(make_reaper(world).look()) == {"pod2": State.RUNNING}
    assert world.report.notes == ["pod pod1 has stopped by itself meanwhile"]


def test_pod_that_wants_to_stop_and_cannot_is_idle(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS])
    pods.answers = {"pod1": [STOPPING]}
    assert states(make_reaper(world).look()) == {"pod1": State.IDLE}
    assert sum(world.clock.sleeps) == pytest.approx(WATCH_S)


# Heartbeats


def test_heartbeat_is_that_of_the_pod_s_own_run_on_a_shared_volume() -> None:
    volume = FakeReader({"runs/a-20270115-060000-3f2a1b9/heartbeat": b"ours"})
    volume.add_run("a-20270115-050000-3f2a1b9", pod={"id": "pod1"})
    volume.add_run("a-20270115-060000-3f2a1b9", pod={"id": "pod1"}, ended_at=3.0, when_done="keep")
    volume.add_run("b-20270115-070000-3f2a1b9", newest=True, pod={"id": "other"})
    assert read_beat(volume, "pod1") == Beat("a-20270115-060000-3f2a1b9", b"ours", is_kept=True)
    assert read_beat(volume, "other") == Beat("b-20270115-070000-3f2a1b9", None)
    assert read_beat(volume, "nobody's") == Beat("", None)


@pytest.mark.parametrize(
    ("record", "is_kept"),
    [
        ({"when_done": "keep"}, False),
        ({"when_done": "stop", "ended_at": 3.0}, False),
        ({"when_done": "stop", "ended_at": 3.0, "keep_failed_s": 60, "exit_code": 0}, False),
        ({"when_done": "stop", "ended_at": 3.0, "keep_failed_s": 60, "exit_code": 7}, True),
    ],
)
def test_ended_run_may_have_left_its_pod_up_on_purpose(record: dict[str, Any], is_kept: bool) -> None:
    volume = FakeReader()
    volume.add_run("a-20270115-050000-3f2a1b9", newest=True, pod={"id": "pod1"}, **record)
    assert read_beat(volume, "pod1").is_kept is is_kept


def test_volume_of_another_project_is_opened_where_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(heartbeats, "open_s3_volume", lambda cloud: opened.append(cloud))
    cloud = make_cloud(world.api, world.folder)
    heartbeats.open_volume(cloud, OURS)
    heartbeats.open_volume(cloud, make_pod(env={"PODTASKS_NETWORK_VOLUME": "vol9"}))
    assert heartbeats.open_volume(cloud, make_pod(env={"PODTASKS_NETWORK_VOLUME": ""})) is None
    assert [each.network_volume_id for each in opened] == ["vol1", "vol9"]
    assert opened[0] is cloud and opened[1].data_center is None


# Stopping


def test_idle_pods_are_stopped_helpers_deleted_and_both_confirmed(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS, HELPER]).on("stop_pod pod1", None).on("terminate_pod cpu1", None)
    world.api.on("find_pod pod1", OURS, make_pod(status=PodStatus.EXITED)).on("find_pod cpu1", None)
    pods.answers = {"pod1": [IDLE], "cpu1": [IDLE]}
    reaper = make_reaper(world)
    assert sorted(reaper.stop(reaper.look(), Wish())) == ["cpu1", "pod1"]
    assert sorted(world.report.steps) == [
        "pod cpu1 is deleted; nothing of it is billed any more",
        "pod pod1 is stopped: no GPU of it is billed any more",
    ]


@pytest.mark.parametrize(
    ("later", "why"),
    [
        (TRAINING, "run digits-1"),
        ({"guard": {"lease": {"kind": "prepare", "who": "me@here"}}}, "a launch is under way (me@here)"),
    ],
)
def test_pod_that_got_work_since_the_table_is_left(
    world: World, pods: FakePods, later: dict[str, Any], why: str
) -> None:
    world.api.on("list_pods", [OURS])
    pods.answers = {"pod1": [IDLE, later]}
    reaper = make_reaper(world)
    assert reaper.stop(reaper.look(), Wish()) == []
    assert world.api.orders() == []
    assert world.report.notes == [f"pod pod1 is left: {why}"]


def test_silent_pod_whose_heart_beats_again_since_the_table_is_left(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS])
    pods.answers, pods.volumes = {"pod1": [SILENCE]}, {"vol1": beating(world, until_s=0)}
    reaper = make_reaper(world)
    verdicts = reaper.look()
    pods.volumes["vol1"].read = beating(world).read  # type: ignore[method-assign]
    assert states(verdicts) == {"pod1": State.IDLE}
    assert reaper.stop(verdicts, Wish()) == []
    assert world.api.orders() == []


def test_silent_pod_whose_heart_stood_still_is_stopped(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS]).on("stop_pod pod1", None).on("find_pod pod1", make_pod(status=PodStatus.EXITED))
    pods.answers, pods.volumes = {"pod1": [SILENCE]}, {"vol1": beating(world, until_s=0)}
    reaper = make_reaper(world)
    assert reaper.stop(reaper.look(), Wish()) == ["pod1"]


def test_pod_that_stopped_since_the_table_is_not_stopped_again(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS], [])
    pods.answers = {"pod1": [IDLE]}
    reaper = make_reaper(world)
    assert reaper.stop(reaper.look(), Wish()) == []
    assert world.report.notes == ["pod pod1 has stopped by itself meanwhile"]


def test_every_pod_is_tried_though_another_would_not_stop(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS, TWIN]).on("stop_pod pod1", ApiUnreachableError("silent", next_step="x"))
    world.api.on("stop_pod pod2", None).on("find_pod pod2", None)
    pods.answers = {"pod1": [IDLE], "pod2": [IDLE]}
    reaper = make_reaper(world)
    with pytest.raises(ApiUnreachableError):
        reaper.stop(reaper.look(), Wish())
    assert world.api.orders() == ["stop_pod pod1", "stop_pod pod2"]
    assert world.report.steps == ["pod pod2 is stopped: no GPU of it is billed any more"]


@pytest.mark.parametrize(("reading", "is_stopped"), [(None, True), (OURS, False)])
def test_pod_that_refuses_the_order_is_stopped_only_if_it_reads_so(
    world: World, pods: FakePods, reading: Pod | None, is_stopped: bool
) -> None:
    world.api.on("list_pods", [OURS]).on("stop_pod pod1", ApiError("It is not running.", next_step="x"))
    world.api.on("find_pod pod1", reading)
    pods.answers = {"pod1": [IDLE]}
    reaper = make_reaper(world)
    verdicts = reaper.look()
    if is_stopped:
        assert reaper.stop(verdicts, Wish()) == ["pod1"]
    else:
        with pytest.raises(ApiError):
            reaper.stop(verdicts, Wish())


def test_pod_that_goes_on_running_is_not_called_stopped(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS]).on("stop_pod pod1", None).on("find_pod pod1", OURS)
    pods.answers = {"pod1": [IDLE]}
    reaper = make_reaper(world)
    with pytest.raises(PodTimeoutError, match="still reads as running"):
        reaper.stop(reaper.look(), Wish())
    assert world.report.steps == []


def test_pod_within_its_grace_time_is_stopped_when_asked_for(world: World, pods: FakePods) -> None:
    world.api.on("list_pods", [OURS]).on("stop_pod pod1", None).on("find_pod pod1", None)
    pods.answers = {"pod1": [{"guard": {"lease": None, "grace_left_s": 60.0}}]}
    reaper = make_reaper(world)
    verdicts = reaper.look()
    assert states(verdicts) == {"pod1": State.GRACE}
    assert reaper.stop(verdicts, Wish(now=True)) == ["pod1"]
