"""Commands for a person on the pod, and what they should know there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from podtasks.pure.amounts import format_duration
from podtasks.pure.pod_programs import PodFolders, build_program_command
from podtasks.pure.shell import Raw, command_line

SESSION = "train"
SESSION_QUESTION = command_line(["tmux", "has-session", "-t", f"={SESSION}"])
# A terminal that the pod has never heard of is taken for a common one. The pod's locale may not be UTF-8; -u is.
ATTACH_COMMAND = command_line(
    [
        Raw("infocmp >/dev/null 2>&1 || export TERM=xterm-256color;"),
        *["exec", "tmux", "-u", "attach-session", "-t", f"={SESSION}"],
    ]
)


def put_back_dashes(words: Sequence[str], argv: Sequence[str]) -> list[str]:
    """Return a command whose words Invoke was given in `argv`, with the `--` and what follows, which it keeps back.

    A `--` before the command only ends the flags; one inside it is the command's own.
    """
    if "--" not in argv:
        return list(words)
    rest = list(argv[argv.index("--") + 1 :])
    return [*words, "--", *rest] if words else rest


def join_words(words: Sequence[str]) -> str | None:
    """Return a command as one shell line: the only word itself, as with ssh; several each as one argument.

    None where there are no words.
    """
    if len(words) == 1:
        return words[0]
    return shlex.join(words) if words else None


def build_enter_command(folders: PodFolders, ticket: str, line: str | None) -> str:
    """Return the command that becomes the shell which `enter.py` prepared, or runs a line in it."""
    words = [ticket] if line is None else [ticket, line]
    return f"exec {build_program_command(folders, 'enter.py')} {command_line(words)}"


def describe_guard(guard: Mapping[str, Any] | None) -> str:
    """Return what the pod's guard means for somebody who works on it, "" while a run keeps it."""
    guard = guard or {}
    if guard.get("stopping"):
        return f"the pod is being stopped: {guard['stopping']}"
    lease = guard.get("lease") or {}
    if lease.get("kind") == "run":
        return ""
    if guard.get("grace_left_s") is not None:
        left = format_duration(float(guard["grace_left_s"]))
        return f"no run is on this pod: its guard stops it in {left}, whoever works on it; inv start gives it more time"
    if guard.get("hours_left") is not None:
        left = format_duration(float(guard["hours_left"]) * 3600)
        return f"no run is on this pod, which was kept: it is billed, and stops in {left}; inv stop stops it now"
    return ""


def describe_end(run: Mapping[str, Any]) -> str:
    """Return how a run ended, from its record."""
    if run.get("ended_at") is None:
        return "has not ended in order"
    code = run.get("exit_code")
    return f"ended with exit code {code}" if code is not None else f"ended: {run.get('reason') or 'unknown'}"
