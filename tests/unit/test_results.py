"""What tasks with results share."""

from __future__ import annotations

import json

import pytest

from podtasks.pure.errors import UsageError
from podtasks.tasks.results import parse_count, write_json, write_text


def test_numbers() -> None:
    assert parse_count("lines", "0", example=10) == 0
    assert parse_count("days", "7", example=10, least=1) == 7


@pytest.mark.parametrize("text", ["0", "-1", "abc", "", "1.5", "\u0663", "9" * 30, "1; ls"])
def test_what_is_no_number_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_count("days", text, example=30, least=1)
    assert caught.value.next_step == "--days 30"
    assert f"--days {text} is not a whole number of at least 1." in str(caught.value)


def test_json_is_one_ascii_document(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"name": "caf\u00e9\u2028\x1b[31m"})
    told = capsys.readouterr().out
    assert told.isascii() and json.loads(told) == {"name": "caf\u00e9\u2028\x1b[31m"}


def test_text_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    write_text("a\x1b[2Jb")
    assert capsys.readouterr().out == "a?[2Jb\n"
