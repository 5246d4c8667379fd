"""Words after a task's name that may be left out: `inv fetch`, `inv fetch logs predictions`.

Invoke knows positional arguments only as required ones: its parser asks a task's context for those that are
missing, both to fill them and to complain at the end. Here the parser is taught a second kind, which takes every
word that is no flag and is never missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from invoke.parser.argument import Argument
from invoke.parser.parser import ParseMachine
from invoke.tasks import Task


class OptionalWords(Argument):
    """An argument that takes the words which no flag claims.

    Args:
        name: the task's parameter, which gets a list.
        help: what stands in the task's help.
        takes_rest: after the first word everything is a word, flags too: a command line to pass on.
        choices: words to offer where the shell completes; others may be allowed.
    """

    def __init__(self, name: str, help: str, *, takes_rest: bool = False, choices: Sequence[str] = ()) -> None:
        super().__init__(names=(name,), kind=list, default=[], help=help)
        self.takes_rest = takes_rest
        self.choices = tuple(choices)

    def take(self, word: str) -> None:
        """Add a word."""
        self._value = [*(self._value or []), word]

    @property
    def has_begun_rest(self) -> bool:
        """Whether all that follows is a word, whatever it looks like."""
        return bool(self._value) and self.takes_rest

    def wants(self, word: str, is_known_flag: bool) -> bool:
        """Return whether this word is one of the task's, and no flag of it."""
        if self.has_begun_rest:
            return True
        return not is_known_flag and not (word.startswith("-") and word != "-")


class TaskWithWords(Task[Any]):
    """A task whose parameter `words_name` takes the words after its name; set by `entry.task`."""

    words_name = ""
    takes_rest = False
    choices: Sequence[str] = ()

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """Return the task's arguments, the one for words among them."""
        arguments = super().get_arguments(ignore_unknown_help)
        return [self._with_words(each) if each.name == self.words_name else each for each in arguments]

    def _with_words(self, argument: Argument) -> OptionalWords:
        return OptionalWords(self.words_name, argument.help or "", takes_rest=self.takes_rest, choices=self.choices)


def install() -> None:
    """Teach Invoke's parser optional words, once for a process."""
    machine: Any = ParseMachine
    if not getattr(machine.handle, "knows_words", False):
        is_waiting = machine.waiting_for_flag_value.fget
        machine.handle = _with_words(machine.handle, is_waiting)
        machine.handle.knows_words = True
        machine.waiting_for_flag_value = property(_with_rest(is_waiting))


def _with_rest(is_waiting: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return a test that also holds where everything is a word: the parser then takes -la and --x=y whole."""

    def waits_for_anything(machine: Any) -> bool:  # noqa: ANN401  Invoke has no types for it
        words = _find_words(machine)
        return is_waiting(machine) or (words is not None and words.has_begun_rest)

    return waits_for_anything


def _with_words(handle: Callable[[Any, str], None], is_waiting: Callable[[Any], bool]) -> Callable[[Any, str], None]:
    def handle_token(machine: Any, token: str) -> None:  # noqa: ANN401
        words = _find_words(machine)
        if words is None or is_waiting(machine) or not words.wants(token, _is_flag(machine, token)):
            handle(machine, token)
        else:
            words.take(token)

    return handle_token


def _find_words(machine: Any) -> OptionalWords | None:  # noqa: ANN401
    if machine.current_state == "unknown" or not machine.context:
        return None
    return next((arg for arg in machine.context.args.values() if isinstance(arg, OptionalWords)), None)


def _is_flag(machine: Any, token: str) -> bool:  # noqa: ANN401
    return token in machine.context.flags or token in machine.context.inverse_flags
