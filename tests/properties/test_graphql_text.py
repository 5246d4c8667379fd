"""Any text survives between the quotes of a GraphQL string, as the SDK pastes it; the start command as well."""

from __future__ import annotations

import base64
import io
import shlex
import tarfile

import graphql
from hypothesis import example, given
from hypothesis import strategies as st

from podtasks.pure.boot import BOOT_FILES, build_start_command
from podtasks.pure.graphql_text import escape
from tests.properties.profile import examples


@examples(200)
@given(st.text())
@example('" }], injected: [{ id: "')
@example("back\\slash \\u0041 \\")
@example('"""block"""')
@example("\x00\x07\x08\t\n\x0b\x0c\r\x1b\x7f\x85\u2028\u2029\ufeff\U0001f600")
@example("$HOME ${x} $(id) `id` {{}} #")
def test_text_escaped_and_parsed_is_the_same_text(text: str) -> None:
    value = graphql.parse_value(f'[{{ key: "KEY", value: "{escape(text)}" }}]')
    assert graphql.value_from_ast_untyped(value) == [{"key": "KEY", "value": text}]


@examples(20)
@given(st.lists(st.binary(max_size=60), min_size=len(BOOT_FILES), max_size=len(BOOT_FILES)))
def test_boot_files_of_any_content_arrive_through_graphql_and_shell_words(contents: list[bytes]) -> None:
    files = dict(zip(BOOT_FILES, contents, strict=True))
    value = graphql.parse_value(f'"{escape(build_start_command(files))}"')
    program, flag, script = shlex.split(graphql.value_from_ast_untyped(value))
    assert (program, flag) == ("bash", "-c")
    payload = script.partition("echo ")[2].partition("|")[0]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(payload, validate=True))) as archive:
        unpacked = {member.name: archive.extractfile(member) for member in archive}
        assert {name: file.read() for name, file in unpacked.items() if file is not None} == files
