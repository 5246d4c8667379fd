"""environment.py with the real uv and the real pip, on wheels made by hand: nothing is downloaded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

REMOTE = Path(__file__).parents[2] / "remote"
HOSTILE = "a b'c\"d;$(touch pwned)"
BASE_PYTHON = os.path.realpath(sys.executable)
UV = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
DRIVER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from environment import EnvironmentFailure, prepare_environment
def log_write(line):
    assert isinstance(line, bytes)
    sys.stderr.buffer.write(line)
try:
    print(json.dumps({"python": prepare_environment(*json.loads(sys.argv[2]), log_write)}))
except EnvironmentFailure as failure:
    print(json.dumps({"error": str(failure), "exit_code": failure.exit_code}))
"""


def make_wheel(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> Path:
    """Write a wheel of one module that knows its version."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    lines = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{lines}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return path


@dataclass
class Pod:
    """A clone, a volume, a container disk and an image whose Python has packages of its own."""

    root: Path
    python: str
    places: Path
    programs: Path
    environment: dict[str, str] = field(default_factory=dict)
    venv: str = "container"
    log: str = ""

    @property
    def clone(self) -> Path:
        return self.root / "volume" / HOSTILE

    def install_in_image(self, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
        with zipfile.ZipFile(make_wheel(self.root / "image wheels", name, version, requires)) as archive:
            archive.extractall(self.places)

    def offer(self, name: str, version: str, requires: tuple[str, ...] = ()) -> None:
        make_wheel(self.root / "wheels", name, version, requires)

    def write_requirements(self, *lines: str) -> None:
        head = ["--no-index", f"--find-links {self.root / 'wheels'}"]
        (self.clone / "requirements.txt").write_text("\n".join([*head, *lines, ""]))

    def prepare(self, requirements: str | None = "requirements.txt") -> dict[str, str | int]:
        container, volume = self.root / "container disk", self.root / "volume"
        values = [str(self.clone), requirements, self.venv, self.python, str(volume), str(container)]
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, str(REMOTE), json.dumps(values)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PATH": str(self.programs), "VIRTUAL_ENV": "/nowhere", **self.environment},
        )
        self.log = done.stderr
        assert done.returncode == 0, done.stderr
        answer: dict[str, str | int] = json.loads(done.stdout)
        return answer

    def prepared(self) -> str:
        answer = self.prepare()
        assert "python" in answer, (answer, self.log)
        return str(answer["python"])

    def seen(self, python: str, name: str) -> tuple[str, bool]:
        """Return the version the Python sees and whether that is the image's."""
        code = f"import {name}, json; print(json.dumps([{name}.version, {name}.__file__]))"
        words = [python, "-c", code]
        done = subprocess.run(words, capture_output=True, check=True, env={**os.environ, **self.environment})
        version, file = json.loads(done.stdout)
        return version, Path(file).parent == self.places


def make_user_site_image(root: Path) -> tuple[str, Path, dict[str, str]]:
    """An image whose Python has its packages where a venv with system packages sees them by itself."""
    variables = {"PYTHONUSERBASE": str(root / "image")}
    words = [BASE_PYTHON, "-c", "import site; print(site.getusersitepackages())"]
    environment = {**os.environ, **variables}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return BASE_PYTHON, Path(done.stdout.strip()), variables


def make_venv_image(root: Path) -> tuple[str, Path, dict[str, str]]:
    """An image whose Python is in a venv itself."""
    words = [BASE_PYTHON, "-m", "venv", "--without-pip", str(root / "image")]
    subprocess.run(words, check=True)
    (places,) = (root / "image").glob("lib/python*/site-packages")
    return str(root / "image/bin/python"), places, {}


@pytest.fixture(params=[make_user_site_image, make_venv_image], ids=["system", "venv"])
def image(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, dict[str, str]]:
    make: Callable[[Path], tuple[str, Path, dict[str, str]]] = request.param
    return make(tmp_path)


@pytest.fixture
def pod(tmp_path: Path, image: tuple[str, Path, dict[str, str]]) -> Pod:
    python, places, environment = image
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "uv").symlink_to(UV)
    places.mkdir(parents=True, exist_ok=True)
    pod = Pod(tmp_path, python, places, programs, environment)
    pod.clone.mkdir(parents=True)
    (tmp_path / "wheels").mkdir()
    return pod


