"""What pydantic found wrong with settings, in the user's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

MAX_SHOWN = 60
MESSAGES = {
    "string_type": "must be text (put it in quotes)",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of names to values",
    "string_too_short": "must not be empty",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "string_too_long": "must have at most {max_length} characters",
}


def describe_problems(error: ValidationError, quotable: Mapping[str, bool]) -> list[tuple[str, str, str]]:
    """Given what pydantic found, return for each problem the setting, the path below it, and what is wrong.

    Args:
        error: pydantic's findings.
        quotable: whether a setting's value may be shown; where it is not named, it may not.
    """
    return [
        (key, path, _message(detail, quotable.get(key, False)))
        for detail in error.errors(include_url=False)
        for key, path in [_place(detail["loc"])]
    ]


def _place(location: tuple[int | str, ...]) -> tuple[str, str]:
    parts = [part for part in location[1:] if part != "[key]"]
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{_short(str(part))}" for part in parts)
    return str(location[0]), path


def _message(detail: ErrorDetails, quotable: bool) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    if detail["type"] == "value_error":
        text = str(context["error"])
    elif detail["type"] in MESSAGES:
        text = MESSAGES[detail["type"]].format(**context)
    else:
        text = detail["msg"]
    value = detail["input"]
    if quotable and isinstance(value, (str, int, float)):
        return f"{text} (it is {_short_repr(value)})"
    return text


def _short_repr(value: str | int | float) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > 200:
        return "a huge number"  # Python refuses to write numbers of thousands of digits
    return _short(repr(value))


def _short(text: str) -> str:
    shown = printable(text)
    return shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 3] + "..."


def printable(text: str) -> str:
    """Return the text with a question mark for each character that could upset a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
