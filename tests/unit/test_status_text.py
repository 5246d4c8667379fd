"""The text of `inv status`."""

from __future__ import annotations

from typing import Any

import pytest

from podtasks.pure.amounts import format_duration
from podtasks.pure.pod import PodStatus
from podtasks.pure.status_text import render_status
from tests.unit.fakes import make_pod

NOW = 1_800_000_000.0
RUN: dict[str, Any] = {
    "run_id": "digits-1",
    "config": "configs/digits.yaml",
    "branch": "main",
    "commit": "3f2a1b9c0ffee0",
    "started_at": NOW - 7200,
    "training_started_at": NOW - 7100,
    "ended_at": None,
    "exit_code": None,
    "reason": None,
}


def test_status_without_a_pod_says_how_to_get_one() -> None:
    assert render_status(None, {}, "", NOW) == "pod  none; inv train makes one"


def test_status_of_a_training_pod_whole() -> None:
    answer = {
        "guard": {"grace_left_s": None, "hours_left": 21.96},
        "run": RUN,
        "log_modified": NOW - 12,
        "last_lines": ["step 1", "step 2"],
    }
    assert render_status(make_pod(), answer, "", NOW) == (
        "pod    pod1 RUNNING\n"
        "gpu    1 x RTX 4090, $0.69/h\n"
        "run    digits-1 (configs/digits.yaml)\n"
        "code   main at 3f2a1b9c0f\n"
        "since  2 h 0 min, about $1.38\n"
        "state  training\n"
        "limit  22.0 h left\n"
        "log    last line 12 s ago\n"
        "  | step 1\n"
        "  | step 2"
    )


def test_status_of_a_stopped_pod_says_that_it_is_not_billed() -> None:
    pod = make_pod(status=PodStatus.EXITED, status_change="Exited by Runpod: Mon")
    assert render_status(pod, {}, "", NOW) == (
        "pod  pod1 EXITED (Exited by Runpod: Mon)\ngpu  1 x RTX 4090, $0.69/h when it runs; not billed now"
    )


def test_status_of_an_idle_pod_says_when_its_guard_stops_it() -> None:
    text = render_status(make_pod(), {"guard": {"grace_left_s": 600.0}, "run": None}, "", NOW)
    assert "guard  stops the pod in 10 min unless a run is launched" in text


def test_status_of_a_pod_with_no_grace_left_still_says_so() -> None:
    assert "guard  stops the pod in 0 s" in render_status(make_pod(), {"guard": {"grace_left_s": 0}}, "", NOW)


def test_status_of_a_silent_pod_says_why() -> None:
    text = render_status(make_pod(), {}, "The SSH link to the pod broke: refused.", NOW)
    assert "ssh  no answer: The SSH link to the pod broke: refused." in text


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"training_started_at": None}, "preparing"),
        ({}, "training"),
        ({"ended_at": NOW - 60, "exit_code": 0}, "ended, exit, exit code 0"),
        (
            {"ended_at": NOW - 60, "exit_code": 137, "reason": "supervisor killed"},
            "ended, supervisor killed, exit code 137",
        ),
        ({"ended_at": NOW - 60}, "ended, exit, exit code unknown"),
    ],
)
def test_status_says_how_the_run_is(changes: dict[str, Any], state: str) -> None:
    assert f"state  {state}\n" in render_status(make_pod(), {"run": {**RUN, **changes}}, "", NOW) + "\n"


def test_status_of_an_ended_run_counts_until_its_end() -> None:
    text = render_status(make_pod(), {"run": {**RUN, "ended_at": NOW - 3600}}, "", NOW)
    assert "since  60 min, about $0.69" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (3000, "50 min"), (5370, "1 h 30 min"), (12000, "3 h 20 min")],
)
def test_duration_in_words(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
