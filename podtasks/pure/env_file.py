"""The text of .runpod.env: read with line numbers, and rewritten in one place without touching the rest."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from dotenv.parser import Binding, parse_stream

from podtasks.pure.errors import SettingsError
from podtasks.pure.pod_path import has_control_characters

BOM = "\ufeff"
NAME = re.compile(r"[A-Z][A-Z0-9_]*")
PLAIN_VALUE = re.compile(r"[A-Za-z0-9_@%+:,./~-]*")
NEWLINE = re.compile(r"\r\n|\n|\r")
# How python-dotenv reads a line, in parts: a # that follows white space begins a comment.
SPACE = r"[^\S\r\n]"
UNQUOTED = rf"(?:(?!{SPACE}+\#|{SPACE}*[\r\n]|{SPACE}*\Z)[^\r\n])*"
ASSIGNMENT = re.compile(
    rf"""(?P<head>\s*(?:export{SPACE}+)?(?:'[^']+'|[^=\#\s]+){SPACE}*)
    (?:=(?P<space>{SPACE}*)(?P<value>(?<={SPACE})(?=\#)|'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|{UNQUOTED}))?
    (?P<tail>.*)""",
    re.VERBOSE | re.DOTALL,
)


def parse_env_file(text: str, path: str = ".runpod.env") -> dict[str, str]:
    """Return the names and values that a .runpod.env holds.

    Args:
        text: the file's content.
        path: the file's path, for messages.

    Raises:
        SettingsError: with the number of every line that is not KEY=VALUE, or sets a name a second time.
            No message quotes anything of such a line, since it may be a key.
    """
    values: dict[str, str] = {}
    first_lines: dict[str, int] = {}
    problems = []
    for binding in _bindings(text):
        line = _line_number(binding)
        if binding.key is None and not binding.error:
            continue  # a comment, or blank lines at the end
        if binding.key is None or binding.value is None or not NAME.fullmatch(binding.key):
            problems.append(f"line {line}: must be KEY=VALUE, the key in capital letters")
        elif binding.key in values:
            problems.append(f"line {line}: {binding.key} is already set in line {first_lines[binding.key]}")
        else:
            values[binding.key], first_lines[binding.key] = _value(binding), line
    if problems:
        listing = "".join(f"\n  {problem}" for problem in problems)
        raise SettingsError(
            f"{path} cannot be read:{listing}",
            next_step=f"correct these lines of {path}; lines that begin with # are comments",
        )
    return values


def with_value(text: str, key: str, value: str) -> str:
    """Return the text of a .runpod.env with one value set, all else as it was: comments, order, line ends.

    Args:
        text: the file's content; empty where there is no file yet.
        key: the name, in capital letters; it is appended where the text does not have it.
        value: the new value.

    Raises:
        SettingsError: the name or the value cannot stand on one KEY=VALUE line.
    """
    if not NAME.fullmatch(key) or has_control_characters(value):
        raise SettingsError(
            "A variable cannot be written to .runpod.env: its name or its value does not fit on one line.",
            next_step="use a name in capital letters and a value without line breaks",
        )
    mark = BOM if text.startswith(BOM) else ""
    bindings = list(_bindings(text))
    pieces = [binding.original.string for binding in bindings]
    keys = [binding.key for binding in bindings]
    if key not in keys:
        return mark + _appended("".join(pieces), key, value)
    last = len(keys) - 1 - keys[::-1].index(key)  # the last one counts, for a shell as well
    if bindings[last].value is None or _value(bindings[last]) != value:
        pieces[last] = _rewritten(pieces[last], value)
    return mark + "".join(pieces)


def _bindings(text: str) -> Iterator[Binding]:
    return parse_stream(io.StringIO(text.removeprefix(BOM), newline=""))


def _line_number(binding: Binding) -> int:
    string = binding.original.string
    blank = string[: len(string) - len(string.lstrip())]
    return binding.original.line + len(NEWLINE.findall(blank))


def _value(binding: Binding) -> str:
    """Return the value; python-dotenv before 1.2 takes a comment after an empty value for the value."""
    match = ASSIGNMENT.match(binding.original.string)
    return "" if match and match["value"] == "" else binding.value or ""


def _appended(text: str, key: str, value: str) -> str:
    newline = NEWLINE.search(text)
    end = newline[0] if newline else "\n"
    separator = end if text and not text.endswith(("\n", "\r")) else ""
    return f"{text}{separator}{key}={_encoded(value, '')}{end}"


def _rewritten(assignment: str, value: str) -> str:
    """Given the line of an assignment, return it with another value and its comment in place."""
    match = ASSIGNMENT.match(assignment)
    if match is None:
        raise ValueError("not an assignment")
    head, space, old, tail = match["head"], match["space"] or "", match["value"] or "", match["tail"]
    encoded = _encoded(value, old[:1] if old[:1] in ("'", '"') else "")
    if old:
        return f"{head}={space}{encoded}{tail}"
    rest = tail.lstrip(" \t")
    gap = (space + tail[: len(tail) - len(rest)])[len(encoded) :] or " "
    return f"{head.rstrip()}={encoded}{gap if rest.startswith('#') else ''}{rest}"


def _encoded(value: str, quotation_mark: str) -> str:
    """Given a value and the quotation mark it had before, return how it is written."""
    if not quotation_mark and PLAIN_VALUE.fullmatch(value):
        return value
    mark = quotation_mark or "'"
    return mark + value.replace("\\", "\\\\").replace(mark, "\\" + mark) + mark
