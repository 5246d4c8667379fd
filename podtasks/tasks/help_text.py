"""What `inv TASK --help` prints: Invoke's own, with long sentences wrapped, and words shown as words."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from invoke.program import Program
from invoke.terminals import pty_size

from podtasks.tasks.words import OptionalWords

INDENT = "  "


def install() -> None:
    """Teach Invoke's program to print help this way, once for a process."""
    program: Any = Program
    program.print_task_help = _print_task_help


def _print_task_help(program: Any, name: str) -> None:  # noqa: ANN401  Invoke has no types for it
    context = program.parser.contexts[name]
    words = next((arg for arg in context.args.values() if isinstance(arg, OptionalWords)), None)
    flags = [each for each in context.help_tuples() if words is None or each[0] != f"--{words.name}"]
    # What follows a command line to pass on is part of it.
    usage = ["[--options]"] * bool(flags)
    usage.insert(1 if words and words.takes_rest else 0, _describe(words) if words else "")
    print(" ".join(filter(None, ["Usage:", program.binary, name, *usage])) + "\n")
    for paragraph in _paragraphs(inspect.getdoc(program.collection[name]) or "none"):
        print(_wrapped(paragraph) + "\n")
    if words:
        print("Words:")
        program.print_columns([(_describe(words), words.help)])
    print("Options:")
    program.print_columns(flags or [("none", "")])


def _describe(words: OptionalWords) -> str:
    return f"[{'|'.join(words.choices)}]" if words.choices else f"[{str(words.name).upper()} ...]"


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(
        paragraph,
        pty_size()[0] - 1,
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
