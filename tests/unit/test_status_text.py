"""What `inv status` tells: the document, and the text that is made of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from podtasks.pure.amounts import format_cents, format_duration
from podtasks.pure.chain import Chain
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.status_report import build_status
from podtasks.pure.status_text import render_status
from tests.unit.fakes import make_pod

NOW = 1_800_000_000.0
RUN: dict[str, Any] = {
    "run_id": "digits-1",
    "config": "configs/digits.yaml",
    "branch": "main",
    "commit": "3f2a1b9c0ffee0",
    "launched_at": NOW - 7200,
    "training_started_at": NOW - 7100,
    "ended_at": None,
    "exit_code": None,
    "reason": None,
    "pod": {"usd_per_hour": 0.69},
}
ENDED = {**RUN, "ended_at": NOW - 3600, "exit_code": 1, "reason": "failed"}
FAILURE = {"kind": "gpu_memory", "title": "The GPU ran out of memory.", "lines": ["OOM \x1b[31m!"], "advice": ["less"]}
RENTED = "Rented by User: Fri Jan 15 2027 05:13:20 GMT+0000 (Coordinated Universal Time)"


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be in a time zone of its own name, two hours from UTC."""
    monkeypatch.setenv("TZ", "XYZ-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def document(pod: Pod | None, answer: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    return build_status("RunPod", pod, answer or {}, **{"silence": "", "now": NOW, **more})


def text(pod: Pod | None, answer: dict[str, Any] | None = None, **more: Any) -> str:  # noqa: ANN401
    return render_status(document(pod, answer, **more))


def test_status_without_a_pod_says_how_to_get_one() -> None:
    assert text(None) == "cloud  RunPod\npod    none; inv train makes one"


def test_status_of_a_training_pod_whole() -> None:
    answer = {
        "guard": {"grace_left_s": None, "hours_left": 21.96},
        "gpus": [
            {"index": 0, "name": "RTX 4090", "util_percent": 93, "memory_used_mb": 20480, "memory_total_mb": 24576}
        ],
        "run": RUN,
        "progress": {"step": 800, "max_steps": 2000, "epoch": 1.2, "epochs": 3, "steps_per_s": 2.35, "eta_s": 510.6},
        "disk": {"used_bytes": 12e9, "total_bytes": 100e9, "measured_at": NOW - 7200, "is_exact": False},
        "log_modified": NOW - 12,
        "log_size": 99,
        "last_lines": ["\x1b[1mstep 1\x1b[0m", "step 2"],
    }
    helper = make_pod("cpu1", usd_per_hour=0.08)
    assert text(make_pod(status_change=RENTED), answer, helpers=[helper]) == (
        "cloud     RunPod\n"
        "pod       pod1 RUNNING\n"
        "price     $0.69/h, $1.92 in the 2 h 47 min since it started\n"
        "gpu       RTX 4090, 93 % busy, 20.0 of 24 GiB memory used\n"
        "run       digits-1 (configs/digits.yaml)\n"
        "code      main at 3f2a1b9c0f\n"
        "state     training for 2 h 0 min, $1.38\n"
        "progress  step 800 of 2,000 (40%), epoch 1.20 of 3, 2.35 steps/s\n"
        "forecast  9 min and $0.10 to the end, at 10:08 XYZ\n"
        "log       last line 12 s ago\n"
        "volume    about 12 GB used of 100 GB, measured 2027-01-15 08:00\n"
        "limit     21 h 58 min left of the hours allowed\n"
        "helper    CPU pod cpu1 copies files, $0.08/h; it ends by itself\n"
        "  | step 1\n"
        "  | step 2"
    )


def test_document_of_a_bare_pod_has_every_name_and_null_for_what_is_not_known() -> None:
    told = document(make_pod(status_change="odd"), {"run": {"run_id": "x"}})
    assert json.loads(json.dumps(told)) == told
    assert {name for name, value in told.items() if value is None} == {
        "progress",
        "log",
        "disk",
        "hours_left",
        "usd_left",
        "grace_left_s",
        "kept_for",
        "kept_left_s",
    }
    assert told["pod"]["spent_usd"] is None and told["run"]["cost_usd"] is None
    assert set(document(None)) == set(told)


def test_status_of_a_stopped_pod_says_that_it_is_not_billed_and_when_it_stopped() -> None:
    pod = make_pod(status=PodStatus.EXITED, status_change=RENTED.replace("Rented", "Exited"))
    assert text(pod) == (
        "cloud  RunPod\n"
        "pod    pod1 EXITED (Exited by User, 07:13 XYZ)\n"
        "price  $0.69/h when it runs; not billed now\n"
        "gpu    1 x RTX 4090"
    )


def test_status_of_a_stopped_pod_tells_the_last_run_and_where_that_was_read() -> None:
    told = text(
        make_pod(status=PodStatus.EXITED), last_run={**ENDED, "failure": FAILURE}, source="the volume, by the S3 API"
    )
    assert "last run  digits-1 (configs/digits.yaml), from the volume, by the S3 API\n" in told
    assert "state     failed, exit code 1, 09:00 XYZ, after 60 min, $0.69\n" in told
    assert told.endswith(
        "why       The GPU ran out of memory.\n          | OOM !\ntry       less"
    )


def test_last_run_without_a_recorded_end_is_not_counted_as_running() -> None:
    told = document(None, last_run=RUN, source="what is known on this machine")["run"]
    assert (told["state"], told["lasted_s"], told["cost_usd"]) == ("unknown", None, None)
    assert "state     over; its end was not recorded" in text(None, last_run=RUN, source="x")


@pytest.mark.parametrize(
    ("guard", "state"),
    [
        ({"lease": {"run_id": "digits-1"}}, "training"),
        ({"lease": None}, "unknown"),
        ({"lease": {"kind": "prepare"}}, "unknown"),
        ({}, "training"),
    ],
)
def test_run_that_was_lost_with_an_earlier_pod_does_not_seem_to_train(guard: dict[str, Any], state: str) -> None:
    assert document(make_pod(), {"run": RUN, "guard": guard})["run"]["state"] == state


def test_ended_run_of_a_kept_pod_counts_until_its_end_and_has_no_forecast() -> None:
    answer = {"run": ENDED, "progress": {"step": 5, "max_steps": 10, "eta_s": 99}}
    assert "failed, exit code 1, 09:00 XYZ, after 60 min, $0.69" in text(make_pod(), answer)
    told = document(make_pod(), answer)["progress"]
    assert (told["step"], told["left_s"], told["done_at"]) == (5, None, None)


def test_forecast_beyond_the_limit_says_so() -> None:
    answer = {"run": RUN, "guard": {"hours_left": 1.0}, "progress": {"eta_s": 7200}}
    assert "forecast  2 h 0 min and $1.38 to the end, at 12:00 XYZ; the limit comes first" in text(
        make_pod(), answer
    )


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        ({"step": 3, "max_steps": None, "steps_per_s": 0.02}, "step 3, 50 s a step"),
        ({"step": 3, "max_steps": 0, "steps_per_s": 9187.96}, "step 3, 9,188 steps/s"),
        ({"epoch": 2.0, "epochs": None}, "epoch 2"),
    ],
)
def test_progress_tells_what_is_known(progress: dict[str, Any], line: str) -> None:
    assert f"progress  {line}\n" in text(make_pod(), {"run": RUN, "progress": progress}) + "\n"


