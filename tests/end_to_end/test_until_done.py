"""Trainings that are kept going: whatever takes their pod away, they end with the weights of an undisturbed run."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.end_to_end.project import TIMEOUT_S, TrainingProject
from tests.end_to_end.test_interruptions import (
    kill_the_supervisor,
    lose_the_host,
    preempt,
    uninterrupted_weights,
)

# From a loss to the order of the new pod.
NOTICED_S = 30.0


def start_until_done(project: TrainingProject, *words: str) -> subprocess.Popen[bytes]:
    project.hold_at(5)
    command = project.start("train", "--config", "configs/run.yaml", "--until-done", *words)
    project.wait_for_step(5)
    return command


def orders_since(project: TrainingProject, moment: float) -> list[dict[str, Any]]:
    """Return the API calls after a moment that ask for a running pod."""
    wanted = ("podResume", "podFindAndDeployOnDemand", "podRentInterruptable")
    return [
        call for call in project.ask("calls") if call["time"] > moment and any(word in str(call) for word in wanted)
    ]


def records(project: TrainingProject) -> list[dict[str, Any]]:
    """Return the records of all runs, the oldest first."""
    found = [json.loads(path.read_text()) for path in project.volume.glob("runs/*/run.json")]
    return sorted(found, key=lambda record: record["launched_at"])


def shown_steps(project: TrainingProject) -> list[int]:
    text = (project.path / ".home/out").read_text()
    return [int(step) for step in re.findall(r"^step (\d+) ", text, re.MULTILINE)]


@pytest.mark.parametrize("end", [lose_the_host, preempt, kill_the_supervisor], ids=lambda end: end.__name__)
def test_training_whose_pod_goes_away_is_brought_to_its_end(
    project: TrainingProject, end: Callable[[TrainingProject], None]
) -> None:
    command = start_until_done(project)
    moment = time.time()
    end(project)
    [order] = project.wait_for(lambda: orders_since(project, moment), "a pod to be asked for")
    print("from the loss to the order of a pod:", order["time"] - moment)
    project.release()

    assert command.wait(timeout=TIMEOUT_S) == 0, project.said()
    assert order["time"] - moment < NOTICED_S
    assert project.weights() == uninterrupted_weights()
    assert shown_steps(project) == [1, 2, 3, 4, 5, 5, 6, 7, 8]
    assert "restart 1 of at most 10" in project.said() and "checkpoint-4" in project.said()
    first, second = records(project)
    assert second["chain"]["first_run"] == first["run_id"] and second["after_run"] == first["run_id"]
    assert second["chain"]["used_hours"] > 0 and second["max_hours"] < first["max_hours"]
    project.wait_for(project.is_idle, "the pod to stop itself")
    assert len(project.pods()) == 1
