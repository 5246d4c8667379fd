"""The project's own files: found, read, and replaced in one step."""

from __future__ import annotations

import os
import select
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from podtasks.doors.project_files import (
    ProjectFiles,
    find_root,
    read_identity,
    read_pod_programs,
    write_atomically,
    write_identity_value,
)
from podtasks.pure.errors import InstallationError, SettingsError

CHECKOUT = Path(__file__).resolve().parents[2]
IDENTITY = "# mine\nRUNPOD_API_KEY='k\"ey'  # secret\n\nPOD_ID=old\nexport GPU_TYPE=A\n"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def files(tmp_path: Path) -> ProjectFiles:
    return ProjectFiles(tmp_path)


# Writing


def test_file_written_is_private_even_where_it_was_not(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "x.env"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o644)
    write_atomically(path, b"new")
    assert (path.read_bytes(), mode(path)) == (b"new", 0o600)
    assert os.listdir(path.parent) == ["x.env"]


def test_file_is_whole_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.env"
    path.write_text("old")
    seen: list[str] = []
    real = os.replace

    def replace(source: str, target: Path) -> None:
        seen.append(path.read_text())
        assert Path(source).read_bytes() == b"new"
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_atomically(path, b"new")
    assert seen == ["old"]


def test_write_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.env"
    path.write_text("old")

    def no_space(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["x.env"]


def test_symbolic_link_stays_one_and_its_target_is_written(tmp_path: Path) -> None:
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "real.env").write_text("old")
    link = tmp_path / ".runpod.env"
    link.symlink_to("secrets/real.env")
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert (secrets / "real.env").read_bytes() == b"new"
    assert mode(secrets / "real.env") == 0o600