def test_several_gpus_are_numbered() -> None:
    told = text(make_pod(), {"gpus": [{"index": 0, "name": "A"}, {"index": 1, "util_percent": 0}]})
    assert "gpu    0: A\ngpu    1: RTX 4090, 0 % busy" in told


def test_status_of_an_idle_pod_says_when_its_guard_stops_it() -> None:
    told = text(make_pod(), {"guard": {"grace_left_s": 600.0}, "run": None})
    assert "guard  stops the pod in 10 min unless a run is launched" in told


def test_status_of_a_pod_with_no_grace_left_still_says_so() -> None:
    assert "guard  stops the pod in 0 s" in text(make_pod(), {"guard": {"grace_left_s": 0}})


def test_status_of_a_silent_pod_says_why_and_tells_no_run() -> None:
    told = text(make_pod(), silence="The SSH link to the pod broke: refused.")
    assert "ssh    no answer: The SSH link to the pod broke: refused." in told
    assert "run" not in told


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"training_started_at": None}, "preparing for 2 h 0 min, $1.38"),
        ({"ended_at": NOW - 60, "exit_code": 0}, "ended, exit code 0, 09:59 XYZ, after 1 h 59 min, $1.37"),
        (
            {"ended_at": NOW - 90_000, "launched_at": NOW - 90_010, "exit_code": 137, "reason": "supervisor killed"},
            "ended because its supervisor was killed, exit code 137, yesterday 09:00 XYZ, after 10 s, <$0.01",
        ),
        (
            {"ended_at": NOW - 60, "exit_code": 143, "reason": "user"},
            "ended by inv stop or terminate, exit code 143, 09:59 XYZ, after 1 h 59 min, $1.37",
        ),
        ({"ended_at": NOW - 60}, "ended, exit code unknown, 09:59 XYZ, after 1 h 59 min, $1.37"),
    ],
)
def test_status_says_how_the_run_is(changes: dict[str, Any], state: str) -> None:
    assert f"state  {state}\n" in text(make_pod(), {"run": {**RUN, **changes}}) + "\n"


def test_progress_of_the_run_before_is_not_shown_while_this_one_prepares() -> None:
    run = {**RUN, "training_started_at": None}
    assert document(make_pod(), {"run": run, "progress": {"step": 11500, "max_steps": 11500}})["progress"] is None


def test_training_at_its_last_step_has_no_forecast() -> None:
    told = text(make_pod(), {"run": RUN, "progress": {"step": 10, "max_steps": 10, "eta_s": 0.0}})
    assert "step 10 of 10 (100%)" in told and "forecast" not in told