@pytest.fixture
def uv_pod(tmp_path: Path) -> Pod:
    """A pod for what does not depend on the kind of image."""
    python, places, environment = make_venv_image(tmp_path)
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs/uv").symlink_to(UV)
    pod = Pod(tmp_path, python, places, tmp_path / "programs", environment)
    pod.clone.mkdir(parents=True)
    pod.offer("extra", "1.0")
    pod.write_requirements("extra")
    return pod


def test_image_packages_that_satisfy_are_kept_and_others_are_laid_over(pod: Pod, tmp_path: Path) -> None:
    pod.install_in_image("torch", "2.9.1+cu129", ("numpy>=1",))
    pod.install_in_image("numpy", "1.0")
    pod.install_in_image("filelock", "3.0")
    pod.offer("torch", "3.0")
    pod.offer("numpy", "2.0")
    pod.offer("filelock", "4.0")
    pod.offer("transformers", "5.0", ("torch>=2", "filelock>=4"))
    pod.write_requirements("torch", "transformers", "numpy")
    python = pod.prepared()
    assert pod.seen(python, "torch") == ("2.9.1+cu129", True)
    assert pod.seen(python, "numpy") == ("1.0", True)
    assert pod.seen(python, "filelock") == ("4.0", False)
    assert pod.seen(python, "transformers") == ("5.0", False)
    assert pod.seen(pod.python, "filelock") == ("3.0", True)
    assert not list((tmp_path / "container disk/venv").rglob("torch*"))
    assert "transformers" in pod.log
    assert not list(tmp_path.rglob("pwned"))


def test_image_package_that_does_not_satisfy_is_replaced_in_the_venv_only(pod: Pod) -> None:
    pod.install_in_image("numpy", "2.0")
    pod.offer("numpy", "1.26")
    pod.write_requirements("numpy<2")
    python = pod.prepared()
    assert pod.seen(python, "numpy") == ("1.26", False)
    words = [python, "-c", "import importlib.metadata as m; print(m.version('numpy'))"]
    environment = {**os.environ, **pod.environment}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "1.26"
    assert pod.seen(pod.python, "numpy") == ("2.0", True)


def test_pip_does_the_same_where_there_is_no_uv(pod: Pod) -> None:
    (pod.programs / "uv").unlink()
    pod.install_in_image("torch", "2.9.1")
    pod.install_in_image("numpy", "2.0")
    pod.offer("torch", "3.0")
    pod.offer("numpy", "1.26")
    pod.write_requirements("torch", "numpy<2")
    python = pod.prepared()
    assert pod.seen(python, "torch") == ("2.9.1", True)
    assert pod.seen(python, "numpy") == ("1.26", False)
    assert pod.seen(pod.python, "numpy") == ("2.0", True)


def test_pip_is_tried_where_uv_does_not_trust_the_package_index(uv_pod: Pod) -> None:
    uv = uv_pod.programs / "uv"
    uv.unlink()
    refusal = "echo '  Caused by: invalid peer certificate: UnknownIssuer'; exit 2"
    uv.write_text(f'#!/bin/sh\nif [ "$1" = pip ]; then {refusal}; fi\nexec {UV} "$@"\n')
    uv.chmod(0o755)
    uv_pod.offer("fresh", "1.0")
    uv_pod.write_requirements("fresh")
    assert uv_pod.seen(uv_pod.prepared(), "fresh") == ("1.0", False)
    assert "pip is tried" in uv_pod.log


