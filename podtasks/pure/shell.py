"""Words for a POSIX shell: quoted unless somebody wrote down that they must not be."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from podtasks.pure.errors import UsageError


@dataclass(frozen=True)
class Raw:
    """Shell text that goes into a command line as it is: an operator, a redirection, an expansion.

    Args:
        text: the shell text, written by podtasks and never taken from a user's value.
    """

    text: str


def quote(word: str) -> str:
    """Return the word so that a POSIX shell reads it back as exactly one argument.

    Raises:
        UsageError: the word holds a NUL character, which no program's argument can carry.
    """
    require_no_nul(word)
    return shlex.quote(word)


def command_line(words: Sequence[str | Raw]) -> str:
    """Join words to one shell command line, each quoted except those marked `Raw`.

    Raises:
        UsageError: a word holds a NUL character.
    """
    if isinstance(words, str):
        raise TypeError("command_line takes a list of words; one text would be split into its letters")
    return " ".join(word.text if isinstance(word, Raw) else quote(word) for word in words)


def split_args(text: str) -> list[str]:
    """Split a text of arguments as a shell would, without expanding anything in it.

    Raises:
        UsageError: a quotation mark is not closed, a backslash ends the text, or it holds a NUL character.
    """
    require_no_nul(text)
    try:
        return shlex.split(text)
    except ValueError as error:
        raise UsageError(
            f"The arguments cannot be split into words: {str(error).lower()}.",
            next_step="close each quotation mark, or write a backslash before one that is meant literally",
        ) from None


def require_no_nul(text: str) -> None:
    """Raise `UsageError` where the text holds a NUL character."""
    if "\0" in text:
        raise UsageError(
            "An argument holds a NUL character, which no program can be given.",
            next_step="remove the NUL character from the argument",
        )
