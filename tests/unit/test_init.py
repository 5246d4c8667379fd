"""Making a training repository a podtasks project."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from podtasks.doors.project_files import read_identity
from podtasks.flows.init import write_project_files
from podtasks.pure.settings import load_settings
from podtasks.pure.yaml_text import load_yaml

RESULTS = "/data\n/checkpoints\n/logs\n/predictions\n/fetched\n"


def test_empty_folder_gets_every_file(tmp_path: Path) -> None:
    assert write_project_files(tmp_path) == [
        "written  tasks.py",
        "written  invoke.yaml",
        "written  .runpod.env.example",
        "added    .runpod.env, .podtasks/, /data, /checkpoints, /logs, /predictions, /fetched to .gitignore",
    ]
    assert (tmp_path / ".gitignore").read_text() == ".runpod.env\n.podtasks/\n" + RESULTS
    assert "from podtasks import ns" in (tmp_path / "tasks.py").read_text()
    assert not (tmp_path / ".runpod.env").exists(), "the user's own file is the user's to make"


def test_files_written_give_the_settings_that_hold_without_them(tmp_path: Path) -> None:
    write_project_files(tmp_path)
    mapping = load_yaml((tmp_path / "invoke.yaml").read_text())
    assert isinstance(mapping, dict)
    identity = read_identity(tmp_path / ".runpod.env.example")
    written = load_settings(mapping.get("podtasks"), {}, identity, {}, folder="demo")
    # The only setting that is written out: the default cap is below what the default GPU costs.
    assert mapping == {"podtasks": {"max_usd_per_hour": 0.8}}
    capped = load_settings({"max_usd_per_hour": 0.8}, {}, None, {}, folder="demo")
    assert written.settings == capped.settings
    assert written.identity == load_settings(None, {}, None, {}, folder="demo").identity


def test_second_time_changes_nothing(tmp_path: Path) -> None:
    write_project_files(tmp_path)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    assert {line.split()[0] for line in write_project_files(tmp_path)} == {"kept"}
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before


def test_files_there_are_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("mine")
    (tmp_path / "invoke.yaml").symlink_to("nowhere.yaml")
    lines = write_project_files(tmp_path)
    assert lines[:2] == ["kept     tasks.py", "kept     invoke.yaml"]
    assert (tmp_path / "tasks.py").read_text() == "mine"
    assert not (tmp_path / "nowhere.yaml").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("*.pyc", "*.pyc\n.runpod.env\n.podtasks/\n"),
        ("*.pyc\n", "*.pyc\n.runpod.env\n.podtasks/\n"),
        (".podtasks/\n", ".podtasks/\n.runpod.env\n"),
        (".runpod.env\r\n.podtasks/\r\n", ".runpod.env\r\n.podtasks/\r\n"),
        ("# not .runpod.env\n", "# not .runpod.env\n.runpod.env\n.podtasks/\n"),
    ],
)
def test_gitignore_gets_only_what_it_lacks(tmp_path: Path, before: str, after: str) -> None:
    (tmp_path / ".gitignore").write_bytes(before.encode())
    write_project_files(tmp_path)
    assert (tmp_path / ".gitignore").read_bytes().decode() == after + RESULTS


def test_folders_that_are_ignored_or_in_git_already_are_left_as_they_are(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text(".runpod.env\n.podtasks/\ndata/\n/logs/\npredictions\n")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/loader.py").touch()
    for words in (["init", "-q"], ["add", "checkpoints"]):
        subprocess.run(["git", *words], cwd=tmp_path, check=True)
    assert write_project_files(tmp_path)[3:] == [
        "added    /fetched to .gitignore",
        "left out /checkpoints of .gitignore: git tracks files there",
    ]


def test_a_venv_of_any_name_is_kept_out_of_git(tmp_path: Path) -> None:
    for name in (".venv", "env-3.11"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyvenv.cfg").touch()
    write_project_files(tmp_path)
    assert (tmp_path / ".gitignore").read_text().endswith(RESULTS + "/.venv\n/env-3.11\n")
    assert {line.split()[0] for line in write_project_files(tmp_path)} == {"kept"}
