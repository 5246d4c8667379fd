"""A run whose pod the user takes away is told as ended by the user, not as lost."""

from __future__ import annotations

import json

import pytest

from tests.end_to_end.project import TrainingProject


@pytest.mark.parametrize("words", [("terminate", "--yes"), ("stop", "--now")])
def test_run_on_a_pod_that_is_taken_away_at_once_says_who_did_it(
    project: TrainingProject, words: tuple[str, ...]
) -> None:
    project.hold_at(2)
    assert project.train("--no-follow").code == 0
    project.wait_for_step(2)
    done = project.inv(*words)
    assert done.code == 0, done.stderr
    assert "is marked as ended by you" in done.stderr
    assert not project.running_pods()
    project.wait_for(project.is_idle, "the pod to be gone")
    (run,) = json.loads(project.inv("runs", "--json").stdout)["runs"]
    assert (run["reason"], run["failure"]) in [("user", "asked_to_end"), ("user", None)]
    (record,) = (json.loads(path.read_text()) for path in project.volume.glob("runs/*/run.json"))
    assert record["reason"] == "user", "watchers elsewhere read it there"
