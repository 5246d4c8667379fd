"""The terminal: questions on a real one, long lines, and one that is gone."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from podtasks.doors.console import Console, terminal_columns, wrap, write_log, write_result

CHECKOUT = Path(__file__).resolve().parents[2]


class Terminal:
    """A pseudo-terminal to stand where standard input and standard error are; the user is at `end`."""

    def __init__(self, end: int, stdin: TextIO, stderr: TextIO) -> None:
        self.end = end
        self.stdin = stdin
        self.stderr = stderr

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Stand there for a while: in a test's own time, since pytest puts its own there before."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", self.stdin)
            patch.setattr(sys, "stderr", self.stderr)
            yield

    def ask(self, keys: bytes, *, default: bool) -> bool:
        """Type, and return what is made of it; keys wait in the terminal's queue until they are read."""
        os.write(self.end, keys)
        with self.in_place():
            return Console().confirm("Go ahead?", default=default)

    def heard(self) -> str:
        """Return what the terminal shows."""
        shown = b""
        while select.select([self.end], [], [], 0)[0]:
            shown += os.read(self.end, 4096)
        return shown.decode()


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    end, descriptor = pty.openpty()
    with open(descriptor) as stdin, open(descriptor, "w", closefd=False) as stderr:
        yield Terminal(end, stdin, stderr)
    os.close(end)


# Questions


@pytest.mark.parametrize(
    ("keys", "default", "expected"),
    [
        (b"\n", True, True),
        (b"\n", False, False),
        (b"  \n", True, True),
        (b"y\n", True, True),
        (b"y\n", False, True),
        (b" YES \n", False, True),
        (b"n\n", True, False),
        (b"n\n", False, False),
        (b"no\n", True, False),
        (b"what?\n", True, False),
        (b"what?\n", False, False),
    ],
)
def test_answer_on_a_terminal(terminal: Terminal, keys: bytes, default: bool, expected: bool) -> None:
    assert terminal.ask(keys, default=default) is expected


@pytest.mark.parametrize("default", [True, False])
def test_end_of_input_means_no_whatever_the_default(terminal: Terminal, default: bool) -> None:
    assert terminal.ask(b"\x04", default=default) is False


@pytest.mark.parametrize(("default", "choice"), [(True, "[Y/n]"), (False, "[y/N]")])
def test_question_shows_what_enter_means(terminal: Terminal, default: bool, choice: str) -> None:
    terminal.ask(b"y\n", default=default)
    assert f"Go ahead? {choice} " in terminal.heard()


@pytest.mark.parametrize("default", [True, False])
@pytest.mark.parametrize("missing", ["stdin", "stderr"])
def test_where_nobody_can_answer_nobody_is_asked(terminal: Terminal, missing: str, default: bool) -> None:
    elsewhere = io.StringIO("n\n")
    setattr(terminal, missing, elsewhere)
    assert terminal.ask(b"n\n", default=default) is True
    assert elsewhere.getvalue() == "n\n", "nothing is asked"
    assert "Go ahead?" not in terminal.heard()


def test_program_started_without_any_input_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert Console().confirm("Go ahead?", default=False) is True


# The story


def test_story_goes_to_standard_error_and_results_to_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    console = Console()
    console.step("pod pod1 created")
    console.note("the image has no tmux")
    console.tell("Plan\n  config  a.yaml")
    write_result("pod1")
    write_log(b"50%\r\xff\n")
    out, err = capfdbinary.readouterr()
    assert out == b"pod1\n50%\r\xff\n"
    step, note, *told = err.decode().splitlines()
    assert step.startswith("[   0.") and step.endswith(" s]  pod pod1 created")
    assert note.strip() == "note: the image has no tmux"
    assert told == ["Plan", "  config  a.yaml"]


def test_terminal_that_is_gone_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def flush(self) -> None:
            tried.append(self.getvalue())
            raise OSError(errno.EIO, "Input/output error")

    tried: list[str] = []
    monkeypatch.setattr(sys, "stderr", Gone())
    Console().step("pod pod1 created")
    Console().note("still here")
    assert len(tried) == 2


def test_lines_are_wrapped_for_a_terminal_only(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    with terminal.in_place():
        assert terminal_columns() == 40
        Console().tell("word " * 20)
    assert max(map(len, terminal.heard().splitlines())) <= 40
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert terminal_columns() is None
    assert wrap("word " * 100, None) == "word " * 100


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", "short"),
        ("", ""),
        ("one two three four", "one two\nthree four"),
        ("  a  one two three", "  a  one two\n     three"),
        ("/a/path/longer/than/a/line", "/a/path/longer/than/a/line"),
        ("one two three\n\nfour", "one two\nthree\n\nfour"),
    ],
)
def test_long_lines_are_broken_at_words_under_where_their_text_begins(text: str, expected: str) -> None:
    assert wrap(text, 12) == expected


# Readers that go away


FLOOD = """
from invoke.context import Context
from podtasks.doors.console import write_log
from podtasks.tasks import entry
from invoke.collection import Collection
from invoke.program import Program

@entry.task(help={})
def flood(c: Context) -> None:
    while True:
        write_log(b"step\\n" * 1000)

Program(namespace=Collection(flood), name="inv", version="0").run(["inv", "flood"])
"""


def test_reader_of_the_output_that_goes_away_ends_the_command_quietly() -> None:
    words = [sys.executable, "-c", FLOOD]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=CHECKOUT) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == b"step\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_step_too_long_for_the_terminal_goes_on_under_its_text() -> None:
    assert wrap("[  13.2 s]  pod p1 has stopped", 26) == "[  13.2 s]  pod p1 has\n            stopped"
