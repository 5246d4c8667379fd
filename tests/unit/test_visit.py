"""What a person on the pod types and is told."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from podtasks.pure.pod_programs import PodFolders
from podtasks.pure.visit import build_enter_command, describe_end, describe_guard, join_words, put_back_dashes


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], None),
        (["ls -la | head"], "ls -la | head"),
        (["ls", "-la", "a b"], "ls -la 'a b'"),
        (["echo", "$(x)", "q'q"], """echo '$(x)' 'q'"'"'q'"""),
    ],
)
def test_words_as_one_shell_line(words: list[str], line: str | None) -> None:
    assert join_words(words) == line


@pytest.mark.parametrize(
    ("words", "argv", "whole"),
    [
        (["ls"], ["inv", "ssh", "ls"], ["ls"]),
        ([], ["inv", "ssh", "--", "ls", "-l"], ["ls", "-l"]),
        (["git", "diff"], ["inv", "ssh", "git", "diff", "--", "a"], ["git", "diff", "--", "a"]),
        ([], ["inv", "ssh", "--", "x", "--", "y"], ["x", "--", "y"]),
    ],
)
def test_what_invoke_keeps_back_behind_dashes_is_put_back(words: list[str], argv: list[str], whole: list[str]) -> None:
    assert put_back_dashes(words, argv) == whole


@pytest.mark.parametrize("line", [None, "", "echo 'a b'; exit 3", "new\nline"])
def test_line_reaches_the_pod_as_one_argument(line: str | None) -> None:
    command = build_enter_command(PodFolders("/opt/pod tasks", "/work space", "/opt/kit-1"), "/opt/enter-x", line)
    words = shlex.split(command)
    assert words[:2] == ["exec", "env"]
    assert words[words.index("/opt/kit-1/enter.py") + 1 :] == ["/opt/enter-x", *([] if line is None else [line])]


@pytest.mark.parametrize(
    ("guard", "said"),
    [
        (None, ""),
        ({"grace_left_s": 600.0, "lease": None}, "its guard stops it in 10 min"),
        ({"grace_left_s": 600.0, "lease": {"kind": "prepare"}}, "its guard stops it in 10 min"),
        ({"grace_left_s": None, "lease": {"kind": "run", "run_id": "r"}, "hours_left": 3.0}, ""),
        ({"grace_left_s": None, "lease": None, "hours_left": 3.0}, "kept: it is billed, and stops in 3 h 0 min"),
        ({"grace_left_s": None, "lease": None, "stopping": "max_hours"}, "being stopped: max_hours"),
        ({"grace_left_s": None, "lease": None, "holds": 1}, ""),
    ],
)
def test_what_the_guard_means_for_whoever_works_there(guard: dict[str, Any] | None, said: str) -> None:
    told = describe_guard(guard)
    assert (said in told) if said else told == ""


@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"ended_at": None}, "has not ended in order"),
        ({"ended_at": 1.0, "exit_code": 3}, "ended with exit code 3"),
        ({"ended_at": 1.0, "exit_code": None, "reason": "pod lost"}, "ended: pod lost"),
    ],
)
def test_end_of_a_run_in_words(run: dict[str, Any], said: str) -> None:
    assert describe_end(run) == said
