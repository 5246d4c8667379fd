"""A training broken off in every way goes on where it was, and ends with the very same weights."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.end_to_end.project import TIMEOUT_S, TrainingProject

GRACE = {"grace_minutes": "0.05"}


def uninterrupted_weights(steps: int = 8) -> bytes:
    """Return what the pipeline's last weights are, from its definition."""
    import hashlib
    import json
    import struct

    weights = hashlib.sha256(b"start").hexdigest()
    for step in range(1, steps + 1):
        weights = hashlib.sha256(f"{weights}{step}".encode()).hexdigest()
    header = json.dumps({"w": {"dtype": "U8", "shape": [32], "data_offsets": [0, 32]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes.fromhex(weights)


def inv_stop(project: TrainingProject) -> None:
    done = project.inv("stop")
    assert done.code == 0, done.stderr


def tmux_kill_session(project: TrainingProject) -> None:
    pod = project.ask(f"pods/{project.running_pods()[0]}")
    key = project.path / ".podtasks/local_key"
    words = ["ssh", "-i", str(key), "-p", str(pod["public_ports"]["22"])]
    words += ["-o", f"UserKnownHostsFile='{project.path}/.home/known'"]
    words += ["-o", "StrictHostKeyChecking=accept-new", "-o", "IdentitiesOnly=yes", "root@127.0.0.1"]
    subprocess.run([*words, "tmux kill-session -t train"], check=True, env=project.environment())


def preempt(project: TrainingProject) -> None:
    project.ask(f"pods/{project.running_pods()[0]}/preempt", {})


def lose_the_host(project: TrainingProject) -> None:
    project.ask(f"pods/{project.running_pods()[0]}/kill", {})


def kill_the_training(project: TrainingProject) -> None:
    for pid in project.pod_processes("scripts/train.py"):
        os.kill(pid, signal.SIGKILL)


def kill_the_supervisor(project: TrainingProject) -> None:
    for pid in project.pod_processes("supervise.py"):
        os.kill(pid, signal.SIGKILL)


ENDINGS = [inv_stop, tmux_kill_session, preempt, lose_the_host, kill_the_training, kill_the_supervisor]


@pytest.mark.parametrize("end", ENDINGS, ids=lambda end: end.__name__)
def test_broken_off_training_resumes_to_the_same_weights(
    project: TrainingProject, end: Callable[[TrainingProject], None]
) -> None:
    project.hold_at(5)
    project.train("--no-follow")
    project.wait_for_step(5)

    end(project)
    project.wait_for(project.is_idle, "the pod to be stopped")
    project.release()
    done = project.train()

    assert done.code == 0, done.stderr
    assert "training from step 4 of 8" in done.stdout
    assert project.weights() == uninterrupted_weights()
    assert project.running_pods() == []
    assert len(project.pods()) == 1


@pytest.mark.parametrize(
    "said",
    ["Plan", "created", "waiting for the pod", "SSH answers", "code cloned", "checkpoint: none", "started in tmux"],
)
def test_cli_killed_at_any_moment_leaves_nothing_billing_and_reruns(project: TrainingProject, said: str) -> None:
    project.set(**GRACE)
    project.commit("short grace")
    project.start_cloud()
    project.ask("dials", {"ports_s": 0.5, "ssh_s": 1.0})
    command = project.start("train", "--config", "configs/run.yaml")
    project.wait_for(lambda: said in project.said(), f"the command to say {said!r}")

    os.killpg(command.pid, signal.SIGKILL)
    command.wait()
    project.wait_for(lambda: not project.running_pods(), "the pod to stop by itself within the grace time")
    project.ask("dials", {"ports_s": 0, "ssh_s": 0})
    done = project.train()

    assert done.code == 0, done.stderr
    assert project.weights() == uninterrupted_weights()
    assert len(project.pods()) == 1


def test_closed_terminal_does_not_touch_the_training(project: TrainingProject) -> None:
    project.hold_at(5)
    command = project.start("train", "--config", "configs/run.yaml")
    project.wait_for_step(5)

    os.killpg(command.pid, signal.SIGHUP)
    command.wait(timeout=TIMEOUT_S)
    assert len(project.running_pods()) == 1
    project.release()
    project.wait_for(lambda: not project.running_pods(), "the pod to stop itself")

    assert project.log.endswith("EXIT_CODE=0\n")
    assert project.weights() == uninterrupted_weights()


def test_ctrl_c_ends_the_view_only_and_says_how_to_come_back(project: TrainingProject) -> None:
    project.hold_at(5)
    command = project.start("train", "--config", "configs/run.yaml")
    project.wait_for(lambda: "step 5" in project.said(), "the log to be shown")

    os.killpg(command.pid, signal.SIGINT)

    assert command.wait(timeout=TIMEOUT_S) == 130
    assert "training goes on" in project.said()
    assert "inv logs" in project.said()
    assert "Traceback" not in project.said()
    assert len(project.running_pods()) == 1


def test_broken_link_is_made_anew_with_no_line_lost_or_repeated(project: TrainingProject) -> None:
    project.hold_at(4)
    command = project.start("train", "--config", "configs/run.yaml")
    project.wait_for(lambda: "step 4" in project.said(), "the log to be shown")

    for pid in project.pod_processes("follow_log.py"):
        os.kill(pid, signal.SIGKILL)
    project.wait_for(lambda: "Reconnecting" in project.said(), "the link to be noticed broken")
    project.release()

    assert command.wait(timeout=TIMEOUT_S) == 0, project.said()
    shown = (project.path / ".home/out").read_bytes().decode()
    assert re.findall(r"^step (\d+) ", shown, re.MULTILINE) == [str(n) for n in range(1, 9)]
    assert shown == project.log


def test_incomplete_newest_checkpoint_is_skipped_by_name(project: TrainingProject) -> None:
    project.train()
    newest = project.output / "checkpoint-8/model.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])

    done = project.train()

    assert done.code == 0, done.stderr
    assert "incomplete checkpoint skipped" in done.stderr
    assert "checkpoint-8" in done.stderr
    assert "training from step 6 of 8" in done.stdout
