"""Running the pod's programs: the commands, tried by a real shell, and what their answers stand for."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from podtasks.pure.boot import build_archive
from podtasks.pure.errors import (
    CodeError,
    PodtasksError,
    RemoteCommandError,
    RemoteRefusedError,
    UsageError,
)
from podtasks.pure.pod_programs import (
    PodFolders,
    build_folders,
    build_install_command,
    build_presence_command,
    build_program_command,
    build_question,
    parse_answer,
    require_success,
)

HOSTILE = 'it\'s; $(touch pwned) "q" `id` \n&'
PROGRAM = b"import json, os, sys; print(json.dumps([os.environ['PODTASKS_DIR'], os.environ['PODTASKS_VOLUME'], \
json.loads(sys.stdin.readline())]))\n"


def shell(command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["sh", "-c", command], input=stdin, capture_output=True, check=False, timeout=10)


def test_kit_is_named_after_what_is_in_it() -> None:
    kit = build_folders("/opt/podtasks", "/workspace", {"a.py": b"1", "b.py": b"2"}).kit
    assert kit == build_folders("/opt/podtasks", "/workspace", {"b.py": b"2", "a.py": b"1"}).kit
    others = [{"a.py": b"2", "b.py": b"1"}, {"a.py": b"12", "b.py": b""}, {"a.py": b"1"}, {"a.py": b"1b.py2"}]
    kits = {build_folders("/opt/podtasks", "/workspace", programs).kit for programs in others}
    assert len(kits | {kit}) == 5
    assert kit.startswith("/opt/podtasks/kit-")
    assert len(kit) == len("/opt/podtasks/kit-") + 12


def test_programs_installed_and_run_by_a_real_shell_in_a_hostile_folder(tmp_path: Path) -> None:
    container = tmp_path / HOSTILE
    container.mkdir()
    folders = build_folders(str(container), "/workspace", {"echo.py": PROGRAM})
    assert shell(build_presence_command(folders)).returncode == 1
    partial = Path(f"{folders.kit}.partial")
    partial.mkdir()
    (partial / "left by a broken upload").touch()
    installed = shell(build_install_command(folders, "1a2b"), build_archive({"echo.py": PROGRAM}))
    assert (installed.returncode, installed.stderr) == (0, b"")
    assert shell(build_presence_command(folders)).returncode == 0
    assert [path.name for path in Path(folders.kit).iterdir()] == ["echo.py"]
    done = shell(build_program_command(folders, "echo.py"), build_question({"text": HOSTILE}))
    assert json.loads(done.stdout) == [str(container), "/workspace", {"text": HOSTILE}]
    assert not list(tmp_path.rglob("pwned"))


def test_upload_cut_short_leaves_no_programs(tmp_path: Path) -> None:
    folders = build_folders(str(tmp_path), "/workspace", {"echo.py": PROGRAM})
    archive = build_archive({"echo.py": bytes(range(256)) * 400})
    assert shell(build_install_command(folders, "1a2b"), archive[: len(archive) // 2]).returncode != 0
    assert shell(build_presence_command(folders)).returncode == 1


def test_program_command_needs_no_login_shell() -> None:
    folders = PodFolders("/opt/podtasks", "/workspace", "/opt/podtasks/kit-abc")
    assert shlex.split(build_program_command(folders, "status.py")) == [
        "env",
        "PODTASKS_DIR=/opt/podtasks",
        "PODTASKS_VOLUME=/workspace",
        "python3",
        "/opt/podtasks/kit-abc/status.py",
    ]


def test_question_is_one_line() -> None:
    question = build_question({"text": "a\nb\u2028c"})
    assert question.count(b"\n") == 1
    assert question.endswith(b"\n")
    assert json.loads(question) == {"text": "a\nb\u2028c"}


@pytest.mark.parametrize("stdout", [b'{"ok": true}\n', b'{"ok": true}', b'a warning of the image\n{"ok": true}\n\n'])
def test_answer_is_the_last_line(stdout: bytes) -> None:
    assert parse_answer("status.py", 0, stdout, b"noise") == {"ok": True}


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("sync_code.py", CodeError),
        ("find_checkpoint.py", UsageError),
        ("prepare.py", RemoteRefusedError),
        ("launch.py", RemoteRefusedError),
    ],
)
def test_refusal_becomes_the_error_it_stands_for(program: str, expected: type[PodtasksError]) -> None:
    stdout = b'{"error": "short", "detail": "the branch is gone"}\n'
    with pytest.raises(expected) as caught:
        parse_answer(program, 20, stdout, b"")
    assert type(caught.value) is expected
    assert caught.value.what == "The pod refused. short: the branch is gone."
    assert "No training was started" in caught.value.means


def test_lines_that_a_program_quotes_come_once_and_never_where_ours_begin() -> None:
    detail = "error: pack x is bad\nerror: pack x is bad\n\nfatal: not a tree\n"
    with pytest.raises(CodeError) as caught:
        parse_answer("sync_code.py", 20, json.dumps({"error": "No", "detail": detail}).encode(), b"")
    assert caught.value.what == "The pod refused. No: error: pack x is bad\n  fatal: not a tree."


def test_refusal_without_detail_gives_the_short_error() -> None:
    with pytest.raises(RemoteCommandError, match=r"The pod refused\. short\."):
        parse_answer("launch.py", 20, b'{"error": "short"}', b"")


@pytest.mark.parametrize(
    ("exit_code", "stdout"),
    [(1, b'{"ok": true}'), (0, b""), (0, b"not json"), (0, b"[1]"), (20, b"garbage"), (137, b"")],
)
def test_failure_shows_the_exit_code_and_the_last_words(exit_code: int, stdout: bytes) -> None:
    stderr = b"".join(b"line %d\n" % number for number in range(40)) + b"odd \xff byte\n"
    with pytest.raises(RemoteCommandError) as caught:
        parse_answer("launch.py", exit_code, stdout, stderr)
    assert caught.value.what.startswith(f"launch.py failed on the pod with exit code {exit_code}:\nline 29\n")
    assert caught.value.what.endswith("odd \ufffd byte")


def test_failure_that_said_nothing_says_so() -> None:
    with pytest.raises(RemoteCommandError, match=r"\(it wrote nothing\)"):
        require_success("the upload", 2, b"")
    require_success("the upload", 0, b"a warning")
