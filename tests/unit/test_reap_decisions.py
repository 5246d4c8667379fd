"""Which pods count as idle, and how that is told."""

from __future__ import annotations

from typing import Any

import pytest

from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.reap import (
    BOOT_MARGIN_S,
    Beat,
    Pulse,
    Sight,
    State,
    Verdict,
    Wish,
    age_s,
    choose_pods,
    compare,
    judge,
    needs_pulse,
)
from podtasks.pure.reap_text import build_question, build_rows, describe_reap, describe_why, explain_rest
from tests.unit.fakes import make_pod

NOW = 1_800_000_000.0
RENTED = "Rented by User: Fri Jan 15 2027 05:13:20 GMT+0000 (Coordinated Universal Time)"
HOUR = 3600.0
HELPER = make_pod("cpu1", env={"PODTASKS_PROJECT": "", "PODTASKS_HELPER": "demo"}, gpu_count=0, usd_per_hour=0.08)
FOREIGN = make_pod("zzz", env={"PODTASKS_PROJECT": ""}, name="somebody's")
OTHER = make_pod("bbb", env={"PODTASKS_PROJECT": "other"})
RUN_LEASE = {"kind": "run", "who": "me", "run_id": "digits-1", "ending": None}
BEAT = Beat("digits-1", b'{"at": 1.0, "beat": 7}')


def guarded(guard: dict[str, Any], pod: Pod | None = None, *, again: bool = False) -> Verdict:
    return judge(Sight(pod or make_pod(), 2 * HOUR, {"ok": True, **guard}, is_seen_again=again))


def silent(pod: Pod | None = None, up_s: float | None = 2 * HOUR, **more: Any) -> Sight:  # noqa: ANN401
    return Sight(pod or make_pod(), up_s, None, "The SSH link broke.", **more)


# Which pods


def test_only_billed_pods_with_the_project_s_stamp_are_looked_at() -> None:
    stopped = make_pod("ccc", status=PodStatus.EXITED)
    assert choose_pods([OTHER, FOREIGN, stopped, make_pod(), HELPER], "demo", everything=False) == [HELPER, make_pod()]


def test_all_pods_of_the_account_are_looked_at_when_asked_the_project_s_first_and_strangers_last() -> None:
    pods = [FOREIGN, OTHER, make_pod(), make_pod("zzy", status=PodStatus.TERMINATED)]
    assert choose_pods(pods, "demo", everything=True) == [make_pod(), OTHER, FOREIGN]


def test_project_of_no_name_does_not_take_every_stranger_for_its_own() -> None:
    assert choose_pods([FOREIGN], "demo", everything=False) == []
    assert judge(Sight(FOREIGN, 99 * HOUR)).state is State.STRANGER


def test_stranger_is_never_stopped_whatever_is_wished() -> None:
    verdict = judge(Sight(FOREIGN, 99 * HOUR))
    assert "RunPod's console" in verdict.why
    assert not Wish(now=True, silent=True).covers(verdict)


# What the guard says


@pytest.mark.parametrize(
    ("guard", "state", "why"),
    [
        ({"lease": RUN_LEASE}, State.RUNNING, "run digits-1"),
        ({"lease": {**RUN_LEASE, "ending": "user"}}, State.RUNNING, "run digits-1, which is ending (user)"),
        ({"lease": RUN_LEASE, "stopping": "x", "grace_left_s": 3}, State.RUNNING, "run digits-1"),
        ({"lease": {"kind": "prepare", "who": "a@b"}}, State.LAUNCHING, "a launch is under way (a@b)"),
        ({"lease": {}}, State.LAUNCHING, "a launch is under way (unnamed)"),
        ({"holds": 2, "holders": ["inv ssh", ""], "grace_left_s": None}, State.HELD, "in use: inv ssh"),
        ({"holds": 1, "holders": None}, State.HELD, "in use: inv ssh or a transfer"),
        ({"stopping": "max_hours"}, State.STOPPING, "it stops itself: max_hours"),
        ({"grace_left_s": 60.0}, State.GRACE, "no run on it; stops itself when its grace time is over"),
        (
            {"kept_left_s": 600, "hours_left": 3, "last_run_id": "d-1"},
            State.KEPT,
            "kept for a look after run d-1 failed",
        ),
        ({"hours_left": 3, "last_run_id": "d-1"}, State.KEPT, "kept after run d-1 (when_done: keep)"),
        ({"lease": None, "grace_left_s": None}, State.IDLE, "nothing runs on it, and its guard would not stop it"),
    ],
)
def test_pod_is_what_its_guard_says(guard: dict[str, Any], state: State, why: str) -> None:
    verdict = guarded(guard)
    assert (verdict.state, verdict.why) == (state, why)


