"""Words for a shell, tried on a real one."""

import subprocess
from collections.abc import Callable

import pytest

from podtasks.pure.errors import UsageError
from podtasks.pure.shell import Raw, command_line, quote, split_args

HOSTILE = [
    "",
    " ",
    "two words",
    "it's",
    '"',
    "'",
    "\\",
    "a\\",
    "$(touch /tmp/never)",
    "`id`",
    "$HOME",
    "a;b",
    "a&b",
    "a|b",
    ">x",
    "*",
    "~",
    "#no comment",
    "!!",
    "-n",
    "--",
    "a\nb",
    "\n",
    "a\tb",
    "a\rb",
    "{a,b}",
    "a=b",
    "ключ",
    "\udcff",
    "\x7f\x01",
]


def read_back(line: str) -> list[str]:
    """Return the arguments that a real shell makes of a command line."""
    script = f"count() {{ printf '%s\\0' \"$@\"; }}\n{line}\n"
    done = subprocess.run(
        ["/bin/sh", "-s"], input=script.encode("utf-8", "surrogateescape"), capture_output=True, check=True
    )
    assert done.stderr == b""
    return [word.decode("utf-8", "surrogateescape") for word in done.stdout.split(b"\0")[:-1]]


def test_command_line_of_hostile_words_reaches_a_real_shell_unchanged() -> None:
    assert read_back(command_line([Raw("count"), *HOSTILE])) == HOSTILE


def test_command_line_leaves_raw_text_to_the_shell() -> None:
    assert command_line(["echo", "a b", Raw(">/dev/null"), Raw("&&"), ">x"]) == "echo 'a b' >/dev/null && '>x'"


def test_command_line_of_one_text_is_refused() -> None:
    with pytest.raises(TypeError, match="list of words"):
        command_line("rm -rf x")


@pytest.mark.parametrize("use", [quote, split_args, lambda text: command_line([text])])
def test_nul_is_refused(use: Callable[[str], object]) -> None:
    with pytest.raises(UsageError, match="NUL"):
        use("a\0b")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("--epochs 3", ["--epochs", "3"]),
        ("--name 'a b' \"c d\" e\\ f", ["--name", "a b", "c d", "e f"]),
        ("$(id) *.py ~ # x", ["$(id)", "*.py", "~", "#", "x"]),
        ("a\nb", ["a", "b"]),
    ],
)
def test_split_args_splits_as_a_shell_and_expands_nothing(text: str, expected: list[str]) -> None:
    assert split_args(text) == expected


@pytest.mark.parametrize("text", ["'open", 'a "b', "ends with \\"])
def test_split_args_of_unfinished_text_says_what_to_close(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be split") as failure:
        split_args(text)
    assert "close each quotation mark" in failure.value.next_step
