"""Text that needs no escaping between the quotes of a GraphQL string stays readable there."""

from __future__ import annotations

import pytest

from podtasks.pure.graphql_text import escape


@pytest.mark.parametrize("text", ["runpod/pytorch:1.0", "22/tcp,8888/http", "NVIDIA RTX 4090", "ssh-ed25519 A+/="])
def test_plain_text_is_left_as_it_is(text: str) -> None:
    assert escape(text) == text
