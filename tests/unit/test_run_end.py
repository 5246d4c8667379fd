"""What is said once a run has ended, and before it would be."""

from __future__ import annotations

import importlib
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from invoke.exceptions import Exit

from podtasks.flows import left_behind, stopping
from podtasks.flows.follow import Outcome
from podtasks.tasks.pod import build_question
from podtasks.tasks.view import tell_pod_end
from tests.unit.fakes import STOPPED, World, make_pod


def told(
    world: World, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, *, stops: bool = True, kept_s: float = 0.0
) -> list[str]:
    monkeypatch.setattr(stopping, "confirm_stopped", lambda *_, **__: stops)
    monkeypatch.setattr(left_behind, "see_pod_end", lambda *_, **__: False)
    project: Any = SimpleNamespace(console=world.report, clock=world.clock)
    run = SimpleNamespace(when_done="stop", output_dir="/workspace/out", keep_failed_s=kept_s)
    launched: Any = SimpleNamespace(pod=make_pod(), run=run)
    tell_pod_end(project, replace(world.cloud(), volume_folder=None), launched, outcome)
    return world.report.steps + world.report.notes


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (Outcome(0, "finished"), "pod pod1 has stopped; outputs are on its volume: /workspace/out"),
        (Outcome(1, "failed"), "pod pod1 has stopped; what it wrote is on its volume: /workspace/out"),
        (Outcome(1, "environment failed"), "pod pod1 has stopped"),
    ],
)
def test_outputs_are_spoken_of_only_where_there_can_be_any(
    world: World, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, line: str
) -> None:
    assert told(world, monkeypatch, outcome) == [line]


@pytest.mark.parametrize(
    ("outcome", "kept_s", "says"),
    [
        (Outcome(1, "failed"), 1800.0, "is kept for a look, as on_failure asks, and billed at $0.69/h: it stops"),
        (Outcome(1, "failed"), 0.0, "has not stopped yet, and keeps trying"),
        (Outcome(0, "finished"), 1800.0, "has not stopped yet, and keeps trying"),
    ],
)
def test_a_failed_pod_that_is_kept_is_told_as_that(
    world: World, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, kept_s: float, says: str
) -> None:
    (line,) = told(world, monkeypatch, outcome, stops=False, kept_s=kept_s)

    assert says in line


def test_follow_knows_when_nothing_was_trained() -> None:
    assert Outcome(1, "environment failed").never_trained and not Outcome(1, "failed").never_trained


@pytest.mark.parametrize(
    ("outcome", "says"),
    [
        (Outcome(1, "environment failed"), "nothing was trained: mend what the log names"),
        (Outcome(1, "failed"), "goes on from the newest checkpoint, if one was written"),
        (Outcome(None, "pod lost"), "goes on from the newest checkpoint, if one was written"),
        (Outcome(1, "supervisor failed: OSError: [Errno 28] No space left on device"), "inv storage clean frees space"),
    ],
)
def test_resuming_is_promised_only_where_there_can_be_a_checkpoint(
    world: World, monkeypatch: pytest.MonkeyPatch, outcome: Outcome, says: str
) -> None:
    train = importlib.import_module("podtasks.tasks.train")  # the name in podtasks.tasks is the task
    for name, answer in (("watch_run", outcome), ("tell_pod_end", None), ("_tell_cost", None)):
        monkeypatch.setattr(train, name, lambda *_, answer=answer: answer)
    project: Any = SimpleNamespace(console=world.report)
    launched: Any = None
    with pytest.raises(Exit):
        train._follow(project, world.cloud(), launched)
    assert says in world.report.notes[0]


def test_question_before_a_pod_that_runs_is_deleted_names_its_training() -> None:
    assert build_question(make_pod()) == "Delete pod pod1 (RUNNING)? A training on it would be ended."
    assert build_question(STOPPED).endswith("(EXITED)?")
