"""./inv on a fresh clone: a real venv, filled by real pip and uv from a small folder of packages."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
REAL_UV = Path(sys.executable).with_name("uv")
PROGRAMS = ("git", "tmux", "ssh", "rsync", "sshd", "bwrap")
SET_UP_TIMEOUT_S = 90
REPORTING_INV = """\
#!python
import json, os, sys
print(json.dumps({"arguments": sys.argv[1:], "directory": os.getcwd()}))
"""


def make_wheel(folder: Path, name: str, scripts: dict[str, str]) -> str:
    """Write a package that installs the given scripts; return its lines for a lock file."""
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    files = {f"{name}-1.0.data/scripts/{script}": text for script, text in scripts.items()}
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = (stat.S_IFREG | 0o755) << 16
            archive.writestr(entry, text)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}==1.0 \\\n    --hash=sha256:{digest}\n    # via a test\n"


def make_programs(folder: Path, names: tuple[str, ...], text: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)


@dataclass(frozen=True)
class Clone:
    """A fresh clone as the wrapper sees it, and an environment that knows only its packages."""

    root: Path
    environment: dict[str, str]
    package_lines: dict[str, str]

    @property
    def wrapper(self) -> Path:
        return self.root / "inv"

    def write_lock(self, *names: str) -> None:
        text = "".join(self.package_lines[name] for name in names)
        (self.root / "requirements.lock").write_text(text, encoding="utf-8")

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.wrapper, *arguments],
            env={**self.environment, **environment},
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environment: str) -> tuple[int, str, str]:
        with self.start(*arguments, **environment) as process:
            output, story = process.communicate(timeout=SET_UP_TIMEOUT_S)
        return process.returncode, output, story


def make_clone(folder: Path) -> Clone:
    root = folder / "a clone's $(home)"
    root.mkdir()
    shutil.copy(ROOT / "inv", root)
    packages, programs = folder / "packages", folder / "programs"
    packages.mkdir()
    make_programs(programs, PROGRAMS, "#!/bin/sh\nexit 99\n")
    (programs / "python3").symlink_to(PYTHON)
    uv_script = f"#!/bin/sh\nexec '{REAL_UV}' \"$@\"\n"
    lines = {
        "uv": make_wheel(packages, "uv", {"uv": uv_script}),
        "invoke": make_wheel(packages, "invoke", {"inv": REPORTING_INV}),
        "extra": make_wheel(packages, "extra", {"extra": "#!/bin/sh\n"}),
    }
    lines["tampered"] = make_wheel(folder, "extra", {"extra": "#!/bin/sh\necho other bytes\n"})
    environment = {
        "HOME": str(folder),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(packages),
        "UV_NO_CONFIG": "1",
        "UV_NO_INDEX": "1",
        "UV_OFFLINE": "1",
        "UV_FIND_LINKS": str(packages),
        "UV_CACHE_DIR": str(folder / "uv-cache"),
    }
    clone = Clone(root, environment, lines)
    clone.write_lock("invoke", "uv")
    return clone


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return make_clone(tmp_path)


@pytest.fixture(scope="module")
def first_call(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str, str]:
    """A clone, and what its first call printed on stdout and on stderr."""
    clone = make_clone(tmp_path_factory.mktemp("ready"))
    code, output, story = clone.run("train", "--config", "a b.yaml")
    assert code == 0, story
    return clone, output, story


@pytest.fixture
def ready_clone(first_call: tuple[Clone, str, str]) -> Clone:
    """A clone that is set up; tests that use it leave it so."""
    return first_call[0]


def reported(output: str) -> dict[str, object]:
    report: dict[str, object] = json.loads(output)
    return report


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + SET_UP_TIMEOUT_S
    while not condition():
        assert process.poll() is None, "the set-up ended before the point where it was to be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_fresh_set_up_runs_the_task_and_says_what_it_does(first_call: tuple[Clone, str, str]) -> None:
    _, output, story = first_call
    assert reported(output)["arguments"] == ["train", "--config", "a b.yaml"]
    lines = story.splitlines()
    assert lines[0].startswith("podtasks: making .venv with Python 3.")
    assert lines[1:] == ["podtasks: installing the packages of requirements.lock", "podtasks: ready"]


def test_later_call_starts_no_program_but_cmp_and_says_nothing(ready_clone: Clone, tmp_path: Path) -> None:
    make_programs(tmp_path / "bin", PROGRAMS, "#!/bin/sh\nexit 99\n")
    compare = shutil.which("cmp")
    assert compare is not None
    (tmp_path / "bin" / "cmp").symlink_to(compare)
    code, output, story = ready_clone.run("status", PATH=str(tmp_path / "bin"))
    assert (code, story) == (0, "")
    assert reported(output)["arguments"] == ["status"]


def test_no_arguments_list_the_tasks(ready_clone: Clone) -> None:
    assert reported(ready_clone.run()[1])["arguments"] == ["--list"]


def test_from_elsewhere_and_through_a_link_it_works_in_the_clone(ready_clone: Clone, tmp_path: Path) -> None:
    link = tmp_path / "my inv"
    link.symlink_to(ready_clone.wrapper)
    for command in (str(ready_clone.wrapper), str(link), os.path.relpath(ready_clone.wrapper, tmp_path)):
        result = subprocess.run(
            [command, "x"],
            cwd=tmp_path,
            env=ready_clone.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert reported(result.stdout)["directory"] == str(ready_clone.root.resolve())


def test_from_inside_the_clone_the_working_directory_stays(ready_clone: Clone) -> None:
    inside = ready_clone.root / "some folder"
    inside.mkdir()
    result = subprocess.run(
        ["../inv"], cwd=inside, env=ready_clone.environment, capture_output=True, text=True, check=True
    )
    assert reported(result.stdout)["directory"] == str(inside.resolve())


def test_set_up_killed_on_its_way_is_completed_by_the_next_call(clone: Clone) -> None:
    venv = clone.root / ".venv"
    with clone.start("x") as process:
        wait_until((venv / "bin" / "python").exists, process)
        os.killpg(process.pid, signal.SIGKILL)
    # This time the shell alone dies, and what it had started goes on.
    with clone.start("x") as process:
        wait_until((venv / "bin" / "pip").exists, process)
        process.kill()
    with clone.start("x") as process:
        wait_until((venv / "bin" / "uv").exists, process)
        os.killpg(process.pid, signal.SIGKILL)
    code, output, story = clone.run("x")
    assert code == 0, story
    assert reported(output)["arguments"] == ["x"]
    assert "making .venv" in story
    assert clone.run("x")[2] == ""


def test_two_at_once_set_up_once_and_both_run(clone: Clone) -> None:
    with clone.start("first") as first, clone.start("second") as second:
        results = [process.communicate(timeout=SET_UP_TIMEOUT_S) for process in (first, second)]
    assert [reported(output)["arguments"] for output, _ in results] == [["first"], ["second"]]
    stories = sorted((story for _, story in results), key=len)
    assert [story.count("making .venv") for story in stories] == [0, 1]


def test_changed_lock_file_installs_into_the_same_venv(ready_clone: Clone) -> None:
    ready_clone.write_lock("extra", "invoke", "uv")
    code, _, story = ready_clone.run("x")
    ready_clone.write_lock("invoke", "uv")
    assert ready_clone.run("x")[0] == 0
    assert code == 0, story
    assert story.splitlines() == ["podtasks: installing the packages of requirements.lock", "podtasks: ready"]
    assert (ready_clone.root / ".venv" / "bin" / "extra").exists()


def test_package_with_another_hash_is_refused(clone: Clone) -> None:
    clone.write_lock("tampered", "invoke", "uv")
    code, output, story = clone.run("x")
    assert (code, output) == (1, "")
    assert "hash" in story.lower()
    assert not (clone.root / ".venv" / "bin" / "extra").exists()


def test_clone_that_was_moved_is_set_up_anew(clone: Clone) -> None:
    clone.run("x")
    moved = Clone(clone.root.with_name("moved"), clone.environment, clone.package_lines)
    clone.root.rename(moved.root)
    code, output, story = moved.run("x")
    assert code == 0, story
    assert "making .venv" in story
    assert reported(output)["directory"] == str(moved.root.resolve())


# --- programs that are missing. A sandbox hides the system's own, which stand where no PATH is asked for.

TOOLS = ("cat", "cmp", "cp", "env", "grep", "mkdir", "mv", "rm", "sed", "tail")
SANDBOX = ("bwrap", "--dev-bind", "/", "/", "--tmpfs", "/usr/sbin", "--tmpfs", "/usr/local/sbin", "--")
RECORD = '#!/bin/sh\nprintf "%s\\n" "${0##*/} $*" >>"$RECORD_FILE"\n'
APT_GET = RECORD + 'case "$*" in *install*) cd "${0%/*}" && cp git sshd && cp git bwrap ;; esac\n'


@dataclass(frozen=True)
class Machine:
    """A machine with only the given programs on it."""

    clone: Clone
    programs: Path

    def run(self) -> tuple[int, str, list[str]]:
        """Call the wrapper; return its exit code, what it said, and which recorded programs ran."""
        record = self.programs.with_name("record")
        record.write_text("", encoding="utf-8")
        result = subprocess.run(
            [*SANDBOX, str(self.clone.wrapper), "x"],
            env={**self.clone.environment, "RECORD_FILE": str(record), "PATH": str(self.programs)},
            executable=shutil.which("bwrap"),
            capture_output=True,
            text=True,
            check=False,
        )
        return result.returncode, result.stderr, record.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def machine(ready_clone: Clone, tmp_path: Path) -> Machine:
    """A machine that lacks sshd and bwrap, and on which nobody was told so yet."""
    programs = tmp_path / "bin"
    make_programs(programs, ("git", "tmux", "ssh", "rsync"), "#!/bin/sh\nexit 99\n")
    (programs / "python3").symlink_to(PYTHON)
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found is not None
        shutil.copy(found, programs / tool)
    (ready_clone.root / ".venv" / "podtasks-programs-told").unlink(missing_ok=True)
    return Machine(ready_clone, programs)


def test_root_with_apt_installs_what_is_missing_and_keeps_the_ssh_service_off(machine: Machine) -> None:
    make_programs(machine.programs, ("apt-get",), APT_GET)
    make_programs(machine.programs, ("systemctl",), RECORD)
    make_programs(machine.programs, ("id",), "#!/bin/sh\necho 0\n")
    code, story, ran = machine.run()
    assert code == 0, story
    assert story == "podtasks: installing openssh-server bubblewrap with apt\n"
    assert ran == [
        "systemctl mask ssh.service ssh.socket",
        "apt-get -q update",
        "apt-get -q -y --no-install-recommends install openssh-server bubblewrap",
        "systemctl unmask ssh.service ssh.socket",
        "systemctl disable ssh.service ssh.socket",
    ]
    assert machine.run() == (0, "", [])


def test_without_the_right_to_install_the_line_is_printed_once_and_the_task_runs(machine: Machine) -> None:
    make_programs(machine.programs, ("apt-get",), APT_GET)
    make_programs(machine.programs, ("id",), "#!/bin/sh\necho 1000\n")
    code, story, ran = machine.run()
    assert code == 0
    assert story == (
        "podtasks: please install what is missing ( sshd bwrap ): sudo apt-get install -y openssh-server bubblewrap\n"
    )
    assert ran == []
    assert machine.run() == (0, "", [])


@pytest.mark.parametrize(
    ("manager", "line"),
    [
        ("dnf", "sudo dnf install -y openssh-server bubblewrap"),
        ("pacman", "sudo pacman -S --needed openssh bubblewrap"),
        ("brew", "brew install openssh bubblewrap"),
        ("none", "install openssh bubblewrap with your package manager"),
    ],
)
def test_other_package_managers_have_their_own_line(machine: Machine, manager: str, line: str) -> None:
    make_programs(machine.programs, (manager,), RECORD)
    _, story, ran = machine.run()
    assert line in story
    assert ran == []


def test_failing_apt_shows_why_and_what_to_type(machine: Machine) -> None:
    make_programs(machine.programs, ("apt-get",), "#!/bin/sh\necho E: no network\nexit 100\n")
    make_programs(machine.programs, ("id",), "#!/bin/sh\necho 0\n")
    code, story, _ = machine.run()
    assert code == 0
    assert "E: no network" in story
    assert "sudo apt-get install -y openssh-server bubblewrap" in story


def test_without_python_the_line_that_brings_it_is_printed(clone: Clone, tmp_path: Path) -> None:
    machine = Machine(clone, tmp_path / "bin")
    make_programs(machine.programs, (*PROGRAMS, "apt-get"), "#!/bin/sh\nexit 99\n")
    make_programs(machine.programs, ("python3",), "#!/bin/sh\nexit 1\n")
    make_programs(machine.programs, ("id",), "#!/bin/sh\necho 1000\n")
    for tool in TOOLS:
        shutil.copy(str(shutil.which(tool)), machine.programs / tool)
    code, story, _ = machine.run()
    assert code == 1
    assert story == (
        "podtasks: Python 3.10 or newer with venv is missing: sudo apt-get install -y python3 python3-venv\n"
    )