def test_local_cloud_that_does_not_run_says_so_and_does_not_promise_a_new_pod() -> None:
    told = text(None, is_up=False)
    assert "the local cloud does not run; inv train starts it again, with the pods it kept" in told
    assert document(None, is_up=False)["is_up"] is False


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3000, "50 min"), (5370, "1 h 30 min"), (12000, "3 h 20 min")],
)
def test_duration_in_words(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


@pytest.mark.parametrize(
    ("usd", "words"),
    [(0, "$0.00"), (0.004, "<$0.01"), (0.005, "$0.01"), (1234.5, "$1,234.50"), (-0.2, "-$0.20"), (-0.001, ">-$0.01")],
)
def test_cents(usd: float, words: str) -> None:
    assert format_cents(usd) == words


# What is left, and what follows


FREE = {"lease": None, "grace_left_s": None}


@pytest.mark.parametrize(
    ("guard", "row"),
    [
        ({"hours_left": 2.0, "usd_left": 4.2}, "limit  2 h 0 min left of the hours allowed and $4.20 left of the m"),
        ({"usd_left": 0.001}, "limit  <$0.01 left of the money allowed"),
    ],
)
def test_what_is_left_of_hours_and_money_is_told(guard: dict[str, Any], row: str) -> None:
    assert row in text(make_pod(), {"run": RUN, "guard": {"lease": {"run_id": "digits-1"}, **guard}})


def test_pod_that_is_kept_after_a_failure_says_so_and_until_when() -> None:
    answer = {"run": ENDED, "guard": {**FREE, "kept_left_s": 1740.0, "hours_left": 3.0}}
    told = document(make_pod(), answer)
    assert (told["kept_for"], told["kept_left_s"]) == ("failure", 1740.0)
    row = "kept   for a look at the failure; it is billed, and stops itself in 29 min, at 10:29 XYZ; inv stop does it n"
    assert row in render_status(told)
    assert "limit " not in render_status(told)


def test_kept_pod_ends_at_the_bound_that_comes_first() -> None:
    guard = {**FREE, "kept_left_s": 7200.0, "hours_left": 3.0, "usd_left": 0.69}
    assert document(make_pod(), {"run": ENDED, "guard": guard})["kept_left_s"] == pytest.approx(3600)


def test_pod_that_is_kept_by_when_done_says_so() -> None:
    told = document(make_pod(), {"run": ENDED, "guard": {**FREE, "hours_left": 3.0}})
    assert (told["kept_for"], told["kept_left_s"]) == ("when_done", 10800.0)
    assert "kept   by when_done; it is billed, and stops itself in 3 h 0 min, at 13:00 XYZ" in render_status(told)


@pytest.mark.parametrize(
    "guard",
    [
        {"hours_left": 3.0},
        {**FREE, "hours_left": 3.0, "lease": {"kind": "run", "run_id": "digits-1"}},
        {**FREE, "hours_left": 3.0, "stopping": "finished"},
        {**FREE, "hours_left": 3.0, "grace_left_s": 60.0},
        FREE,
    ],
)
def test_pod_that_runs_waits_or_stops_is_not_kept(guard: dict[str, Any]) -> None:
    told = document(make_pod(), {"run": RUN, "guard": guard})
    assert (told["kept_for"], told["kept_left_s"]) == (None, None)


def test_forecast_counts_the_money_too() -> None:
    progress = {"progress": {"eta_s": 7200}}
    guard = {"lease": {"run_id": "digits-1"}, "hours_left": 9.0}
    assert document(make_pod(), {"run": RUN, "guard": guard, **progress})["progress"]["done_before_limit"]
    short = document(make_pod(), {"run": RUN, "guard": {**guard, "usd_left": 1.0}, **progress})
    assert short["progress"]["done_before_limit"] is False


def test_run_that_stalls_says_since_when_until_it_ends() -> None:
    told = text(make_pod(), {"run": {**RUN, "stalled_at": NOW - 600}})
    assert "stalled  no sign of work (log, GPU); noticed 10 min ago" in told
    assert document(make_pod(), {"run": {**ENDED, "stalled_at": NOW - 600}})["run"]["stalled_at"] is None


def test_training_that_is_kept_going_tells_its_restarts_and_what_they_cost() -> None:
    chain = Chain("digits-0", 2, 1.5, 1.04, 10, 24.0, 20.0)
    told = document(make_pod(), {"run": {**RUN, "chain": chain.to_json()}})
    assert told["run"]["chain"]["restarts"] == 2
    assert json.loads(json.dumps(told)) == told
    assert "restart  2 of 10 (--until-done); $1.04 before this run" in render_status(told)
    first = {**RUN, "chain": replace(chain, restarts=0).to_json()}
    assert text(make_pod(), {"run": first}).endswith("restart  0 of 10 (--until-done)")
    assert document(make_pod(), {"run": {**RUN, "chain": {"restarts": "x"}}})["run"]["chain"] is None
