"""What is done about a run that ended or is lost: done, again, or given up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podtasks.pure.chain import Chain, FailedAt, parse_chain
from podtasks.pure.recovery import Done, GiveUp, Relaunch, Wait, decide, describe_use
from podtasks.pure.run_facts import Ending, RunFacts, classify, read_facts, with_outcome
from podtasks.pure.signs import Life

CHAIN = Chain("first", 0, 0.0, 0.0, max_restarts=3, max_hours=10.0, max_cost_usd=5.0)
RUN = RunFacts("run1", CHAIN, None, "", False, True, None, None, 1.0, 0.5, 0.5)
FAILED = replace(RUN, exit_code=7, reason="failed", has_ended=True, step=40, checkpoint_step=30)
UNTRAINED = replace(RUN, exit_code=1, reason="environment failed", has_ended=True)
FROM_OUTSIDE = ("pod lost", "supervisor killed", "SIGTERM: the pod is ending", "the tmux session was ended")


def after(before: FailedAt | None, run: RunFacts = FAILED) -> RunFacts:
    return replace(run, chain=replace(CHAIN, restarts=1, last_failure=before))


def ended(reason: str, exit_code: int | None) -> RunFacts:
    return replace(RUN, reason=reason, exit_code=exit_code, has_ended=True)


def test_run_without_an_end_is_left_alone_unless_it_is_lost() -> None:
    assert decide(RUN, Life.ALIVE) == Wait("it runs")
    assert isinstance(decide(RUN, Life.UNCLEAR), Wait)
    lost = decide(RUN, Life.LOST)
    assert isinstance(lost, Relaunch)
    assert lost.chain == replace(CHAIN, restarts=1, used_hours=1.0, used_usd=0.5)
    assert lost.reason == "run run1 was lost with its pod"


@pytest.mark.parametrize("life", Life)
def test_training_that_finished_is_done(life: Life) -> None:
    assert decide(ended("finished", 0), life) == Done(0, "finished")
    assert decide(with_outcome(RUN, 0, ""), life) == Done(0, "finished")


@pytest.mark.parametrize("reason", ["user", "interrupted in tmux"])
@pytest.mark.parametrize("exit_code", [0, 143, None])
def test_what_a_person_ended_is_never_brought_back(reason: str, exit_code: int | None) -> None:
    decision = decide(ended(reason, exit_code), Life.LOST)
    assert isinstance(decision, Done) and decision.exit_code == exit_code


def test_run_that_a_person_asked_to_end_is_not_brought_back_when_its_pod_goes_before_it_has() -> None:
    record = {**RECORD, "ended_at": None, "exit_code": None, "reason": None, "ending": "user"}
    run = read_facts(record, CHAIN, 5000.0)
    assert isinstance(decide(run, Life.ALIVE), Wait)
    assert decide(run, Life.LOST) == Done(None, "ended by inv stop or terminate")
    asked_for_money = read_facts({**record, "ending": "max_cost_usd"}, CHAIN, 5000.0)
    assert isinstance(decide(asked_for_money, Life.LOST), GiveUp)


@pytest.mark.parametrize("reason", FROM_OUTSIDE)
@pytest.mark.parametrize("exit_code", [0, 137, None])
def test_end_from_outside_is_started_again_whatever_its_exit_code(reason: str, exit_code: int | None) -> None:
    decision = decide(ended(reason, exit_code), Life.ALIVE)
    assert isinstance(decision, Relaunch) and decision.chain.last_failure is None


@pytest.mark.parametrize("reason", ["failed", "killed by SIGKILL, perhaps for want of memory", "supervisor failed: x"])
def test_failure_of_the_training_is_tried_once_more(reason: str) -> None:
    decision = decide(replace(FAILED, reason=reason), Life.LOST)
    assert isinstance(decision, Relaunch)
    assert decision.chain.last_failure == FailedAt(40, 30, trained=True)


@pytest.mark.parametrize(
    ("before", "step", "checkpoint_step", "again"),
    [
        (FailedAt(40, 30), 40, 30, True),
        (FailedAt(40, 30), 39, 30, False),
        (FailedAt(40, 30), 41, 30, False),
        (FailedAt(None, 30), 40, 30, True),
        (FailedAt(None, 30), None, 30, True),
        (FailedAt(None, 20), None, 30, False),
        (FailedAt(None, None), None, None, True),
        (FailedAt(None, None, trained=False), 40, None, False),
        (None, 40, 30, False),
    ],
)
def test_failure_that_comes_again_at_the_same_step_is_given_up(
    before: FailedAt | None, step: int | None, checkpoint_step: int | None, again: bool
) -> None:
    run = after(before, replace(FAILED, step=step, checkpoint_step=checkpoint_step))
    decision = decide(run, Life.LOST)
    assert isinstance(decision, GiveUp if again else Relaunch)
    if isinstance(decision, GiveUp):
        assert decision.exit_code == 7 and not decision.was_lost and "again" in decision.reason


def test_training_that_stalls_at_the_same_step_again_is_given_up() -> None:
    """Each stall costs `stall_minutes` of a GPU."""
    stalled = replace(FAILED, reason="stalled", exit_code=143)
    first = decide(stalled, Life.LOST)
    assert isinstance(first, Relaunch) and first.reason == "run run1 stalled at step 40"
    second = decide(replace(stalled, chain=first.chain), Life.LOST)
    assert isinstance(second, GiveUp) and "again at step 40" in second.reason and not second.was_lost
    further = replace(stalled, chain=first.chain, step=41)
    assert isinstance(decide(further, Life.LOST), Relaunch)


def test_what_the_log_stream_alone_tells_is_not_enough_to_give_up() -> None:
    run = with_outcome(after(FailedAt(None, None), RUN), 7, "failed")
    assert isinstance(decide(run, Life.LOST), Relaunch), "its record will tell the step"


@pytest.mark.parametrize("reason", ["environment failed", "not launched: The tmux session ended at once."])
def test_runs_that_never_trained_are_given_up_at_the_second_in_a_row(reason: str) -> None:
    run = replace(UNTRAINED, reason=reason)
    first = decide(run, Life.LOST)
    assert isinstance(first, Relaunch) and first.chain.last_failure == FailedAt(None, None, trained=False)
    assert isinstance(decide(replace(run, chain=first.chain), Life.LOST), GiveUp)
    assert isinstance(decide(after(FailedAt(3, None), run), Life.LOST), Relaunch)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"used_hours": 9.0}, "max_hours"),
        ({"used_usd": 4.5}, "max_cost_usd"),
        ({"restarts": 3}, "max_restarts"),
    ],
)
def test_bounds_hold_for_all_runs_together(changes: dict[str, Any], word: str) -> None:
    decision = decide(replace(RUN, chain=replace(CHAIN, **changes)), Life.LOST)
    assert isinstance(decision, GiveUp) and word in decision.reason and word in decision.next_step
    assert decision.was_lost, "nothing on the pod could tell of it"


@pytest.mark.parametrize("reason", ["max_hours", "max_cost_usd"])
def test_run_that_the_guard_ended_at_a_limit_is_given_up(reason: str) -> None:
    decision = decide(ended(reason, 0), Life.LOST)
    assert isinstance(decision, GiveUp) and not decision.was_lost


def test_last_restart_that_is_allowed_is_made() -> None:
    assert isinstance(decide(replace(RUN, chain=replace(CHAIN, restarts=2)), Life.LOST), Relaunch)


def test_chain_without_a_limit_of_money_has_none() -> None:
    chain = replace(CHAIN, max_cost_usd=None, used_usd=1e6)
    assert isinstance(decide(replace(RUN, chain=chain), Life.LOST), Relaunch)


RECORD: dict[str, Any] = {
    "run_id": "run1",
    "launched_at": 1000.0,
    "ended_at": 4600.0,
    "exit_code": 7,
    "reason": "failed",
    "last_step": 40,
    "checkpoint": {"path": "/w/checkpoint-30", "step": 30},
    "pod": {"id": "pod1", "usd_per_hour": 0.5},
    "max_hours": 24,
}


def test_facts_come_from_the_record() -> None:
    assert read_facts(RECORD, CHAIN, 9999.0) == FAILED


def test_run_without_an_end_counts_until_its_last_heartbeat() -> None:
    record = {**RECORD, "ended_at": None, "exit_code": None, "reason": None}
    beat = json.dumps({"at": 2800.0, "beat": 360}).encode()
    facts = read_facts(record, CHAIN, 1e9, heartbeat=beat)
    assert (facts.used_hours, facts.used_usd, facts.has_ended) == (0.5, 0.25, False)
    assert read_facts(record, CHAIN, 8200.0).used_hours == 2.0
    assert read_facts(record, CHAIN, 1e9).used_hours == 24, "the guard stopped it then"


@pytest.mark.parametrize(
    ("changes", "now", "hours"),
    [
        ({"when_done": "keep"}, 8200.0, 2.0),
        ({"when_done": "keep"}, 1e9, 24.0),
        ({"when_done": "keep"}, 4000.0, 1.0),
        ({"when_done": "stop"}, 8200.0, 1.0),
        ({"keep_failed_s": 1800.0}, 1e9, 1.5),
        ({"keep_failed_s": 1800.0}, 5500.0, 1.25),
        ({"keep_failed_s": 1800.0, "reason": "environment failed"}, 1e9, 1.5),
        ({"keep_failed_s": 1800.0, "reason": "stalled"}, 1e9, 1.0),
        ({"keep_failed_s": 1800.0, "reason": "pod lost"}, 1e9, 1.0),
    ],
)
def test_pod_that_was_kept_after_its_run_was_billed_for_that(
    changes: dict[str, Any], now: float, hours: float
) -> None:
    facts = read_facts({**RECORD, **changes}, CHAIN, now)
    assert (facts.used_hours, facts.used_usd) == (hours, hours * 0.5)


@pytest.mark.parametrize("beat", [b"", b"{", b"7", b'{"at": "x"}', b'{"at": true}', b'{"at": -3}', b"\xff"])
def test_broken_heartbeat_tells_no_time(beat: bytes) -> None:
    record = {**RECORD, "ended_at": None}
    assert read_facts(record, CHAIN, 2800.0, heartbeat=beat).used_hours == 0.5


@given(st.dictionaries(st.sampled_from(sorted(RECORD)), st.none() | st.text(max_size=3) | st.integers() | st.floats()))
def test_broken_record_makes_no_fact_and_no_crash(broken: dict[str, Any]) -> None:
    record = {**RECORD, **broken}
    if isinstance(broken.get("pod"), (int, float, str)) and broken["pod"]:
        record["pod"] = None
    decide(read_facts(record, CHAIN, 5000.0), Life.LOST)


def test_used_so_far_is_told_in_words() -> None:
    assert describe_use(replace(CHAIN, used_hours=0.2, used_usd=0.125)) == "$0.12 and 12 min so far"


STEPS = st.none() | st.integers(0, 50)
FAILURES = st.none() | st.builds(FailedAt, STEPS, STEPS, trained=st.booleans())
CHAINS = st.builds(
    Chain,
    first_run=st.just("first"),
    restarts=st.integers(0, 12),
    used_hours=st.floats(0, 30),
    used_usd=st.floats(0, 30),
    max_restarts=st.integers(0, 10),
    max_hours=st.floats(0.1, 24),
    max_cost_usd=st.none() | st.floats(0.01, 20),
    last_failure=FAILURES,
)
FROM_INSIDE = ("stalled", "failed", "environment failed", "finished", "max_hours", "max_cost_usd")
REASONS = (*FROM_OUTSIDE, *FROM_INSIDE, "user", "", "odd")
RUNS = st.builds(
    RunFacts,
    run_id=st.just("run1"),
    chain=CHAINS,
    exit_code=st.none() | st.integers(0, 255),
    reason=st.sampled_from(REASONS),
    has_ended=st.booleans(),
    is_whole=st.booleans(),
    step=STEPS,
    checkpoint_step=STEPS,
    used_hours=st.floats(0, 30),
    used_usd=st.floats(0, 30),
    price=st.floats(0, 5),
)


@given(RUNS, st.sampled_from(Life))
def test_no_restart_is_beyond_a_bound_or_against_a_person_s_will(run: RunFacts, life: Life) -> None:
    decision = decide(run, life)
    if not isinstance(decision, Relaunch):
        return
    chain = decision.chain
    assert chain.restarts == run.chain.restarts + 1 <= chain.max_restarts
    assert chain.used_hours < chain.max_hours
    assert chain.max_cost_usd is None or chain.used_usd < chain.max_cost_usd
    assert chain.used_hours >= run.chain.used_hours and chain.used_usd >= run.chain.used_usd
    assert run.has_ended or life is Life.LOST
    assert classify(run) not in (Ending.FINISHED, Ending.BY_A_PERSON, Ending.LIMIT)
    assert parse_chain(json.loads(json.dumps(chain.to_json()))) == chain


@given(RUNS)
def test_a_run_that_lives_is_never_replaced(run: RunFacts) -> None:
    running = replace(run, has_ended=False)
    assert isinstance(decide(running, Life.ALIVE), Wait) and isinstance(decide(running, Life.UNCLEAR), Wait)


@given(RUNS, st.lists(st.tuples(STEPS, STEPS), min_size=40, max_size=40))
def test_every_chain_of_failures_comes_to_an_end(run: RunFacts, failures: list[tuple[int | None, int | None]]) -> None:
    chain = run.chain
    for step, checkpoint_step in failures:
        failed = replace(FAILED, chain=chain, step=step, checkpoint_step=checkpoint_step, used_hours=0.0, used_usd=0.0)
        decision = decide(failed, Life.LOST)
        if isinstance(decision, GiveUp):
            return
        assert isinstance(decision, Relaunch)
        chain = decision.chain
    raise AssertionError("it was started again for ever")