def test_egg_info_of_the_image_counts(uv_pod: Pod) -> None:
    (uv_pod.places / "old_style.py").write_text("version = '1.5'\n")
    egg = uv_pod.places / "old_style-1.5-py3.11.egg-info"
    egg.mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 1.1\nName: old-style\nVersion: 1.5\n")
    (uv_pod.places / "older.py").write_text("version = '0.5'\n")
    (uv_pod.places / "older-0.5.egg-info").write_text("Metadata-Version: 1.0\nName: older\nVersion: 0.5\n")
    (uv_pod.places / "broken-1.dist-info").mkdir()
    uv_pod.write_requirements("old-style>=1", "older")
    python = uv_pod.prepared()
    assert uv_pod.seen(python, "old_style") == ("1.5", True)
    assert uv_pod.seen(python, "older") == ("0.5", True)


def forbid_processes(pod: Pod) -> None:
    """Make every call of the installer fail."""
    (pod.programs / "uv").unlink()
    (pod.programs / "uv").write_text("#!/bin/sh\nexit 99\n")
    (pod.programs / "uv").chmod(0o755)


@pytest.mark.parametrize("venv", ["container", "volume"])
def test_nothing_changed_starts_no_process(uv_pod: Pod, venv: str) -> None:
    uv_pod.venv = venv
    python = uv_pod.prepared()
    where = {"container": "container disk/venv", "volume": f"volume/.venvs/{HOSTILE}"}[venv]
    assert python == str(uv_pod.root / where / "bin/python")
    forbid_processes(uv_pod)
    assert uv_pod.prepared() == python
    assert uv_pod.log == ""


def test_caches_are_on_the_volume(uv_pod: Pod) -> None:
    uv_pod.prepared()
    assert (uv_pod.root / "volume/.cache/uv").is_dir()


@pytest.mark.parametrize("included", ["-r more.txt", "--requirement=more.txt", "-c more.txt # why"])
def test_change_in_an_included_file_is_noticed(uv_pod: Pod, included: str) -> None:
    (uv_pod.clone / "more.txt").write_text("-r again.txt\n" if "-c" not in included else "extra<9\n")
    (uv_pod.clone / "again.txt").write_text("-r more.txt\n")
    uv_pod.write_requirements("extra", included)
    python = uv_pod.prepared()
    assert uv_pod.seen(python, "extra")[0] == "1.0"
    uv_pod.offer("extra", "2.0")
    assert uv_pod.seen(uv_pod.prepared(), "extra")[0] == "1.0"
    (uv_pod.clone / "more.txt").write_text("extra>=2\n")
    assert uv_pod.seen(uv_pod.prepared(), "extra")[0] == "2.0"


def test_requirement_that_was_taken_away_is_gone(uv_pod: Pod) -> None:
    uv_pod.install_in_image("numpy", "2.0")
    uv_pod.offer("numpy", "1.26")
    uv_pod.write_requirements("numpy<2")
    assert uv_pod.seen(uv_pod.prepared(), "numpy") == ("1.26", False)
    uv_pod.write_requirements("extra")
    assert uv_pod.seen(uv_pod.prepared(), "numpy") == ("2.0", True)


def test_new_image_packages_are_noticed_under_a_venv_on_the_volume(uv_pod: Pod) -> None:
    uv_pod.venv = "volume"
    uv_pod.install_in_image("torch", "2.0")
    uv_pod.offer("torch", "3.0")
    uv_pod.write_requirements("torch>=2")
    assert uv_pod.seen(uv_pod.prepared(), "torch") == ("2.0", True)
    shutil.rmtree(uv_pod.places / "torch-2.0.dist-info")
    (uv_pod.places / "torch.py").unlink()
    assert uv_pod.seen(uv_pod.prepared(), "torch") == ("3.0", False)


