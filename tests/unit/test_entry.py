"""What every task does with our errors, seen as Invoke's exits and as a program's."""

from __future__ import annotations

import errno
import getpass
import os
import signal
import sys
import types
from pathlib import Path

import pytest
from invoke.collection import Collection
from invoke.config import Config
from invoke.context import Context
from invoke.exceptions import Exit
from invoke.program import Program

import podtasks
from podtasks.doors.user import name_user
from podtasks.pure import errors
from podtasks.pure.errors import PodtasksError, PodTimeoutError, combine
from podtasks.tasks import entry, interrupts

TIMEOUT = PodTimeoutError(
    "Pod p1 did not answer.", means="It was stopped, so no GPU is billed.", next_step="run the same command again"
)

FAILURES: dict[str, BaseException] = {
    "ours": TIMEOUT,
    "interrupt": KeyboardInterrupt(),
    "bug": ZeroDivisionError("a bug"),
    "hostile": PodTimeoutError("a\x1b]0;title\x07b\udcff stayed behind.", next_step="y"),
    "disk": OSError(errno.ENOSPC, "No space left on device", ".podtasks/run.json"),
    "folder": PermissionError(errno.EACCES, "Permission denied", "/root/configs"),
    "text": UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
}


@entry.task(help={"how": "what to raise", "dry-run": "nothing"}, iterable=["gpu"])
def fail(c: Context, how: str = "", dry_run: bool = False, gpu: list[str] | None = None) -> None:
    """Fail as asked."""
    del c
    if dry_run:
        print(f"gpu={gpu}")
        return
    raise FAILURES[how]


def run(*words: str) -> int:
    """Run the task as the `inv` program would and return the exit code."""
    program = Program(namespace=Collection(fail), name="inv", version="0")
    with pytest.raises(SystemExit) as caught:
        program.run(["inv", *words])
        raise SystemExit(0)
    return int(caught.value.code or 0)


def test_our_error_becomes_an_exit_with_its_code_and_all_its_text() -> None:
    with pytest.raises(Exit) as caught:
        fail(Context(), how="ours")
    assert caught.value.code == PodTimeoutError.exit_code == 120
    assert caught.value.message == (
        "error: Pod p1 did not answer.\nIt was stopped, so no GPU is billed.\nNext: run the same command again"
    )
    assert caught.value.__suppress_context__, "no traceback for a user's mistake"


def test_names_in_an_error_do_not_steer_the_terminal() -> None:
    with pytest.raises(Exit, match=r"^error: a\?]0;title\?b\? stayed behind\.\nNext: y$"):
        fail(Context(), how="hostile")


def test_interrupt_becomes_exit_130() -> None:
    with pytest.raises(Exit) as caught:
        fail(Context(), how="interrupt")
    assert caught.value.code == 130 == 128 + signal.SIGINT
    assert "interrupted" in str(caught.value.message)


@pytest.mark.parametrize(
    ("how", "says"), [("disk", ".podtasks/run.json"), ("folder", "/root/configs"), ("text", "invalid start byte")]
)
def test_trouble_with_a_file_of_this_machine_is_named_without_a_traceback(
    capsys: pytest.CaptureFixture[str], how: str, says: str
) -> None:
    assert run("fail", "--how", how) == errors.InstallationError.exit_code
    told = capsys.readouterr().err
    assert told.startswith("error: This machine refused: ")
    assert says in told.splitlines()[0]
    assert "A training that was launched goes on" in told
    assert "Next: " in told
    assert "Traceback" not in told


