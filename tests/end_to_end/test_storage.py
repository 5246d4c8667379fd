"""`inv storage` by both ways on the local cloud, with a run that goes on and with none; and `inv doctor`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

from tests.end_to_end.project import TIMEOUT_S, TrainingProject
from tests.unit.test_tables import read_all


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


def answer_question(project: TrainingProject, answer: bytes, *words: str) -> tuple[int, str]:
    """Run a command on a terminal where somebody answers its question; return its exit code and all it wrote."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "invoke", *words]
    with subprocess.Popen(
        command, cwd=project.path, env=project.environment(), stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        os.write(ours, answer)
        told = read_all(ours)
    return process.returncode, told


def test_room_is_made_by_both_ways_and_never_without_leave(project: TrainingProject) -> None:
    refused = project.inv("storage")
    assert (refused.code, refused.stdout) == (0, ""), "nothing is started only to look"
    assert project.train().code == 0
    assert names(project.output) == {"final_model", *(f"checkpoint-{step}" for step in (2, 4, 6, 8))}

    told = json.loads(project.inv("storage", "--json").stdout)
    assert told["volume"]["id"] == project.server()["volume_id"]
    assert [c["step"] for c in told["output_directories"][0]["checkpoints"]] == [8, 6, 4, 2]
    assert told["files"] == sum(path.is_file() and not path.is_symlink() for path in project.volume.rglob("*"))

    choices = project.inv("storage", "clean")
    assert choices.code == 0 and "inv storage clean --old-checkpoints" in choices.stdout
    silent = project.inv("storage", "clean", "--old-checkpoints")
    assert silent.code == 101 and "--yes deletes without asking" in silent.stderr
    code, said = answer_question(project, b"\n", "storage", "clean", "--old-checkpoints")
    assert code == 130 and "Nothing was deleted." in said, "Enter means no"
    assert project.inv("storage", "clean", "--old-checkpoints", "--dry-run").code == 0
    assert len(names(project.output)) == 5, "nothing was deleted so far"

    code, said = answer_question(project, b"y\n", "storage", "clean", "--old-checkpoints", "--keep", "2")
    assert code == 0 and "Delete this for good, 240 B?" in said.replace("\r", ""), said
    left = {folder for folder in names(project.output) if any((project.output / folder).iterdir())}
    assert left == {"final_model", "checkpoint-8", "checkpoint-6"}

    without_pod = project.inv("storage", "--via", "ssh")
    assert without_pod.code == 101 and "--start" in without_pod.stderr and "CPU pod" in without_pod.stderr
    cleaned = project.inv("storage", "clean", "--old-checkpoints", "--yes", "--via", "ssh", "--start", "--json")
    assert cleaned.code == 0, cleaned.stderr
    deleted = [path.rpartition("/")[2] for path in json.loads(cleaned.stdout)["deleted"]]
    assert deleted == ["checkpoint-6", "checkpoint-4", "checkpoint-2"], "two are folders that the S3 API left empty"
    assert project.running_pods() == []
    assert "RESUMING FROM: " in project.train().stdout, "what is left is enough to resume"


def test_live_run_is_told_of_and_keeps_what_it_needs(project: TrainingProject) -> None:
    project.hold_at(6)
    process = project.start("train", "--config", "configs/run.yaml")
    project.wait_for_step(6)
    hub = project.volume / ".cache/huggingface/hub"
    hub.mkdir(parents=True)
    listed = project.inv("storage")
    assert listed.code == 0 and "goes on" in listed.stderr and "by way of pod" in listed.stderr
    done = project.inv("storage", "clean", "--old-checkpoints", "--hf-cache", "--logs", "--yes", "--json")
    assert done.code == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["deleted"] == ["checkpoints/run/checkpoint-4", "checkpoints/run/checkpoint-2"]
    assert hub.exists() and "goes on" in {e["path"]: e["why"] for e in answer["kept"]}[".cache/huggingface/hub"]
    project.release()
    assert process.wait(timeout=TIMEOUT_S) == 0
    assert {"checkpoint-6", "checkpoint-8"} <= names(project.output)


def test_doctor_looks_at_all_and_starts_nothing(project: TrainingProject) -> None:
    done = project.inv("doctor", "--json")
    assert done.code == 0, done.stdout
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "does not run" in checks["local cloud"]["text"] and "API key" not in checks
    assert not (project.path / ".podtasks/cloud").exists()
    project.start_cloud()
    checks = {check["name"]: check for check in json.loads(project.inv("doctor", "--json").stdout)["checks"]}
    assert {checks[name]["state"] for name in ("API key", "balance", "volume", "GPU", "REST v2", "S3 API")} == {"ok"}
    assert project.pods() == []

    (project.path / "new.txt").touch()
    project.set(gpu_types="[No Such GPU]")
    done = project.inv("doctor", LC_ALL="C", PYTHONIOENCODING="ascii")
    assert done.code == 104, "the first problem's"
    assert "x code " in done.stdout and "x GPU " in done.stdout and "+ git " in done.stdout
    assert "Next: commit them" in done.stdout and "2 problems" in done.stderr
    project.set(no_such_setting="1")
    done = project.inv("doctor")
    assert done.code == 103 and "no_such_setting" in done.stdout and "Python" in done.stdout


def test_bad_input_is_one_clear_error_and_nothing_is_started(project: TrainingProject) -> None:
    done = project.inv("storage", "wipe", "--archives")
    assert done.code == 101 and done.stdout == ""
    assert done.stderr.startswith("error: inv storage does not know 'wipe'.") and "Next: " in done.stderr
    assert not (project.path / ".podtasks/cloud").exists()