@pytest.mark.parametrize("state", [s for s in State if s is not State.IDLE])
def test_only_an_idle_pod_is_stopped_unless_more_is_wished(state: State) -> None:
    verdict = Verdict(silent(), state, "")
    assert not Wish().covers(verdict)
    assert Wish(now=True).covers(verdict) is (state in (State.KEPT, State.GRACE))
    assert Wish(silent=True).covers(verdict) is (state is State.SILENT)
    assert Wish().covers(Verdict(silent(), State.IDLE, ""))


def test_pod_that_stops_itself_counts_as_idle_when_it_has_not_by_the_second_look() -> None:
    assert not Wish(now=True, silent=True).covers(guarded({"stopping": "max_hours"}))
    again = guarded({"stopping": "max_hours"}, again=True)
    assert (again.state, again.why) == (State.IDLE, "it is to stop (max_hours) and does not get there")


@pytest.mark.parametrize(
    ("guard", "ends_in_s"),
    [
        ({"grace_left_s": 60}, 60.0),
        ({"hours_left": 2}, 2 * HOUR),
        ({"hours_left": 2, "usd_left": 0.69}, HOUR),
        ({"kept_left_s": 1800, "usd_left": 0.069}, 360.0),
        ({"lease": RUN_LEASE, "hours_left": 1, "usd_left": 100}, HOUR),
        ({"lease": RUN_LEASE, "hours_left": -1}, 0.0),
        ({}, None),
    ],
)
def test_pod_ends_by_itself_at_the_bound_that_comes_first(guard: dict[str, Any], ends_in_s: float | None) -> None:
    assert guarded(guard).ends_in_s == (None if ends_in_s is None else pytest.approx(ends_in_s))


def test_free_pod_never_uses_its_money_up() -> None:
    assert guarded({"hours_left": 1, "usd_left": 1.0}, make_pod(usd_per_hour=0.0)).ends_in_s == HOUR


# Pods that do not answer


@pytest.mark.parametrize("up_s", [0.0, 15 * 60.0, 15 * 60 + BOOT_MARGIN_S - 1])
def test_young_pod_without_an_answer_is_booting_and_nobody_looks_for_its_pulse(up_s: float) -> None:
    sight = silent(up_s=up_s)
    assert judge(sight).state is State.BOOTING
    assert not needs_pulse(sight)


def test_booting_time_counts_from_the_pod_s_own_grace_time() -> None:
    patient = make_pod(env={"PODTASKS_GRACE_MINUTES": "60"})
    assert judge(silent(patient, up_s=64 * 60.0)).state is State.BOOTING
    assert judge(silent(patient, up_s=66 * 60.0)).state is State.SILENT
    assert judge(silent(make_pod(env={"PODTASKS_GRACE_MINUTES": "x"}), up_s=21 * 60.0)).state is State.SILENT


def test_old_pod_without_an_answer_is_idle_only_when_its_heart_is_seen_standing_still() -> None:
    assert needs_pulse(silent())
    assert judge(silent(beat=BEAT)).state is State.SILENT
    assert judge(silent(beat=BEAT, pulse=Pulse.BEATS)).state is State.RUNNING
    still = judge(silent(beat=BEAT, pulse=Pulse.STILL))
    assert (still.state, still.run_id) == (State.IDLE, "digits-1")
    assert still.why == "no answer: The SSH link broke; the heartbeat of run digits-1 stands still"


def test_old_silent_pod_that_never_had_a_run_is_idle() -> None:
    verdict = judge(silent(beat=Beat("", None), pulse=Pulse.STILL))
    assert (verdict.state, verdict.why.split("; ")[1]) == (State.IDLE, "its volume has no run of it")