def test_user_without_a_name_or_a_home_gets_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run under any number: getpass, paramiko and pathlib would end in a traceback."""
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    known = (getpass.getuser(), Path.home())
    name_user()
    assert (getpass.getuser(), Path.home()) == known, "what the machine knows stands"

    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("os.environ", {})
    name_user()
    assert getpass.getuser() == f"uid{os.getuid()}" and not Path("~/.ssh/id_ed25519").expanduser().exists()


def test_bug_is_not_dressed_up_as_an_error_of_the_user() -> None:
    with pytest.raises(ZeroDivisionError):
        fail(Context(), how="bug")


def test_program_ends_with_the_code_and_writes_the_error_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fail", "--how", "ours") == 120
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: Pod p1 did not answer.\n")
    assert "Traceback" not in told.err


def test_program_that_succeeds_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fail", "--dry-run", "--gpu", "A", "--gpu", "B C") == 0
    assert capsys.readouterr().out == "gpu=['A', 'B C']\n"


def test_flags_have_no_made_up_letters(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help", "fail") == 0
    text = capsys.readouterr().out
    assert "Fail as asked." in text
    assert "--how=STRING" in text
    assert " -h" not in text.split("Options:")[1]


def our_errors() -> list[type[PodtasksError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PodtasksError)]


def test_exit_codes_are_never_taken_for_a_training_scripts_own() -> None:
    codes = {kind: kind.exit_code for kind in our_errors()}
    assert len(codes) > 15
    assert all(100 <= code < 128 for code in codes.values()), "from 128 on, codes stand for signals"
    assert entry.INTERRUPTED not in codes.values()


def test_several_problems_become_one_error_numbered() -> None:
    assert combine([TIMEOUT]) is TIMEOUT
    both = combine([TIMEOUT, PodtasksError("Another.", next_step="mend it")])
    assert both.exit_code == 120
    assert "1. Pod p1 did not answer." in str(both)
    assert "2. Another.\nNext: mend it" in str(both)
    three = combine([PodtasksError("First.", next_step="x"), both])
    assert "3 problems:" in str(three), "a list within a list is one list"
    assert "3. Another.\nNext: mend it" in str(three)


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"podtasks:\n  gpu_count: 1\n", None])
def test_settings_file_that_invoke_can_read_is_no_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "invoke.yaml").write_bytes(content)
    entry.require_readable_settings()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"podtasks: [1\n", "line 2, column 1"),
        (b"just text\n", "it must hold keys and values"),
        (b"when: 2001-99-99\n", "a value in it cannot be read"),
        (b"name: \xff\n", "utf-8"),
    ],
)
def test_settings_file_that_invoke_would_stumble_over_is_named_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, says: str
) -> None:
    below = tmp_path / "below"
    below.mkdir()
    (tmp_path / "tasks.py").touch()
    (tmp_path / "invoke.yaml").write_bytes(content)
    monkeypatch.chdir(below)
    with pytest.raises(Exit) as caught:
        entry.require_readable_settings()
    assert caught.value.code == errors.SettingsError.exit_code
    assert "invoke.yaml cannot be read: " in str(caught.value.message)
    assert says in str(caught.value.message)


def test_invokes_configuration_becomes_plain_dictionaries() -> None:
    config = Config(overrides={"podtasks": {"env": {"A": "1"}, "gpu_types": ["x"], "none": None}})
    plain = entry._plain(config.get("podtasks"))
    assert plain == {"env": {"A": "1"}, "gpu_types": ["x"], "none": None}
    assert isinstance(plain, dict)
    assert type(plain["env"]) is dict


def test_error_is_wrapped_at_words_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "terminal_columns", lambda: 30)
    with pytest.raises(Exit) as caught:
        fail(Context(), how="ours")
    assert str(caught.value.message).splitlines()[:3] == [
        "error: Pod p1 did not answer.",
        "It was stopped, so no GPU is",
        "billed.",
    ]


def test_local_cloud_is_explained_only_where_runpod_would_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RUNPOD_API_KEY", raising=False)
    project = entry.open_project(Context(), {"cloud": "auto"})
    assert project.introduce_cloud(in_brief=True)
    assert capsys.readouterr().err == "podtasks: local cloud\n"
    assert project.introduce_cloud()
    assert "because there is no RUNPOD_API_KEY" in capsys.readouterr().err


def test_ctrl_c_while_the_tasks_are_imported_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(types.ModuleType):
        def __getattr__(self, name: str) -> object:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "podtasks.tasks", Interrupted("podtasks.tasks"))
    with pytest.raises(SystemExit) as ended:
        podtasks.__getattr__("ns")
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted; nothing was done\n"


def test_second_ctrl_c_right_behind_the_first_changes_nothing_and_a_late_one_ends_python(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: list[int] = []
    monkeypatch.setattr(os, "_exit", ends.append)
    with pytest.raises(Exit):
        fail(Context(), how="interrupt")
    signal.raise_signal(signal.SIGINT)
    assert ends == []
    monkeypatch.setattr(interrupts, "STILL_MEANT_FOR_TASK_S", -1.0)
    signal.raise_signal(signal.SIGINT)
    assert ends == [130]


def test_next_task_of_the_same_command_line_is_interrupted_as_the_first() -> None:
    @entry.task(help={})
    def interrupt_itself(_: Context) -> None:
        """Press Ctrl+C."""
        signal.raise_signal(signal.SIGINT)

    for _ in range(2):
        with pytest.raises(Exit) as ended:
            interrupt_itself(Context())
        assert ended.value.code == 130
