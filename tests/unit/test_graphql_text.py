"""Any text survives between the quotes of a GraphQL string, as the SDK pastes it."""

from __future__ import annotations

import graphql
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from podtasks.pure.graphql_text import escape


@given(st.text())
@example('" }], injected: [{ id: "')
@example("back\\slash \\u0041 \\")
@example('"""block"""')
@example("\x00\x07\x08\t\n\x0b\x0c\r\x1b\x7f\x85\u2028\u2029\ufeff\U0001f600")
@example("$HOME ${x} $(id) `id` {{}} #")
def test_text_escaped_and_parsed_is_the_same_text(text: str) -> None:
    value = graphql.parse_value(f'[{{ key: "KEY", value: "{escape(text)}" }}]')
    assert graphql.value_from_ast_untyped(value) == [{"key": "KEY", "value": text}]


@pytest.mark.parametrize("text", ["runpod/pytorch:1.0", "22/tcp,8888/http", "NVIDIA RTX 4090", "ssh-ed25519 A+/="])
def test_plain_text_is_left_as_it_is(text: str) -> None:
    assert escape(text) == text
