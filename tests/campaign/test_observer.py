"""What the observer sees: files written in place, trainings that live, secrets in argument lists."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podtasks.doors.project_files import write_atomically, write_identity_value
from tests.campaign.observer import SCANNER, IdentityWatch, Observer

TEXT = "# mine\nRUNPOD_API_KEY=k\nPOD_ID=\n"
PIPELINE = "import os, sys, time\nopen(sys.argv[1], 'w').close()\nwhile os.path.exists(sys.argv[1]): time.sleep(0.01)\n"
ENOUGH_S = 20


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / ".runpod.env"
    path.write_text(TEXT)
    return path


@pytest.fixture
def observer(identity: Path) -> Iterator[Observer]:
    made = Observer("the-project", identity, {"the key": b"sentinel-4f1d"})
    made.begin()
    SCANNER.add(made)
    yield made
    SCANNER.remove(made)
    made.end()


def wait_for(seen: Callable[[], object]) -> None:
    deadline = time.monotonic() + ENOUGH_S
    while not seen() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert seen()


def test_pod_id_that_is_replaced_in_one_step_is_right(identity: Path) -> None:
    watch = IdentityWatch(identity)
    for pod in ("pod1", "pod2"):
        write_identity_value(identity, "POD_ID", pod)
        assert watch.look() == []


@pytest.mark.parametrize("text", [TEXT.replace("POD_ID=", "POD_ID=pod1"), TEXT[:20], ""])
def test_file_that_is_written_in_place_is_seen_though_it_is_replaced_right_after(identity: Path, text: str) -> None:
    watch = IdentityWatch(identity)
    identity.write_text(text)
    write_atomically(identity, TEXT.encode())
    [problem] = watch.look()
    assert "in place" in problem
    assert watch.look() == []


def test_other_lines_that_are_lost_and_a_file_that_is_gone_are_seen(identity: Path) -> None:
    watch = IdentityWatch(identity)
    write_atomically(identity, b"POD_ID=pod1\n")
    assert watch.look() == [".runpod.env has lost or changed more than POD_ID"]
    identity.unlink()
    assert watch.look() == [".runpod.env is not there"]


def test_trainings_of_this_project_are_seen_while_they_live(observer: Observer, tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts/train.py").write_text(PIPELINE)
    ours = {**os.environ, "PODTASKS_PROJECT": "the-project", "RUNPOD_POD_ID": "pod1"}
    others = {**ours, "PODTASKS_PROJECT": "another"}
    flags = [tmp_path / name for name in ("one", "two", "three")]
    processes = [
        subprocess.Popen([sys.executable, "scripts/train.py", str(flag)], cwd=tmp_path, env=environment)
        for flag, environment in zip(flags, (ours, ours, others), strict=True)
    ]
    wait_for(lambda: len(observer.doubles) == 1 and all(flag.exists() for flag in flags))
    assert sorted(observer.trainings) == sorted(process.pid for process in processes[:2])
    for flag in flags:
        flag.unlink()
    wait_for(lambda: not observer.is_training())
    assert {lived.pod for lived in observer.lived()} == {"pod1"} and len(observer.lived()) == 2
    assert all(lived.end >= lived.start for lived in observer.lived())
    assert [process.wait(ENOUGH_S) for process in processes] == [0, 0, 0]


def test_secret_in_an_argument_list_is_seen(observer: Observer, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    process = subprocess.Popen([sys.executable, "-c", PIPELINE, str(flag), "--key=sentinel-4f1d"])
    wait_for(lambda: observer.leaks and flag.exists())
    flag.unlink()
    assert process.wait(ENOUGH_S) == 0
    assert f"the key in the argument list of process {process.pid}" in {moment.what for moment in observer.leaks}
