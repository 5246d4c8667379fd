"""What the shell's completion offers: Invoke's task names and flags, and the words that tasks take.

Invoke's own completer offers task names wherever no flag is typed: for a flag's value too, and after a task that
takes words, where a task's name would be such a word.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import invoke.program
from invoke.exceptions import Exit, ParseError

from podtasks.tasks.words import OptionalWords

Completer = Callable[..., Exit]


def install() -> None:
    """Teach Invoke's completer the words of tasks, once for a process."""
    program: Any = invoke.program
    if not getattr(program.complete, "knows_words", False):
        program.complete = _with_words(program.complete)
        program.complete.knows_words = True


def _with_words(complete: Completer) -> Completer:
    def complete_with_words(
        names: Sequence[str], core: Any, initial_context: Any, collection: Any, parser: Any  # noqa: ANN401
    ) -> Exit:
        typed = _without_program(core.remainder, names)
        core.remainder = f"{names[0]} {typed}"
        candidates = _find_candidates(typed, parser)
        if candidates is None:
            return complete(names, core, initial_context, collection, parser)
        for candidate in candidates:
            print(candidate)
        raise Exit

    return complete_with_words


def _without_program(typed: str, names: Sequence[str]) -> str:
    """Return a command line without its first word, if that is the program, by whatever path."""
    first, _, rest = typed.partition(" ")
    return rest if PurePath(first).name in names else typed


def _find_candidates(typed: str, parser: Any) -> list[str] | None:  # noqa: ANN401
    """Return what to offer, [] to leave it to the shell's file names, None to leave it to Invoke."""
    tokens = _split(typed)
    is_fresh = typed.endswith(" ") or not tokens
    done, current = (tokens, "") if is_fresh else (tokens[:-1], tokens[-1])
    context = _find_context(done, parser)
    if context is None or not context.name:
        return None
    if current.startswith("-"):
        return [flag for flag in _flags(context) if flag.startswith(current)]
    last = context.flags.get(done[-1]) if done else None
    if last is not None and last.takes_value:
        return []
    words = next((arg for arg in context.args.values() if isinstance(arg, OptionalWords)), None)
    return None if words is None else list(words.choices)


def _split(typed: str) -> list[str]:
    try:
        return shlex.split(typed)
    except ValueError:  # a quote that is still open
        return typed.split()


def _find_context(tokens: Sequence[str], parser: Any) -> Any:  # noqa: ANN401
    """Return the context of the task that the words so far end in, None where there is none."""
    try:
        contexts = parser.parse_argv(list(tokens))
    except ParseError as error:
        return error.context
    return contexts[-1] if contexts else None


def _flags(context: Any) -> list[str]:  # noqa: ANN401
    """Return the long flags of a task; the words have none that anybody types."""
    own = [flag for flag, arg in context.flags.items() if not isinstance(arg, OptionalWords)]
    return [flag for flag in (*own, *context.inverse_flags) if flag.startswith("--")]
