"""Streaming a run's log: one test or more for each numbered rule of podtasks/flows/follow.py."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.connect import build_login
from podtasks.flows.follow import RECONNECT_LIMIT_S, REST_LIMIT_S, SILENCE_LIMIT_S, LogView, Outcome
from podtasks.flows.launched import Launched
from podtasks.flows.train import watch
from podtasks.pure.errors import (
    ApiUnreachableError,
    OutcomeUnknownError,
    RemoteCommandError,
    SshRefusedError,
    TransportError,
)
from podtasks.pure.pod import Pod, PodStatus, SshEndpoint
from podtasks.pure.run import Run
from tests.unit.fake_pod import ALIVE, BROKEN, OTHER_MACHINE, FakePod, FakeProcess, Piece, Silence, ended
from tests.unit.fakes import STOPPED, World, make_pod

START = 170
RUN = Run("digits-1", "/workspace/runs/digits-1", "/workspace/logs/current.log", START, "stop", "/workspace/demo/out")
LOG = b"\n== 1 ==\nstep 1\rstep 2\r\n\xff\xfe{}\n"
END = START + len(LOG)
OFFLINE = ApiUnreachableError("RunPod gave no usable answer.", next_step="try again in a minute")


class Screen:
    """One view of the run, what it showed, and its copy."""

    def __init__(self, world: World, copy_path: Path, pod: Pod | None = None) -> None:
        self.world = world
        self.shown = b""
        self.begun = 0
        self.copy_path = copy_path
        self.on_show: Callable[[], None] = lambda: None
        pod = pod or make_pod()
        self.view = LogView(
            world.cloud(),
            pod,
            build_login(world.cloud(), pod),
            RUN,
            on_begin=self._begin,
            show=self._show,
            copy_path=copy_path,
            report=world.report,
            clock=world.clock,
        )

    def follow(self) -> Outcome:
        return self.view.follow()

    def _begin(self) -> None:
        self.begun += 1

    def _show(self, log: bytes) -> None:
        assert log
        self.on_show()
        self.shown += log


@pytest.fixture
def screen(world: World, tmp_path: Path) -> Screen:
    copy_path = tmp_path / "output.log"
    copy_path.touch()
    return Screen(world, copy_path)


def links(*scripts: tuple[Piece, ...]) -> list[FakeProcess]:
    """Return one follower for each link, with what arrives over it."""
    return [FakeProcess(*script) for script in scripts]


def log(data: bytes) -> tuple[bytes, bytes]:
    return data, b""


def offsets(pod: FakePod) -> list[int]:
    return [question["offset"] for question in pod.questions("follow_log.py")]


def runs_on(world: World) -> None:
    """Let the API say that the pod still runs."""
    world.api.on("find_pod pod1", make_pod())


# 1. Every byte exactly once and in order


def test_stream_begins_where_the_run_began(world: World, pod: FakePod, screen: Screen) -> None:
    pod.on("follow_log.py", *links((ALIVE, log(LOG), ended(0, END))))
    assert screen.follow() == Outcome(0, "")
    assert screen.shown == LOG
    assert pod.questions("follow_log.py") == [{"run_dir": RUN.run_dir, "log": RUN.log, "offset": START}]
    assert world.api.calls == [], "while the link holds, the API is left alone"
    assert world.report.notes == []


@pytest.mark.parametrize("cut", range(len(LOG) + 1))
def test_link_that_breaks_at_any_byte_costs_none_and_doubles_none(
    world: World, pod: FakePod, screen: Screen, cut: int
) -> None:
    runs_on(world)
    before = [log(LOG[:cut])] if cut else []
    after = [log(LOG[cut:])] if cut < len(LOG) else []
    pod.on("follow_log.py", *links((ALIVE, *before, BROKEN), (ALIVE, *after, ended(0, END))))
    assert screen.follow() == Outcome(0, "")
    assert screen.shown == LOG
    assert screen.copy_path.read_bytes() == LOG
    assert offsets(pod) == [START, START + cut]


@pytest.mark.parametrize("cut", range(len(ended(3, END)[1])))
def test_link_that_breaks_within_the_news_of_the_end_gives_no_half_outcome(
    world: World, pod: FakePod, screen: Screen, cut: int
) -> None:
    runs_on(world)
    news = ended(3, END)[1]
    pod.on("follow_log.py", *links((log(LOG), (b"", news[:cut]), BROKEN), (ALIVE, ended(3, END))))
    assert screen.follow() == Outcome(3, "")
    assert screen.shown == LOG
    assert offsets(pod) == [START, END]


def test_every_connection_breaks_and_each_brings_a_byte(world: World, pod: FakePod, screen: Screen) -> None:
    runs_on(world)
    pieces = [(log(LOG[at : at + 1]), BROKEN) for at in range(len(LOG))]
    pod.on("follow_log.py", *links(*pieces, (ALIVE, ended(0, END))))
    assert screen.follow() == Outcome(0, "")
    assert screen.shown == LOG
    assert pod.open_shells() == 0, "a link that broke is let go of"


# 2. Bytes as they are


def test_bytes_are_passed_on_as_they_are_in_the_pieces_they_came_in(pod: FakePod, screen: Screen) -> None:
    data = bytes(range(256)) * 2 + b'{"event": "ended", "exit_code": 1}\n\r\r'
    pieces = [log(data[at : at + 7]) for at in range(0, len(data), 7)]
    pod.on("follow_log.py", *links((ALIVE, *pieces, ended(0, START + len(data)))))
    assert screen.follow() == Outcome(0, ""), "what the training prints is never taken for the pod's word"
    assert screen.shown == data


# 3. The end


@pytest.mark.parametrize("exit_code", [0, 1, 137, None])
def test_result_is_the_runs_exit_code_and_reason(pod: FakePod, screen: Screen, exit_code: int | None) -> None:
    pod.on("follow_log.py", *links((log(LOG), ended(exit_code, END, "pod lost"))))
    assert screen.follow() == Outcome(exit_code, "pod lost")


def test_stream_ends_only_when_the_last_byte_was_shown_and_then_lets_the_pod_stop(pod: FakePod, screen: Screen) -> None:
    # Standard error may overtake standard output on its way.
    process = FakeProcess(ended(0, END), log(LOG[:5]), ALIVE, log(LOG[5:]))
    pod.on("follow_log.py", process)
    screen.on_show = lambda: None if not process.sent else pytest.fail("the pod was let go before the last byte")
    assert screen.follow() == Outcome(0, "")
    assert screen.shown == LOG
    assert process.sent == b"\n"


def test_news_of_the_end_in_pieces_and_between_other_texts_is_heard(pod: FakePod, screen: Screen) -> None:
    news = b"bash: warning: setlocale\n[]\n" + ALIVE[1] + ended(5, END)[1] + ALIVE[1]
    pieces = [(b"", news[at : at + 3]) for at in range(0, len(news), 3)]
    pod.on("follow_log.py", *links((log(LOG), *pieces)))
    assert screen.follow() == Outcome(5, "")


def test_run_that_left_no_log_ends_too(pod: FakePod, screen: Screen) -> None:
    pod.on("follow_log.py", *links((ALIVE, ended(None, None, "pod lost"))))
    assert screen.follow() == Outcome(None, "pod lost")
    assert screen.shown == b""


def test_outcome_is_kept_when_the_acknowledgement_fails(world: World, pod: FakePod, screen: Screen) -> None:
    pod.on("follow_log.py", FakeProcess(log(LOG), ended(7, END), on_send=BROKEN))
    assert screen.follow() == Outcome(7, "")
    assert world.api.calls == []
    assert world.report.notes == []


@pytest.mark.parametrize("how", [BROKEN, None, Silence(60)])
def test_link_that_breaks_before_the_last_bytes_came_is_made_anew_after_the_end(
    world: World, pod: FakePod, screen: Screen, how: Piece
) -> None:
    runs_on(world)
    pod.on("follow_log.py", *links((log(LOG[:9]), ended(7, END), how), (log(LOG[9:]), ended(7, END))))
    assert screen.follow() == Outcome(7, "")
    assert screen.shown == LOG
    assert len(world.report.notes) == 1
    assert world.report.notes[0].endswith("Reconnecting; the run has ended.")


LATE_NOTE = "the link broke before the log's last bytes came; the volume has them"


def test_outcome_is_kept_when_the_pod_stops_before_the_last_bytes_came(
    world: World, pod: FakePod, screen: Screen
) -> None:
    world.api.on("find_pod pod1", STOPPED)
    pod.on("follow_log.py", *links((log(LOG[:9]), ended(7, END), BROKEN)))
    assert screen.follow() == Outcome(7, "")
    assert screen.shown == LOG[:9]
    assert world.report.notes[1:] == [LATE_NOTE]


def test_outcome_is_kept_when_the_last_bytes_never_come(world: World, pod: FakePod, screen: Screen) -> None:
    runs_on(world)
    pod.always("follow_log.py", lambda _: FakeProcess(ended(7, END), BROKEN))
    began = world.clock.now()
    assert screen.follow() == Outcome(7, "")
    assert REST_LIMIT_S <= world.clock.now() - began < REST_LIMIT_S + 5
    assert screen.shown == b""
    assert world.report.notes[1:] == [LATE_NOTE]


# 4. A link that breaks, or is silent


@pytest.mark.parametrize("how", [BROKEN, None, Silence(SILENCE_LIMIT_S + 1)])
def test_link_is_made_anew_from_the_last_byte(world: World, pod: FakePod, screen: Screen, how: Piece) -> None:
    runs_on(world)
    pod.on("follow_log.py", *links((log(LOG[:9]), how), (log(LOG[9:]), ended(0, END))))
    assert screen.follow() == Outcome(0, "")
    assert screen.shown == LOG
    assert offsets(pod) == [START, START + 9]
    assert len(world.report.notes) == 1
    assert world.report.notes[0].endswith("Reconnecting; the training goes on.")


def test_silence_is_longer_than_three_heartbeats(world: World, pod: FakePod, screen: Screen) -> None:
    three_beats_late = (ALIVE, Silence(15.5), ALIVE, Silence(15.5), log(LOG), ended(0, END))
    pod.on("follow_log.py", *links(three_beats_late))
    assert screen.follow() == Outcome(0, "")
    assert world.report.notes == [], "a link that is only slow is no broken one"
    assert set(pod.processes[0].timeouts) == {16.0}


def test_new_link_goes_to_the_port_that_the_pod_has_now(world: World, pod: FakePod, screen: Screen) -> None:
    moved = SshEndpoint("203.0.113.9", 41999)
    world.api.on("find_pod pod1", make_pod(ssh=None), make_pod(ssh=moved))
    pod.on("follow_log.py", *links((ALIVE, BROKEN), (log(LOG), ended(0, END))))
    assert screen.follow() == Outcome(0, "")
    assert pod.reached == [make_pod().ssh, moved]


@pytest.mark.parametrize(
    "error",
    [OTHER_MACHINE, BROKEN, SshRefusedError("The pod does not accept your SSH key.", next_step="x")],
)
def test_pod_out_of_reach_ends_the_stream_after_the_limit_with_one_note(
    world: World, pod: FakePod, screen: Screen, error: TransportError
) -> None:
    runs_on(world)
    pod.on("follow_log.py", *links((log(LOG), BROKEN)))
    pod.connects = [None, *[error] * 1000]
    began = world.clock.now()
    with pytest.raises(OutcomeUnknownError, match=r"has not answered on SSH for 300 s") as caught:
        screen.follow()
    assert RECONNECT_LIMIT_S < world.clock.now() - began < RECONNECT_LIMIT_S + 10
    assert max(world.clock.sleeps) == 5.0
    assert len(pod.reached) < 80
    assert len(world.report.notes) == 1
    assert "It is billed" in caught.value.means
    assert world.api.orders() == []


def test_other_machine_that_answers_is_told_and_tried_past(world: World, pod: FakePod, screen: Screen) -> None:
    runs_on(world)
    pod.connects = [OTHER_MACHINE, OTHER_MACHINE, None]
    pod.on("follow_log.py", *links((log(LOG), ended(0, END))))
    assert screen.follow() == Outcome(0, "")
    assert world.report.notes == ["The machine that answered is not this pod. Reconnecting; the training goes on."]


def quiet(seconds: float) -> list[Piece]:
    """Return what a link gives while a training prints nothing for so long."""
    return [piece for _ in range(int(seconds / 5)) for piece in (Silence(5), ALIVE)]


def test_breaks_far_apart_are_several_outages_though_the_training_said_nothing_between(
    world: World, pod: FakePod, screen: Screen
) -> None:
    runs_on(world)
    hour = (ALIVE, *quiet(3600), BROKEN)
    pod.on("follow_log.py", *links(hour, hour, hour, (log(LOG), ended(0, END))))
    assert screen.follow() == Outcome(0, "")
    assert len(world.report.notes) == 3


def test_program_on_the_pod_that_fails_each_time_is_given_up(world: World, pod: FakePod, screen: Screen) -> None:
    runs_on(world)
    pod.always("follow_log.py", lambda _: FakeProcess(ALIVE, (b"", b"OSError: Stale file handle\n"), None))
    with pytest.raises(OutcomeUnknownError, match="300 s"):
        screen.follow()
    assert len(world.report.notes) == 1


def test_failure_that_no_new_link_mends_is_told_at_once(pod: FakePod, screen: Screen) -> None:
    pod.on("follow_log.py", RemoteCommandError("the upload failed on the pod: disk full", next_step="x"))
    with pytest.raises(RemoteCommandError, match="disk full"):
        screen.follow()


# 5. While the link is down


@pytest.mark.parametrize(
    ("reading", "says"),
    [
        (STOPPED, r"is stopped \(Rented by User\)"),
        (make_pod(status=PodStatus.TERMINATED), "is stopped"),
        (None, "is no longer there"),
    ],
)
def test_pod_that_is_gone_ends_the_stream_and_the_log_is_named(
    world: World, pod: FakePod, screen: Screen, reading: Pod | None, says: str
) -> None:
    world.api.on("find_pod pod1", make_pod(), reading)
    pod.on("follow_log.py", *links((log(LOG[:9]), BROKEN)))
    pod.connects = [None, BROKEN]
    with pytest.raises(OutcomeUnknownError, match=says) as caught:
        screen.follow()
    assert screen.shown == LOG[:9]
    assert RUN.log in caught.value.means
    assert world.api.calls == ["find_pod pod1"] * 2


def test_api_that_does_not_answer_says_nothing_of_the_pod(world: World, pod: FakePod, screen: Screen) -> None:
    world.api.on("find_pod pod1", OFFLINE, OFFLINE, make_pod())
    pod.on("follow_log.py", *links((log(LOG[:9]), BROKEN), (log(LOG[9:]), ended(0, END))))
    pod.connects = [None, BROKEN, BROKEN, None]
    assert screen.follow() == Outcome(0, "")
    assert screen.shown == LOG
    assert len(world.report.notes) == 1


def test_machine_that_stays_offline_gives_up_after_the_limit(world: World, pod: FakePod, screen: Screen) -> None:
    world.api.on("find_pod pod1", OFFLINE)
    pod.on("follow_log.py", *links((log(LOG), BROKEN)))
    pod.connects = [None, *[BROKEN] * 1000]
    with pytest.raises(OutcomeUnknownError, match="300 s"):
        screen.follow()


# 6. Ctrl+C


def test_interrupt_ends_the_view_and_nothing_else(world: World, pod: FakePod, screen: Screen) -> None:
    process = FakeProcess(log(LOG[:9]), KeyboardInterrupt())
    pod.on("follow_log.py", process)
    with pytest.raises(KeyboardInterrupt):
        screen.follow()
    assert process.sent == b"", "nothing is asked of the pod"
    assert world.api.calls == []
    assert screen.copy_path.read_bytes() == LOG[:9]
    assert pod.open_shells() == 0


# 7. The copy


def test_two_views_of_one_run_make_one_copy(world: World, pod: FakePod, tmp_path: Path) -> None:
    copy_path = tmp_path / "output.log"
    copy_path.touch()
    early, late = Screen(world, copy_path), Screen(world, copy_path)
    pod.on("follow_log.py", *links((log(LOG[:12]), KeyboardInterrupt()), (log(LOG[:5]), log(LOG[5:]), ended(0, END))))
    with pytest.raises(KeyboardInterrupt):
        early.follow()
    assert late.follow() == Outcome(0, "")
    assert late.shown == LOG
    assert copy_path.read_bytes() == LOG


def test_two_views_at_once_make_one_copy(world: World, pod: FakePod, tmp_path: Path) -> None:
    copy_path = tmp_path / "output.log"
    copy_path.touch()
    first, second = Screen(world, copy_path), Screen(world, copy_path)
    pod.on("follow_log.py", *links((log(LOG[:12]), log(LOG[12:]), ended(0, END)), (log(LOG), ended(0, END))))
    watched: list[Outcome] = []

    def look_too() -> None:
        first.on_show = lambda: None
        watched.append(second.follow())

    first.on_show = look_too
    watched.append(first.follow())
    assert watched == [Outcome(0, "")] * 2
    assert first.shown == second.shown == copy_path.read_bytes() == LOG


def test_full_disk_stops_the_copy_and_not_the_stream(
    world: World, pod: FakePod, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.on("follow_log.py", *links((log(LOG[:9]), log(LOG[9:20]), log(LOG[20:]), ended(0, END))))

    def full(*_: Any, **__: Any) -> None:  # noqa: ANN401
        raise OSError(errno.ENOSPC, "No space left on device")

    screen.on_show = lambda: monkeypatch.setattr("builtins.open", full) if screen.shown else None
    assert screen.follow() == Outcome(0, "")
    monkeypatch.undo()
    assert screen.shown == LOG
    assert screen.copy_path.read_bytes() == LOG[:9]
    assert world.report.notes == ["no copy of the log is kept here: [Errno 28] No space left on device"]


def test_watching_notes_the_outcome_beside_the_copy_and_lets_go_of_the_launch(
    world: World, pod: FakePod, tmp_path: Path
) -> None:
    files = ProjectFiles(tmp_path / "project")
    files.root.mkdir()
    launch_shell = pod.make_shell(SshEndpoint("203.0.113.7", 40022), build_login(world.cloud(), make_pod()))
    launch_shell.connect()
    pod.on("follow_log.py", *links((ALIVE, log(LOG), ended(3, END, "out of memory"))))
    shown: list[bytes] = []
    launched = Launched(make_pod(), RUN, launch_shell)  # type: ignore[arg-type]
    assert watch(launched, world.cloud(), files, shown.append, world.report, world.clock) == Outcome(3, "out of memory")
    assert shown == [LOG]
    assert not launch_shell.is_open
    folder = files.run_folder(RUN.run_id)
    assert (folder / "output.log").read_bytes() == LOG
    record = json.loads((folder / "run.json").read_text())
    assert (record["exit_code"], record["reason"]) == (3, "out of memory")


# 8. What is shown


def test_only_the_log_is_shown(world: World, pod: FakePod, screen: Screen) -> None:
    runs_on(world)
    noise = (b"", b"bash: warning: setlocale\n" + ALIVE[1] + b'{"event": "truncated", "size": 1}\n')
    pod.on("follow_log.py", *links((noise, log(LOG[:9]), noise, BROKEN), (noise, log(LOG[9:]), ended(0, END))))
    assert screen.follow() == Outcome(0, "")
    assert screen.shown == LOG
    assert len(world.report.notes) == 1


# The launch's connection, which keeps a short run's pod until its log is followed


def test_launch_is_let_go_only_once_the_pod_says_that_it_follows(pod: FakePod, screen: Screen) -> None:
    begun: list[int] = []

    def look() -> tuple[bytes, bytes]:
        begun.append(screen.begun)
        return ALIVE

    class Watched(FakeProcess):
        def read(self, timeout_s: float) -> tuple[bytes, bytes] | None:
            look()
            return super().read(timeout_s)

    pod.on("follow_log.py", Watched((b"", b"bash: warning: setlocale\n"), ALIVE, log(LOG), ended(0, END)))
    screen.follow()
    assert begun[:2] == [0, 0], "sshd's noise is not the pod's word"
    assert begun[2] > 0
