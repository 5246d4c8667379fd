"""Every "Next: " has one voice: a lower-case phrase, no full stop, no backticks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def next_steps(source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of each `next_step=...` literal, with `x` for what is filled in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.keyword) and node.arg == "next_step":
            text = _text(node.value)
            if text:
                yield node.value.lineno, text


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or "x" for part in node.values)
    return ""


def is_in_voice(text: str) -> bool:
    return text[:1] == text[:1].lower() and not text.endswith(".") and "`" not in text


@pytest.mark.parametrize("text", ["Type this", "do this.", "type `this`", "Commit x"])
def test_other_voices_are_heard(text: str) -> None:
    assert not is_in_voice(text)


def test_every_next_step_is_in_voice() -> None:
    found = [
        (path.relative_to(ROOT).as_posix(), line, text)
        for path in sorted((ROOT / "podtasks").rglob("*.py"))
        for line, text in next_steps(path.read_text())
    ]
    assert len(found) > 40
    assert [step for step in found if not is_in_voice(step[2])] == []