def test_symbolic_link_to_another_disk_is_written_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "another disk"
    elsewhere.mkdir()
    link = tmp_path / ".runpod.env"
    link.symlink_to(elsewhere / "real.env")
    real = os.replace

    def replace(source: str, target: Path) -> None:
        if Path(source).parent != target.parent:
            raise OSError(18, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_atomically(link, b"new")
    assert (elsewhere / "real.env").read_bytes() == b"new"


# .runpod.env


def test_pod_id_is_set_and_every_other_byte_kept(files: ProjectFiles) -> None:
    files.identity_path.write_text(IDENTITY)
    write_identity_value(files.identity_path, "POD_ID", "new1")
    assert files.identity_path.read_text() == IDENTITY.replace("POD_ID=old", "POD_ID=new1")


def test_pod_id_is_written_where_there_is_no_file_yet(files: ProjectFiles) -> None:
    write_identity_value(files.local_identity_path, "POD_ID", "new1")
    assert read_identity(files.local_identity_path) == {"POD_ID": "new1"}
    assert mode(files.local_identity_path) == 0o600


def test_line_ends_of_the_identity_file_stay(files: ProjectFiles) -> None:
    files.identity_path.write_bytes(b"# mine\r\nPOD_ID=old\r\nGPU_TYPE=A\r\n")
    write_identity_value(files.identity_path, "POD_ID", "new1")
    assert files.identity_path.read_bytes() == b"# mine\r\nPOD_ID=new1\r\nGPU_TYPE=A\r\n"
    assert read_identity(files.identity_path) == {"POD_ID": "new1", "GPU_TYPE": "A"}


def test_identity_file_that_others_may_read_is_made_private(files: ProjectFiles) -> None:
    files.identity_path.write_text("RUNPOD_API_KEY=rpa_x\n")
    files.identity_path.chmod(0o644)
    assert read_identity(files.identity_path) == {"RUNPOD_API_KEY": "rpa_x"}
    assert mode(files.identity_path) == 0o600


def test_identity_file_that_is_missing_holds_nothing(files: ProjectFiles) -> None:
    assert read_identity(files.identity_path) == {}


@pytest.mark.parametrize("content", [b"RUNPOD_API_KEY=rpa_\xff\xfe\n", b"RUNPOD_API_KEY rpa_VERYSECRET\n"])
def test_identity_file_that_cannot_be_understood_is_an_error_that_shows_no_key(
    files: ProjectFiles, content: bytes
) -> None:
    files.identity_path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_identity(files.identity_path)
    assert "rpa_VERYSECRET" not in str(caught.value)
    assert caught.value.next_step


def test_folder_in_the_place_of_the_identity_file_is_an_error(files: ProjectFiles) -> None:
    files.identity_path.mkdir()
    with pytest.raises(SettingsError, match="cannot be read"):
        read_identity(files.identity_path)


# Folders


def test_state_folder_is_private_and_ignores_itself_in_git(files: ProjectFiles) -> None:
    folder = files.ensure_state_folder()
    assert files.ensure_state_folder() == folder
    assert mode(folder) == 0o700
    assert (folder / ".gitignore").read_text() == "*\n"


def test_run_folder_whose_note_is_the_newest_is_the_newest(files: ProjectFiles) -> None:
    assert files.newest_run_folder() is None
    folders = [files.run_folder(name) for name in ("zz", "aa")]
    for folder in folders:
        (folder / "run.json").touch()
    (folders[0].parent / "a file").touch()
    (files.run_folder("only a record") / "record.json").touch()
    os.utime(folders[0] / "run.json", (1, 1))
    assert files.newest_run_folder() == folders[1]
    os.utime(folders[0] / "run.json")
    os.utime(folders[1] / "run.json", (1, 1))
    assert files.newest_run_folder() == folders[0]


def test_configurations_are_listed_with_their_folder(files: ProjectFiles) -> None:
    assert files.config_names() == []
    (files.root / "configs").mkdir()
    for name in ("b.yml", "a.yaml", "notes.txt"):
        (files.root / "configs" / name).touch()
    assert files.config_names() == ["configs/a.yaml", "configs/b.yml"]


def test_root_is_the_folder_of_tasks_py_from_below(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    assert find_root(below) == below
    (tmp_path / "tasks.py").touch()
    assert find_root(below) == tmp_path
    (below / "tasks.py").mkdir()
    assert find_root(below) == tmp_path, "a folder of that name is no project"


def test_pod_programs_are_those_of_the_checkout() -> None:
    programs = read_pod_programs()
    assert {"boot.sh", "guard.py", "stop_pod.py", "pod_environ.py", "launch.py"} <= set(programs)
    assert all(name.endswith((".py", ".sh")) for name in programs)


def test_pod_programs_that_are_not_installed_are_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "site-packages" / "podtasks" / "doors" / "project_files.py"
    monkeypatch.setattr("podtasks.doors.project_files.__file__", str(module))
    with pytest.raises(InstallationError, match=r"no boot\.sh in .*/podtasks/_remote") as caught:
        read_pod_programs()
    assert "install podtasks again" in caught.value.next_step


def test_pod_programs_are_those_of_the_wheel_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "podtasks"
    (package / "_remote").mkdir(parents=True)
    (package / "_remote" / "boot.sh").write_text("true\n")
    monkeypatch.setattr("podtasks.doors.project_files.__file__", str(package / "doors" / "project_files.py"))
    assert read_pod_programs() == {"boot.sh": b"true\n"}


# The lock


HOLD = """
import pathlib, sys
from podtasks.doors.project_files import ProjectFiles

told = []
with ProjectFiles(pathlib.Path(sys.argv[1])).locked("launch", lambda: told.append("waited")):
    print(*told, "has it", flush=True)
    sys.stdin.readline()
"""


def hold_lock(root: Path) -> subprocess.Popen[str]:
    """Hold the lock in a process of its own, which says whether it was first, until it is told to let go."""
    words = [sys.executable, "-c", HOLD, str(root)]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT)


def never() -> None:
    """Fail: nobody else has the lock."""
    raise AssertionError("waited for a lock that is free")


def heard(process: subprocess.Popen[str], timeout_s: float) -> str:
    assert process.stdout
    return process.stdout.readline().strip() if select.select([process.stdout], [], [], timeout_s)[0] else ""


def test_lock_is_free_and_free_again(files: ProjectFiles) -> None:
    for _ in range(2):
        with files.locked("launch", never):
            assert (files.state_folder / "launch.lock").exists()
    with files.locked("launch"), files.locked("cloud", never):
        """Another name is another lock."""


def test_lock_held_by_another_process_is_waited_for_and_the_wait_is_told(files: ProjectFiles) -> None:
    with hold_lock(files.root) as holder:
        assert heard(holder, 10) == "has it"
        with hold_lock(files.root) as waiter:
            assert heard(waiter, 0.4) == "", "it waits"
            holder.communicate("let go\n", timeout=10)
            assert heard(waiter, 10) == "waited has it", "and is told so"
            waiter.communicate("let go\n", timeout=10)
    assert (holder.returncode, waiter.returncode) == (0, 0)


def test_lock_dies_with_its_holder(files: ProjectFiles) -> None:
    with hold_lock(files.root) as holder:
        assert heard(holder, 10) == "has it"
        holder.kill()
    with files.locked("launch", never):
        """Nobody is waited for."""


@pytest.mark.parametrize("error", [BlockingIOError(11, "try again"), KeyboardInterrupt(), ValueError("x")])
def test_error_under_the_lock_comes_out_as_it_is_and_frees_it(files: ProjectFiles, error: BaseException) -> None:
    with pytest.raises(type(error)), files.locked("launch"):
        raise error
    with files.locked("launch", never):
        """Nobody is waited for."""


def test_who_could_read_the_keys_is_told_once(files: ProjectFiles) -> None:
    files.identity_path.write_text(IDENTITY)
    files.identity_path.chmod(0o640)
    heard: list[int] = []
    read_identity(files.identity_path, heard.append)
    read_identity(files.identity_path, heard.append)
    assert heard == [0o640]


def test_keys_that_cannot_be_made_private_are_refused_with_what_to_type(
    files: ProjectFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.identity_path.write_text(IDENTITY)
    files.identity_path.chmod(0o644)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", refuse)
    with pytest.raises(SettingsError, match=r"can be read by others \(mode 644\)") as failure:
        read_identity(files.identity_path)
    assert failure.value.next_step.startswith("as its owner: chmod 600 ")