@pytest.mark.parametrize(
    ("sight", "why"),
    [
        (silent(pulse=Pulse.STILL), "its heartbeat cannot be read (no S3 API or keys)"),
        (silent(HELPER, beat=BEAT, pulse=Pulse.STILL), "it may be copying files"),
        (silent(is_refused=True, beat=BEAT, pulse=Pulse.STILL), "it may be busy"),
        (silent(up_s=None, beat=BEAT, pulse=Pulse.STILL), "since when it runs is not known"),
        (
            silent(make_pod(env={"PODTASKS_NETWORK_VOLUME": ""})),
            "it has no network volume to look for its heartbeat on",
        ),
        (
            silent(beat=Beat("d-1", b"x", is_kept=True), pulse=Pulse.STILL),
            "run d-1 has ended, its pod may be kept for that",
        ),
    ],
)
def test_silence_alone_is_one_signal_and_stops_nothing(sight: Sight, why: str) -> None:
    verdict = judge(sight)
    assert verdict.state is State.SILENT
    assert verdict.why == f"no answer: The SSH link broke; {why}"


def test_two_readings_say_something_only_where_both_were_possible() -> None:
    assert compare(BEAT, BEAT) is Pulse.STILL
    assert compare(BEAT, Beat("digits-1", b'{"at": 2.0, "beat": 8}')) is Pulse.BEATS
    assert compare(BEAT, Beat("digits-2", BEAT.data)) is Pulse.BEATS, "a new run"
    assert compare(None, BEAT) is compare(BEAT, None) is compare(None, None) is Pulse.UNKNOWN


def test_age_is_what_runpod_says() -> None:
    assert age_s(make_pod(status_change=RENTED), NOW) == 10_000
    assert age_s(make_pod(status_change=RENTED), NOW - 20_000) == 0
    assert age_s(make_pod(status_change="Rented by User"), NOW) is None


# Words


def test_table_says_what_is_done_with_each_pod_and_why() -> None:
    sights = [
        Sight(make_pod(), 2 * HOUR, {"lease": RUN_LEASE, "hours_left": 1}),
        Sight(HELPER, None, {}),
        Sight(OTHER, 60.0, {"grace_left_s": 840}),
        Sight(FOREIGN, None),
    ]
    verdicts = [judge(sight) for sight in sights]
    assert build_rows(verdicts, Wish()) == [
        ["pod1", "demo", "1 x RTX 4090", "$0.69", "2 h 0 min", "$1.38", "running", "-",
         "ends at the latest in 60 min: run digits-1"],
        ["cpu1", "demo", "CPU", "$0.08", "?", "?", "idle", "delete",
         "nothing runs on it, and its guard would not stop it"],
        ["bbb", "other", "1 x RTX 4090", "$0.69", "60 s", "$0.01", "grace", "-",
         "ends in 14 min: no run on it; stops itself when its grace time is over"],
        ["zzz", "somebody's", "1 x RTX 4090", "$0.69", "?", "?", "stranger", "-",
         "not made by podtasks: RunPod's console stops it, under Pods"],
    ]  # fmt: skip
    assert build_rows(verdicts, Wish(now=True))[2][7] == "stop"
    assert build_question([verdicts[0], verdicts[1]]) == "Stop pod1 and delete cpu1, which only copies files?"
    assert build_question([verdicts[1]]) == "Delete cpu1, which only copies files?"
    assert [text.split()[-1] for text in explain_rest(verdicts, Wish())] == ["once", "here"]
    assert explain_rest(verdicts[:2], Wish()) == []
    assert describe_why(guarded({"stopping": "x"})) == "it stops itself: x"


def test_document_has_every_pod_and_what_became_of_it() -> None:
    verdicts = [judge(Sight(make_pod(), HOUR, {})), judge(Sight(FOREIGN, None))]
    told = describe_reap("RunPod", NOW, verdicts, Wish(), ["pod1"])
    assert told["stopped"] == ["pod1"]
    first, second = told["pods"]
    assert (first["state"], first["is_to_stop"], first["is_stopped"], first["spent_usd"]) == ("idle", True, True, 0.69)
    assert (second["project"], second["is_to_stop"], second["up_s"]) == (None, False, None)