def write_project(folder: Path, version: str) -> None:
    """A package with a build backend of its own: building it needs nothing from outside."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'backend'\nbackend-path = ['.']\n"
        f"[project]\nname = 'ours'\nversion = '{version}'\n"
    )
    (folder / "backend.py").write_text(
        textwrap.dedent(
            f"""
            import os, zipfile
            def build_wheel(directory, settings=None, metadata=None):
                info = "ours-{version}.dist-info/"
                name = "ours-{version}-py3-none-any.whl"
                with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
                    archive.writestr("ours.py", "version = '{version}'")
                    archive.writestr(info + "METADATA", "Metadata-Version: 2.1\\nName: ours\\nVersion: {version}")
                    archive.writestr(info + "WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
                    archive.writestr(info + "RECORD", "ours.py,,\\n")
                return name
            build_editable = build_wheel
            """
        )
    )


@pytest.mark.parametrize("line", ["-e ./ours", "./ours", "ours @ file://{clone}/ours"])
def test_local_package_is_installed_again_when_it_or_the_commit_changes(uv_pod: Pod, line: str) -> None:
    write_project(uv_pod.clone / "ours", "1.0")
    git = uv_pod.clone / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs/heads/main").write_text("a" * 40 + "\n")
    if "file://" in line:
        plain = uv_pod.root / "plain"
        plain.symlink_to(uv_pod.clone)
        line = line.format(clone=plain)
    uv_pod.write_requirements(line)
    assert uv_pod.seen(uv_pod.prepared(), "ours")[0] == "1.0"
    # Of another length: Python takes a backend of the same size and second for the one it has compiled.
    write_project(uv_pod.clone / "ours", "2.0.1")
    assert uv_pod.seen(uv_pod.prepared(), "ours")[0] == "2.0.1"
    uv_pod.prepared()
    assert uv_pod.log == ""
    (git / "refs/heads/main").unlink()
    (git / "packed-refs").write_text(f"# pack-refs\n{'b' * 40} refs/heads/main\n")
    uv_pod.prepared()
    assert "ours" in uv_pod.log


@pytest.mark.parametrize("state", ["half made", "no stamp", "garbled stamp", "no python", "a file", "a link"])
def test_interrupted_environment_is_made_anew(uv_pod: Pod, state: str) -> None:
    venv = Path(uv_pod.prepared()).parents[1]
    if state in ("half made", "a file", "a link"):
        shutil.rmtree(venv)
    if state == "half made":
        (venv / "lib").mkdir(parents=True)
    elif state == "a file":
        venv.write_text("")
    elif state == "a link":
        venv.symlink_to("nowhere")
    elif state == "no python":
        (venv / "bin/python").unlink()
    else:
        stamp = venv / "podtasks-stamp.json"
        stamp.unlink() if state == "no stamp" else stamp.write_text("{")
        next(venv.rglob("extra.py")).unlink()
    assert uv_pod.seen(uv_pod.prepared(), "extra")[0] == "1.0"


def test_failure_is_told_with_its_exit_code_and_leaves_no_stamp(uv_pod: Pod) -> None:
    uv_pod.write_requirements("does-not-exist")
    for _ in range(2):
        answer = uv_pod.prepare()
        assert answer["exit_code"] == 1 and "uv pip install" in str(answer["error"])
        assert "does-not-exist" in uv_pod.log
    uv_pod.write_requirements("extra")
    assert uv_pod.seen(uv_pod.prepared(), "extra")[0] == "1.0"


def test_killed_installer_has_a_shell_exit_code(uv_pod: Pod) -> None:
    (uv_pod.programs / "uv").unlink()
    (uv_pod.programs / "uv").write_text("#!/bin/sh\necho dying\nkill -9 $$\n")
    (uv_pod.programs / "uv").chmod(0o755)
    assert uv_pod.prepare()["exit_code"] == 137
    assert uv_pod.log == "dying\n"


def test_without_requirements_the_image_python_is_used(uv_pod: Pod) -> None:
    assert uv_pod.prepare(None) == {"python": uv_pod.python}
    assert "no requirements file is set" in uv_pod.log
    assert uv_pod.prepare("gone.txt") == {"python": uv_pod.python}
    assert "there is no gone.txt" in uv_pod.log
    assert not (uv_pod.root / "container disk").exists()


def test_missing_python_is_refused(uv_pod: Pod) -> None:
    uv_pod.python = "python-that-is-not-there"
    answer = uv_pod.prepare()
    assert answer["exit_code"] == 127 and "python-that-is-not-there" in str(answer["error"])
