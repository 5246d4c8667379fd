"""Trainings that are kept going: whatever takes their pod away, they end with the weights of an undisturbed run."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.project import TIMEOUT_S, TrainingProject
from tests.end_to_end.test_interruptions import (
    lose_the_host,
    preempt,
    uninterrupted_weights,
)

# From a loss to the order of the new pod.
NOTICED_S = 30.0


def start_until_done(project: TrainingProject, *words: str) -> subprocess.Popen[bytes]:
    project.hold_at(5)
    command = project.start("train", "--config", "configs/run.yaml", "--until-done", *words)
    project.wait_for(lambda: "step 5" in project.said(), "step 5 to be shown")
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


@pytest.mark.parametrize("end", [lose_the_host, preempt], ids=lambda end: end.__name__)
def test_training_whose_pod_goes_away_is_brought_to_its_end(
    project: TrainingProject, end: Callable[[TrainingProject], None]
) -> None:
    command = start_until_done(project)
    moment = time.time()
    end(project)
    [order] = project.wait_for(lambda: orders_since(project, moment), "a pod to be asked for")
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


def test_training_that_fails_at_the_same_step_again_is_given_up(project: TrainingProject) -> None:
    (project.path / "configs/run.yaml").write_text(
        "output_dir: checkpoints/run\nlogging_dir: logs/run\nsteps: 8\nsave_steps: 2\nfail_at: 5\n"
    )
    project.commit("it fails")
    done = project.train("--until-done")

    assert done.code == 7, done.stderr
    assert "given up" in done.stderr and "failed again at step 5" in done.stderr
    assert len(records(project)) == 2
    project.wait_for(project.is_idle, "the pod to stop itself")
    again = project.inv("watch", "--once", "--json")
    assert again.code == 7 and json.loads(again.stdout)["state"] == "given_up", again.stderr
    assert len(records(project)) == 2 and project.is_idle()


def test_watch_leaves_alone_what_runs_and_what_a_person_ended(project: TrainingProject) -> None:
    project.hold_at(5)
    project.train("--no-follow")
    project.wait_for_step(5)
    assert json.loads(project.inv("watch", "--once", "--json").stdout)["state"] == "not_watched"
    began = time.monotonic()
    watched = project.inv("watch", "--once", "--adopt")
    assert watched.code == 0 and "running: it runs" in watched.stdout, watched.stderr + watched.stdout
    assert time.monotonic() - began < 15

    command = project.start("train", "--config", "configs/run.yaml", "--until-done")
    project.wait_for(lambda: "step 5" in project.said(), "the second command to follow the same run")
    stopped = project.inv("stop")
    assert stopped.code == 0, stopped.stderr
    assert command.wait(timeout=TIMEOUT_S) == 143, project.said()
    watched = project.inv("watch", "--once", "--adopt", "--json")
    assert watched.code == 0, watched.stderr
    told = json.loads(watched.stdout)
    assert (told["state"], told["exit_code"], told["restarts"]) == ("done", 143, 0)
    assert len(records(project)) == 1 and project.is_idle()


def start_watch(project: TrainingProject, name: str) -> subprocess.Popen[bytes]:
    """Start `inv watch`; what it says goes to a file of this name in the project's home."""
    with open(project.path / ".home" / name, "wb") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "invoke", "watch"],
            cwd=project.path,
            env=project.environment(),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def test_two_watchers_and_a_lost_pod_make_one_new_run_on_one_pod(project: TrainingProject) -> None:
    project.hold_at(5)
    launched = project.train("--until-done", "--no-follow")
    assert launched.code == 0 and "inv watch keeps it going" in launched.stderr, launched.stderr
    project.wait_for_step(5)
    watchers = [start_watch(project, name) for name in ("one", "two")]

    def said(name: str) -> str:
        return (project.path / ".home" / name).read_text()

    project.wait_for(lambda: all("watching run" in said(name) for name in ("one", "two")), "both to watch")
    moment = time.time()
    lose_the_host(project)
    project.wait_for(lambda: orders_since(project, moment), "a pod to be asked for")
    project.wait_for(lambda: len(records(project)) == 2, "the second run")
    project.release()

    codes = [watcher.wait(timeout=TIMEOUT_S) for watcher in watchers]
    both = said("one") + said("two")
    assert codes == [0, 0], both
    assert len(records(project)) == 2, both
    assert both.count("restart 1 of at most 10") == 1, both
    assert project.weights() == uninterrupted_weights()
    project.wait_for(project.is_idle, "the pod to stop itself")
    assert len(project.pods()) == 1


def make_second_machine(project: TrainingProject, tmp_path: Path) -> TrainingProject:
    """Return a checkout elsewhere that knows the account as RunPod's: no S3 keys, nothing that was seen before."""
    other = TrainingProject(tmp_path / "second" / project.path.name)
    other.path.parent.mkdir()
    project.git("clone", "-q", ".", str(other.path))
    (other.path / ".home").mkdir()
    server = project.server()
    lines = {
        "RUNPOD_API_KEY": server["key"],
        "RUNPOD_API_BASE_URL": server["url"],
        "NETWORK_VOLUME_ID": server["volume_id"],
        "SSH_KEY_PATH": str(project.path / ".podtasks/local_key"),
    }
    identity = other.path / ".runpod.env"
    identity.touch(mode=0o600)
    identity.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    return other


def test_second_machine_without_s3_keys_takes_over_from_one_that_was_closed(
    project: TrainingProject, tmp_path: Path
) -> None:
    command = start_until_done(project)
    other = make_second_machine(project, tmp_path)
    watcher = other.start("watch")
    other.wait_for(lambda: "watching run" in other.said(), "the second machine to watch")
    project.wait_for(lambda: project.pod_processes("follow_log.py")[1:], "both to follow the log")
    os.killpg(command.pid, signal.SIGINT)
    assert command.wait(timeout=TIMEOUT_S) == 130
    assert "nobody starts it again until inv watch does" in project.said()
    moment = time.time()
    lose_the_host(project)
    [order] = project.wait_for(lambda: orders_since(project, moment), "a pod to be asked for")
    project.release()

    assert watcher.wait(timeout=TIMEOUT_S) == 0, other.said()
    assert order["time"] - moment < NOTICED_S
    assert "restart 1 of at most 10" in other.said()
    assert project.weights() == uninterrupted_weights()
    assert len(records(project)) == 2
    again = other.inv("watch", "--once", "--json")
    assert json.loads(again.stdout)["state"] == "done", "it remembers, though nothing is left that it could ask"
    assert len(orders_since(project, moment)) == 1 and project.is_idle()


def test_pod_that_cannot_stop_itself_is_stopped_from_here(project: TrainingProject) -> None:
    project.hold_at(5)
    project.train("--until-done", "--no-follow")
    project.wait_for_step(5)
    project.ask("faults", {"operation": "*", "kind": "html", "status": 502, "for_s": 600, "caller": "pod"})
    project.release()
    project.wait_for(lambda: "EXIT_CODE=0" in project.log, "the training to end")
    assert project.running_pods()

    watched = project.inv("watch", "--once")

    assert watched.code == 0 and "done" in watched.stdout, watched.stderr
    assert "could not stop itself: it was stopped from here" in watched.stderr
    assert project.running_pods() == []
