"""podtasks as another repository gets it: built, installed, and called from there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

import podtasks
from podtasks.pure.project_settings import Settings
from podtasks.pure.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "podtasks" / "templates"
UV = Path(sys.executable).with_name("uv")
COMMENTED_SETTING = re.compile(r"^  #(?=[a-z ] *[A-Za-z_]+:)", re.MULTILINE)


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}


def run(*command: str | Path, cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, env=clean_environment(), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def files_below(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder).as_posix() for path in found}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a venv that holds the built podtasks, and sees the libraries of this one."""
    venv = tmp_path_factory.mktemp("installed") / "venv"
    python = venv / "bin" / "python"
    run(sys.executable, "-m", "venv", "--without-pip", venv, cwd=venv.parent)
    run(UV, "pip", "install", "-q", "--offline", "--no-deps", "--python", python, wheel, cwd=venv.parent)
    (site_packages,) = venv.glob("lib/python*/site-packages")
    (site_packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


@pytest.fixture
def other_repository(tmp_path: Path) -> Path:
    """A training repository of somebody else, with what `inv init` writes."""
    repository = tmp_path / "somebody's training"
    run("git", "init", "-q", repository, cwd=tmp_path)
    for name in ("tasks.py", "invoke.yaml"):
        (repository / name).write_text((TEMPLATES / name).read_text(encoding="utf-8"), encoding="utf-8")
    return repository


def test_wheel_carries_the_programs_for_the_pod_and_nothing_of_the_tests(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {f"podtasks/_remote/{name}" for name in files_below(ROOT / "remote")} <= names
    assert {f"podtasks/{name}" for name in files_below(ROOT / "podtasks")} <= names
    assert {name.split("/")[0] for name in names} == {
        "podtasks",
        f"podtasks-{podtasks.__version__}.dist-info",
    }


def test_installed_programs_can_still_be_executed(installed_python: Path) -> None:
    (package,) = installed_python.parents[1].glob("lib/python*/site-packages/podtasks")
    sources = {package / "_remote": ROOT / "remote", package / "emulator": ROOT / "podtasks" / "emulator"}
    for installed, source in sources.items():
        for name in files_below(source):
            assert os.access(installed / name, os.X_OK) == os.access(source / name, os.X_OK), name


def test_two_line_tasks_file_gives_another_repository_the_tasks(installed_python: Path, other_repository: Path) -> None:
    listing = run(installed_python, "-m", "invoke", "--list", cwd=other_repository)
    where = run(installed_python, "-c", "import podtasks; print(podtasks.__file__)", cwd=other_repository)
    assert Path(where.strip()).is_relative_to(installed_python.parents[1])
    for task in ("train", "status", "stop"):
        assert re.search(rf"^\s+{task}\b", listing, re.MULTILINE), listing


def test_importing_the_package_does_not_import_the_tasks() -> None:
    program = "import sys, podtasks; print(sorted({'invoke', 'fabric', 'runpod', 'pydantic'} & set(sys.modules)))"
    assert run(sys.executable, "-c", program, cwd=ROOT) == "[]\n"


def test_template_settings_are_all_settings_with_their_defaults() -> None:
    text = (TEMPLATES / "invoke.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == {"podtasks": {"max_usd_per_hour": 0.80}}
    mapping = yaml.safe_load(COMMENTED_SETTING.sub("  ", text))["podtasks"]
    assert list(mapping) == list(Settings.model_fields)
    defaults = load_settings(None, {}, None, {}, folder="project")
    mapping["max_usd_per_hour"] = defaults.settings.max_usd_per_hour
    assert load_settings(mapping, {}, None, {}, folder="project").settings == defaults.settings


def test_template_explains_every_setting() -> None:
    lines = (TEMPLATES / "invoke.yaml").read_text(encoding="utf-8").splitlines()
    for before, line in pairwise(lines):
        if re.match(r"  #[a-z_]+:", line):
            assert re.match(r"  # \S", before), f"{line!r} has no explanation above it"


def test_examples_of_other_pipelines_are_valid_settings() -> None:
    text = (ROOT / "configs" / "reference.yaml").read_text(encoding="utf-8")
    blocks = re.findall(r"^#   podtasks:\n(?:#     .+\n)+", text, re.MULTILINE)
    assert len(blocks) == 4
    for block in blocks:
        mapping = yaml.safe_load(re.sub(r"^#   ", "", block, flags=re.MULTILINE))["podtasks"]
        assert load_settings(mapping, {}, None, {}, folder="project").settings.checkpoint_pattern


def test_template_of_the_key_file_is_the_repository_s_own_example() -> None:
    example = (ROOT / ".runpod.env.example").read_text(encoding="utf-8")
    assert (TEMPLATES / "runpod.env.example").read_text(encoding="utf-8") == example
