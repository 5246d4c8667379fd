"""Words after a task's name that may be left out, through Invoke's own program and parser."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from invoke.collection import Collection
from invoke.context import Context
from invoke.exceptions import ParseError
from invoke.parser import Parser
from invoke.program import Program

from podtasks.tasks import entry, words

Calls = list[tuple[str, list[str], dict[str, object]]]


class Tasks:
    """Tasks that remember how they were called."""

    def __init__(self) -> None:
        self.calls: Calls = []
        calls = self.calls

        @entry.task(
            help={"names": "which", "to": "where", "dry-run": "nothing", "follow": "all", "gpu": "several"},
            words="names",
            iterable=["gpu"],
        )
        def fetch(
            c: Context,
            names: Sequence[str] = (),
            to: str = "",
            dry_run: bool = False,
            follow: bool = True,
            gpu: list[str] | None = None,
        ) -> None:
            """Fetch."""
            del c
            calls.append(("fetch", list(names), {"to": to, "dry_run": dry_run, "follow": follow, "gpu": gpu}))

        @entry.task(help={"command": "what to run", "cloud": "where"}, words="command", takes_rest=True)
        def ssh(c: Context, command: Sequence[str] = (), cloud: str = "") -> None:
            """Run."""
            del c
            calls.append(("ssh", list(command), {"cloud": cloud}))

        @entry.task(help={"lines": "how many"})
        def plain(c: Context, lines: str = "") -> None:
            """Do."""
            del c
            calls.append(("plain", [], {"lines": lines}))

        self.collection = Collection(fetch, ssh, plain)

    def run(self, *line: str) -> Calls:
        """Run a command line as `inv` does and return the calls that came of it."""
        Program(namespace=self.collection, name="inv", version="0").run(["inv", *line], exit=False)
        return self.calls

    def parse(self, *line: str) -> None:
        """Parse the tasks' part of a command line."""
        initial = Program().initial_context
        Parser(contexts=self.collection.to_contexts(), initial=initial).parse_argv(list(line))


@pytest.fixture
def tasks() -> Tasks:
    """Two tasks that take words and one that takes none."""
    return Tasks()


NONE = {"to": "", "dry_run": False, "follow": True, "gpu": []}


@pytest.mark.parametrize(
    ("line", "names", "flags"),
    [
        ([], [], {}),
        (["logs"], ["logs"], {}),
        (["logs", "predictions"], ["logs", "predictions"], {}),
        (["logs", "--dry-run", "predictions"], ["logs", "predictions"], {"dry_run": True}),
        (["--dry-run", "logs"], ["logs"], {"dry_run": True}),
        (["--to", "here", "logs"], ["logs"], {"to": "here"}),
        (["--to=here", "logs"], ["logs"], {"to": "here"}),
        (["--no-follow", "logs"], ["logs"], {"follow": False}),
        (["--gpu", "A", "logs", "--gpu", "B"], ["logs"], {"gpu": ["A", "B"]}),
        (["plain"], ["plain"], {}),
        (["fetch"], ["fetch"], {}),
        (["a b", "", "ü\n", "'; rm x", "$(x)"], ["a b", "", "ü\n", "'; rm x", "$(x)"], {}),
        (["-"], ["-"], {}),
        (["a=b", "--to", "logs"], ["a=b"], {"to": "logs"}),
        (["logs", "logs"], ["logs", "logs"], {}),
    ],
)
def test_words_and_flags_come_in_any_order(
    tasks: Tasks, line: list[str], names: list[str], flags: dict[str, object]
) -> None:
    assert tasks.run("fetch", *line) == [("fetch", names, {**NONE, **flags})]


@pytest.mark.parametrize(
    ("line", "command", "cloud"),
    [
        (["nvidia-smi"], ["nvidia-smi"], ""),
        (["ls", "-la", "--color=auto"], ["ls", "-la", "--color=auto"], ""),
        (["--cloud", "local", "ls", "--cloud", "x"], ["ls", "--cloud", "x"], "local"),
        (["python", "-c", "print(1)", "--help"], ["python", "-c", "print(1)", "--help"], ""),
        (["a", "--no-follow", "plain", "fetch"], ["a", "--no-follow", "plain", "fetch"], ""),
        (["tar", "-xzf", "a.tgz", "-C/tmp", "-", "--"], ["tar", "-xzf", "a.tgz", "-C/tmp", "-"], ""),
        ([], [], ""),
    ],
)
def test_command_line_to_pass_on_keeps_its_flags(
    tasks: Tasks, line: list[str], command: list[str], cloud: str
) -> None:
    assert tasks.run("ssh", *line) == [("ssh", command, {"cloud": cloud})]


@pytest.mark.parametrize(
    "line",
    [
        ("fetch", "--unknown"),
        ("fetch", "logs", "--unknown"),
        ("fetch", "-x"),
        ("fetch", "--to"),
        ("ssh", "--unknown", "ls"),
        ("plain", "word"),
        ("word",),
    ],
)
def test_what_is_neither_a_word_nor_a_flag_is_refused(tasks: Tasks, line: tuple[str, ...]) -> None:
    with pytest.raises(ParseError):
        tasks.parse(*line)


def test_flag_s_value_is_no_word_whatever_it_looks_like(tasks: Tasks) -> None:
    assert tasks.run("fetch", "--to", "plain", "logs") == [("fetch", ["logs"], {**NONE, "to": "plain"})]


def test_help_is_help_before_and_behind_the_name_but_not_in_a_command_to_pass_on(
    tasks: Tasks, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in (("--help", "fetch"), ("fetch", "--help"), ("fetch", "logs", "--help")):
        assert tasks.run(*line) == []
        assert "Fetch." in capsys.readouterr().out


def test_tasks_that_take_no_words_follow_one_another_as_ever(tasks: Tasks) -> None:
    assert [name for name, _, _ in tasks.run("plain", "--lines", "1", "plain")] == ["plain", "plain"]
    assert tasks.calls[0][2] == {"lines": "1"}


def test_words_of_one_call_are_not_those_of_the_next(tasks: Tasks) -> None:
    tasks.run("fetch", "logs")
    assert tasks.run("fetch")[1] == ("fetch", [], NONE)


def test_task_after_one_without_words_gets_its_own(tasks: Tasks) -> None:
    assert [(name, given) for name, given, _ in tasks.run("plain", "fetch", "logs")] == [
        ("plain", []),
        ("fetch", ["logs"]),
    ]


def test_installing_twice_changes_nothing(tasks: Tasks) -> None:
    words.install()
    words.install()
    assert tasks.run("fetch", "logs") == [("fetch", ["logs"], NONE)]
