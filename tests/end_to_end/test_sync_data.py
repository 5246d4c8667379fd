"""Data up to the volume by both ways, interrupted by kill -9, and results home again."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.end_to_end.project import TrainingProject

MANY_FILES = 20_000
FILE_BYTES = 50_000
PER_FOLDER = 1000
QUICK_S = 3.0
BUSY_FACTOR = 5


def make_files(folder: Path, count: int, size_bytes: int) -> None:
    """Make files that differ, cheaply: one random block with a number in front."""
    block = os.urandom(size_bytes)
    for number in range(count):
        if number % PER_FOLDER == 0:
            (folder / f"{number // PER_FOLDER:03d}").mkdir(parents=True)
        with open(folder / f"{number // PER_FOLDER:03d}/{number:06d}.wav", "wb") as file:
            file.write(f"{number:012d}".encode() + block[12:])


def require_identical(here: Path, there: Path) -> None:
    """Compare two trees, every byte of them."""
    done = subprocess.run(["diff", "-rq", str(here), str(there)], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def count_files(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "audio 0"
    make_files(folder, MANY_FILES, FILE_BYTES)
    return folder


@pytest.mark.parametrize("via", ["s3", "ssh"])
def test_twenty_thousand_files_arrive_though_the_command_is_killed_twice(
    project: TrainingProject, audio: Path, via: str
) -> None:
    project.set(data=f'{{"{audio}": data/audio_0}}')
    project.start_cloud()
    there = project.volume / "data/audio_0"
    for part in (MANY_FILES // 4, MANY_FILES // 2):
        command = project.start("sync-data", "--via", via)
        project.wait_for(lambda wanted=part: count_files(there) > wanted, f"{part} files", pause_s=0.2)  # type: ignore[misc]
        command.kill()
        command.wait()
    assert count_files(there) < MANY_FILES
    done = project.inv("sync-data", "audio 0", "--via", via, timeout_s=120)
    assert (done.code, "20,000       20,000  1,000,000,000  1,000,000,000" in done.stdout) == (0, True), done
    require_identical(audio, there)
    sent = re.search(r"sent ([\d,]+) files", done.stderr)
    assert sent and int(sent[1].replace(",", "")) < MANY_FILES * 3 // 4, done.stderr
    require_quick_rerun(project, via)


def require_quick_rerun(project: TrainingProject, via: str) -> None:
    """Sync again with nothing to do; time on the processor counts, since other tests may keep this machine busy."""
    began, before = time.monotonic(), os.times()
    again = project.inv("sync-data", "--via", via)
    took_s, after = time.monotonic() - began, os.times()
    assert (again.code, "nothing to send: all" in again.stderr) == (0, True), again
    worked_s = after.children_user + after.children_system - before.children_user - before.children_system
    assert (worked_s < QUICK_S, took_s < BUSY_FACTOR * QUICK_S) == (True, True), (worked_s, took_s)


HOSTILE = ("a b", "it's", "semi;colon", "$(id)", "-rf", "ünï", "two\nlines", "100%")


@pytest.mark.parametrize("via", ["s3", "ssh"])
def test_data_goes_up_and_comes_home_with_odd_names_and_what_fails_is_named(
    project: TrainingProject, via: str
) -> None:
    folder = project.path / "my data"
    for name in HOSTILE:
        (folder / name).mkdir(parents=True)
        (folder / name / name).write_bytes(name.encode())
    project.set(data="{my data: data/odd, gone.txt: data/gone.txt}")
    refused = project.inv("sync-data", "--via", via)
    assert (refused.code, "Not on this machine: gone.txt" in refused.stderr) == (101, True), refused
    unknown = project.inv("sync-data", "my dat", "--via", via)
    assert (unknown.code, "did you mean my data?" in unknown.stderr) == (101, True), unknown
    (folder / "dangling").symlink_to("nowhere")
    partly = project.inv("sync-data", "my data", "--via", via)
    assert (partly.code, "it is a link to nothing" in partly.stderr) == (116, True), partly
    (folder / "dangling").unlink()
    (folder / "it's/it's").rename(folder / "it's/kept")
    assert project.inv("sync-data", "my data", "--delete", "--yes", "--via", via).code == 0
    require_identical(folder, project.volume / "data/odd")
    assert project.inv("fetch", "data/odd", "--to", "home", "--via", via).code == 0
    require_identical(folder, project.path / "home/data/odd")


def test_nothing_is_deleted_where_nobody_can_be_asked(project: TrainingProject) -> None:
    (project.path / "kept").mkdir()
    (project.path / "kept/x").touch()
    project.set(data="{kept: data/kept}")
    project.start_cloud()
    (project.volume / "data/kept").mkdir(parents=True)
    (project.volume / "data/kept/old").touch()
    unasked = project.inv("sync-data", "--delete")
    assert (unasked.code, "inv sync-data --delete --yes" in unasked.stderr) == (101, True), unasked
    left = {path.name for path in (project.volume / "data/kept").iterdir()}
    assert left == {"old"}, "it is refused before anything is sent"


def test_the_newest_whole_checkpoint_comes_home_by_both_ways(project: TrainingProject) -> None:
    assert project.train().code == 0
    weights = project.output / "checkpoint-8/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    for via, folder in (("s3", "fetched"), ("ssh", "by-ssh")):
        done = project.inv("fetch", "--to", folder, "--via", via)
        assert (done.code, "skipped: checkpoints/run/checkpoint-8" in done.stderr) == (0, True), done
        home = project.path / folder / "checkpoints/run"
        assert sorted(path.name for path in home.iterdir()) == ["checkpoint-6", "final_model"]
        require_identical(home / "checkpoint-6", project.output / "checkpoint-6")
    assert project.inv("fetch", "logs").code == 0
    assert (project.path / "fetched/logs/current.log").read_bytes().decode() == project.log
