"""The table of `inv runs`."""

from __future__ import annotations

from typing import Any

import pytest

from podtasks.pure.reasons import describe_reason
from podtasks.pure.run_table import build_run_rows, describe_runs

RUN: dict[str, Any] = {"run_id": "digits-1", "launched_at": 1000.0, "ended_at": None, "exit_code": None}


def row(record: dict[str, Any], active_run_id: str | None = None) -> list[str]:
    (told,) = build_run_rows(describe_runs([record], active_run_id, "x", 1090.0)["runs"])
    return told


def test_running_run_says_so_where_the_exit_code_will_be() -> None:
    assert row(RUN, "digits-1")[:2] == ["digits-1", "running"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"reason": "user", "failure": {"kind": "asked_to_end", "title": "It was asked to end."}},
            "ended by inv stop or terminate",
        ),
        ({"reason": "failed", "failure": {"kind": "disk_full", "title": "The disk is full."}}, "The disk is full."),
        ({"reason": "finished"}, "finished"),
        ({}, "?"),
    ],
)
def test_why_is_in_words(changes: dict[str, Any], why: str) -> None:
    told = row({**RUN, "ended_at": 1060.0, "exit_code": 143, **changes})
    assert (told[1], told[5]) == ("143", why)


def test_reason_without_words_of_its_own_stays() -> None:
    assert (describe_reason("killed by SIGKILL"), describe_reason(None)) == ("killed by SIGKILL", "")
    assert describe_reason("pod lost") == "lost with its pod"
