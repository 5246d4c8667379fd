"""How long the guard lets a run and its pod go on: by money, and after a failure."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time

import pytest

from tests.remote.fake_pod import FakePod, GuardClient, is_running, wait_until
from tests.remote.test_guard import PRETENDED_SUPERVISOR, a_run, first_line, hold, start_run, start_training

DOLLAR_A_SECOND = 3600.0


def kill_guard(pod: FakePod) -> None:
    """Kill the guard; what it had answered before is in its state."""
    pod.status()
    guard = pod.processes[-1]
    guard.kill()
    guard.wait()


def fail(run: GuardClient, reason: str = "failed", exit_code: int | None = 1) -> None:
    """End a run as its supervisor does."""
    assert run.ask("ended", exit_code=exit_code, reason=reason)["ok"]


# Money


def test_a_run_whose_money_is_used_up_is_asked_to_end_and_then_killed(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_OVERTIME_S="0.2")
    training = start_training(pod)
    first_line(training)
    run = start_run(pod, max_cost_usd=0.2, usd_per_hour=DOLLAR_A_SECOND, stop_grace_s=-15)
    run.ask("training", pgid=training.pid)
    assert run.read() == {"event": "end", "reason": "max_cost_usd"}
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert training.wait(timeout=10) == -signal.SIGKILL
    record = pod.record(str(pod.volume / "runs" / "r-1"))
    assert (record["reason"], record["failure"]["kind"]) == ("max_cost_usd", "money_used_up")


def test_a_frozen_supervisor_does_not_outlast_the_money(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_OVERTIME_S="0.1")
    supervisor = pod.start([sys.executable, "-c", PRETENDED_SUPERVISOR])
    first_line(supervisor)
    os.kill(supervisor.pid, signal.SIGSTOP)
    client, (launcher, token) = pod.client(), pod.prepare()
    run = a_run(pod, max_cost_usd=0.1, usd_per_hour=DOLLAR_A_SECOND, stop_grace_s=-15)
    client.ask("run", token=token, pid=supervisor.pid, run=run)
    launcher.close()
    assert supervisor.wait(timeout=10) == -signal.SIGKILL
    pod.wait_for_stop()


def test_what_is_left_of_the_money_is_told_and_counts_from_the_launch(pod: FakePod) -> None:
    pod.start_guard()
    start_run(pod, max_cost_usd=3, usd_per_hour=2, elapsed_s=3600)
    assert 0.99 < pod.status()["usd_left"] <= 1
    assert pod.status()["kept_left_s"] is None


def test_the_money_counts_over_restarts_of_the_guard(pod: FakePod) -> None:
    pod.start_guard()
    start_run(pod, max_cost_usd=3, usd_per_hour=2, elapsed_s=3600)
    kill_guard(pod)
    pod.start_guard()
    assert 0.99 < pod.status()["usd_left"] <= 1
    again = a_run(pod, max_cost_usd=3, usd_per_hour=2, elapsed_s=3700)
    assert pod.client().ask("run", again=True, pid=0, run=again) == {"ok": True}
    assert 0.99 < pod.status()["usd_left"] <= 1, "the clock that runs counts, not the supervisor's"


def test_a_guard_that_lost_its_state_counts_by_what_the_supervisor_says(pod: FakePod) -> None:
    pod.start_guard()
    again = a_run(pod, max_cost_usd=3, usd_per_hour=2, elapsed_s=3600)
    assert pod.client().ask("run", again=True, pid=0, run=again) == {"ok": True}
    assert 0.99 < pod.status()["usd_left"] <= 1


def test_the_money_of_a_run_stops_a_pod_that_was_kept_after_it(pod: FakePod) -> None:
    pod.start_guard()
    fail(start_run(pod, when_done="keep", max_cost_usd=0.5, usd_per_hour=DOLLAR_A_SECOND), "finished", 0)
    assert 0 < pod.status()["usd_left"] <= 0.5
    assert not pod.stops.exists()
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert pod.status()["stopping"] == "max_cost_usd"


def test_a_new_run_on_a_kept_pod_has_its_own_money(pod: FakePod) -> None:
    pod.start_guard()
    fail(start_run(pod, when_done="keep", max_cost_usd=0.5, usd_per_hour=DOLLAR_A_SECOND), "finished", 0)
    start_run(pod, max_cost_usd=None, usd_per_hour=DOLLAR_A_SECOND)
    time.sleep(0.7)
    status = pod.status()
    assert (status["usd_left"], status["stopping"], status["lease"]["ending"]) == (None, None, None)


def test_without_a_price_there_is_no_limit(pod: FakePod) -> None:
    pod.start_guard()
    for price in (0, 0.0, None, math.nan, -1, "free", True, 10**400):
        run = start_run(pod, when_done="keep", max_cost_usd=1, usd_per_hour=price)
        assert (pod.status()["usd_left"], pod.status()["lease"]["ending"]) == (None, None)
        fail(run, "finished", 0)
    assert (pod.directory / "guard.log").read_bytes().count(b"max_cost_usd has no effect") == 8


@pytest.mark.parametrize("name", ["max_cost_usd", "max_hours", "keep_failed_s", "elapsed_s"])
def test_a_number_of_no_use_hurts_nobody(pod: FakePod, name: str) -> None:
    pod.start_guard()
    numbers: tuple[object, ...] = (math.nan, math.inf, -1, "much", [], True, 10**400)
    for number in numbers:
        run = start_run(pod, **{"when_done": "keep", "usd_per_hour": 2, name: number})
        status = pod.status()
        assert (status["usd_left"], status["hours_left"], status["lease"]["run_id"]) == (None, None, "r-1")
        fail(run)
        status = pod.status()
        assert (status["kept_left_s"], status["stopping"], status["lease"]) == (None, None, None)


def test_a_limit_of_months_does_not_hurt_the_guard(pod: FakePod) -> None:
    guard = pod.start_guard()
    for number in (600, 8760, 1e300, 10**300, 1.7e308):
        for name, left in (("max_cost_usd", "usd_left"), ("max_hours", "hours_left")):
            run = start_run(pod, **{"when_done": "keep", "usd_per_hour": 1, name: number})
            assert pod.status()[left] > 590
            json.loads((pod.directory / "lease.json").read_text(), parse_constant=pytest.fail)
            fail(run, "finished", 0)
    assert guard.poll() is None


# Kept after a failure


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (1, "failed"),
        (137, "killed by SIGKILL, perhaps for want of memory"),
        (139, "killed by SIGSEGV"),
        (2, "environment failed"),
        (1, "supervisor failed: KeyError: 'log'"),
    ],
)
def test_a_failed_pod_is_kept(pod: FakePod, exit_code: int, reason: str) -> None:
    pod.start_guard()
    fail(start_run(pod, keep_failed_s=1000), reason, exit_code)
    assert 990 < pod.status()["kept_left_s"] <= 1000
    assert not pod.stops.exists()


@pytest.mark.parametrize(("when_done", "told"), [("stop", "stop"), ("terminate", "delete"), ("keep", "stop")])
def test_a_failed_pod_is_kept_for_its_time_and_no_hold_makes_it_longer(pod: FakePod, when_done: str, told: str) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    fail(start_run(pod, when_done=when_done, keep_failed_s=0.5))
    status = pod.status()
    assert 0 < status["kept_left_s"] <= 0.5
    assert (status["lease"], status["stopping"], status["grace_left_s"]) == (None, None, None)
    holder = hold(pod)
    assert not pod.stops.exists()
    assert pod.wait_for_stop() == [f"pod {told} pod123"]
    holder.close()


@pytest.mark.parametrize(
    ("exit_code", "reason"),
    [
        (0, "finished"),
        (143, "user"),
        (143, "SIGTERM: the pod is ending"),
        (129, "the tmux session was ended"),
        (143, "max_hours"),
        (143, "max_cost_usd"),
        (143, "stalled"),
        (None, "pod lost"),
    ],
)
def test_an_end_that_is_no_failure_keeps_no_pod(pod: FakePod, exit_code: int | None, reason: str) -> None:
    pod.start_guard()
    fail(start_run(pod, keep_failed_s=1000), reason, exit_code)
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_a_killed_supervisor_counts_as_a_failure_unless_the_run_was_asked_to_end(pod: FakePod) -> None:
    pod.start_guard()
    start_run(pod, keep_failed_s=1000).close()
    wait_until(lambda: pod.status()["kept_left_s"], "the failed pod being kept")
    run = start_run(pod, keep_failed_s=1000)
    pod.client().ask("end", reason="user")
    run.close()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_a_run_that_fails_while_it_is_asked_to_end_is_over_as_asked(pod: FakePod) -> None:
    pod.start_guard()
    run = start_run(pod, keep_failed_s=1000)
    pod.client().ask("end", reason="user")
    assert run.read()["event"] == "end"
    fail(run)
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_no_failed_pod_is_kept_for_more_than_a_day(pod: FakePod) -> None:
    pod.start_guard()
    fail(start_run(pod, keep_failed_s=1e9))
    assert 86000 < pod.status()["kept_left_s"] <= 86400


def test_a_new_run_ends_the_time_of_the_failed_one(pod: FakePod) -> None:
    pod.start_guard()
    fail(start_run(pod, keep_failed_s=0.5))
    run = start_run(pod)
    assert pod.status()["kept_left_s"] is None
    time.sleep(0.7)
    assert (pod.status()["stopping"], pod.status()["lease"]["run_id"]) == (None, "r-1")
    fail(run, "finished", 0)
    pod.wait_for_stop()


def test_a_launch_that_is_prepared_has_its_time_on_a_kept_pod_and_leaves_nothing_of_it(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    fail(start_run(pod, keep_failed_s=0.3))
    launcher, token = pod.prepare()
    assert pod.status()["kept_left_s"] > 500
    time.sleep(0.4)
    assert pod.client().ask("status", token=token)["token_holds"]
    launcher.close()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_a_launch_that_is_prepared_for_ever_does_not_keep_a_failed_pod(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="0.005")
    fail(start_run(pod, keep_failed_s=0.1))
    pod.prepare()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_the_limits_of_the_run_count_on_its_kept_pod(pod: FakePod) -> None:
    pod.start_guard()
    fail(start_run(pod, keep_failed_s=1000, max_hours=0.5 / 3600))
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert pod.status()["stopping"] == "max_hours"


def test_a_kept_pod_whose_limit_is_reached_ends_with_what_was_to_be_done(pod: FakePod) -> None:
    pod.start_guard()
    fail(start_run(pod, keep_failed_s=1000, max_hours=0.5 / 3600, when_done="terminate"))
    assert pod.wait_for_stop() == ["pod delete pod123"]


def test_a_launcher_that_does_something_else_meanwhile_leaves_no_time_on_a_kept_pod_either(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    fail(start_run(pod, keep_failed_s=300))
    launcher, _ = pod.prepare()
    assert launcher.ask("follow", run_id="r-1")["ok"]
    assert pod.status()["kept_left_s"] > 500
    launcher.close()
    wait_until(lambda: pod.status()["lease"] is None, "the lease")
    assert pod.status()["kept_left_s"] < 300


@pytest.mark.parametrize("when_done", ["stop", "terminate"])
def test_a_failed_pod_is_kept_over_restarts_of_the_guard_and_not_for_longer(pod: FakePod, when_done: str) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    fail(start_run(pod, keep_failed_s=1000, when_done=when_done))
    left_s = pod.status()["kept_left_s"]
    kill_guard(pod)
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert left_s - 10 < pod.status()["kept_left_s"] < left_s
    assert (pod.status()["grace_left_s"], pod.status()["stopping"]) == (None, None)
    prepared, _ = pod.prepare()
    kill_guard(pod)
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert pod.status()["kept_left_s"] < left_s, "what a launch had is not remembered"
    prepared.close()


def test_a_kept_pod_whose_guard_dies_at_the_end_of_its_time_stops_with_what_was_to_be_done(pod: FakePod) -> None:
    pod.start_guard()
    fail(start_run(pod, keep_failed_s=0.3, when_done="terminate"))
    kill_guard(pod)
    time.sleep(0.3)
    pod.start_guard(PODTASKS_RECONNECT_S="0.2")
    assert pod.wait_for_stop() == ["pod delete pod123"]


def test_a_guard_killed_before_it_heard_of_the_failure_keeps_the_pod_all_the_same(pod: FakePod) -> None:
    pod.start_guard()
    run = start_run(pod, keep_failed_s=1000)
    assert run.ask("finishing", exit_code=3, reason="failed")["ok"]
    kill_guard(pod)
    run.close()
    pod.start_guard(PODTASKS_RECONNECT_S="0.1")
    wait_until(lambda: pod.status()["kept_left_s"], "the failed pod being kept")
    assert pod.record(str(pod.volume / "runs" / "r-1"))["exit_code"] == 3


def test_what_a_guard_of_an_earlier_version_does_not_know_is_not_among_its_deadlines(pod: FakePod) -> None:
    pod.start_guard()
    fail(start_run(pod, keep_failed_s=1000, max_cost_usd=100, usd_per_hour=1, max_hours=10))
    state = json.loads((pod.directory / "lease.json").read_text())
    assert set(state["deadlines"]) <= {"grace", "hours", "kill"}
    assert is_running(pod.processes[0].pid)
