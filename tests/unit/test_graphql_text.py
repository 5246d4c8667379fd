"""Any text survives between the quotes of a GraphQL string, as the SDK pastes it."""

from __future__ import annotations

import graphql
import pytest
from graphql.language.ast import FieldNode, OperationDefinitionNode, StringValueNode
from hypothesis import example, given
from hypothesis import strategies as st

from podtasks.pure.graphql_text import escape


def parse_back(escaped: str) -> tuple[str, int]:
    """Return the value of the one argument, and how many fields the query has."""
    document = graphql.parse(f'query {{ f(input: {{ key: "{escaped}" }}) }}')
    operation = document.definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    field = operation.selection_set.selections[0]
    assert isinstance(field, FieldNode)
    value = field.arguments[0].value.fields[0].value  # type: ignore[attr-defined]
    assert isinstance(value, StringValueNode)
    return value.value, len(operation.selection_set.selections)


@given(st.text())
@example('") } injected { id } #')
@example("back\\slash \\u0041 \\")
@example('"""block"""')
@example("\x00\x07\x08\t\n\x0b\x0c\r\x1b\x7f\x85\u2028\u2029\ufeff\U0001f600")
@example("$HOME ${x} $(id) `id` {{}} #")
def test_text_escaped_and_parsed_is_the_same_text(text: str) -> None:
    assert parse_back(escape(text)) == (text, 1)


@pytest.mark.parametrize("text", ["runpod/pytorch:1.0", "22/tcp,8888/http", "NVIDIA GeForce RTX 4090", "ssh-ed25519 A+/="])
def test_plain_text_is_left_as_it_is(text: str) -> None:
    assert escape(text) == text
