"""The text of .runpod.env: one value is changed and nothing else, and no moment leaves the file broken."""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
from pathlib import Path
from unittest import mock

import dotenv
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from podtasks.doors.project_files import read_identity, write_identity_value
from podtasks.pure.env_file import parse_env_file, with_value
from podtasks.pure.errors import SettingsError
from tests.properties.profile import examples

SECRET = "rpa_9f3kX0"

NAMES = st.sampled_from(["POD_ID", "RUNPOD_API_KEY", "GPU_TYPE"])
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)
SPACES = st.sampled_from(["", " ", "   ", "\t"])
LINES = st.one_of(
    st.sampled_from(["", "# note", "   # note"]),
    st.builds(
        lambda export, name, before, after, value, comment: f"{export}{name}{before}={after}{value}{comment}",
        st.sampled_from(["", "export "]),
        st.sampled_from(["A", "B", "POD_ID"]),
        SPACES,
        SPACES,
        st.sampled_from(["", "x", "a b", "'q # q'", '"d\\"d"', "#h", "x#y"]),
        st.sampled_from(["", " # note", "   #", "  "]),
    ),
)


# Quotation marks and backslashes are written as python-dotenv has them, which no shell has; ~ is for the shell.
FOR_SHELLS = st.one_of(
    st.sampled_from(["$HOME", "a b", "a;b", "`id`", "#x", "a #b", "*", '"', "a&", "$(id)"]),
    VALUES.filter(lambda text: not set(text) & set("'\\~")),
)


@examples(150)
@given(st.lists(LINES, max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans(), NAMES, VALUES)
@example(["POD_ID="], "\n", False, "POD_ID", "#")
@example([], "\n", False, "POD_ID", "\\'")
def test_with_value_then_parse_gives_the_value_and_all_others(
    lines: list[str], newline: str, ended: bool, name: str, value: str
) -> None:
    text = newline.join(lines) + (newline if ended else "")
    try:
        before = parse_env_file(text)
    except SettingsError:
        before = None  # a name set twice: still rewritten, still refused
    rewritten = with_value(text, name, value)
    if before is not None:
        assert parse_env_file(rewritten) == {**before, name: value}
    assert rewritten.count("# note") == text.count("# note")
    assert with_value(rewritten, name, value) == rewritten


@examples(150)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_and_can_be_appended_to(text: str) -> None:
    try:
        parse_env_file(text)
    except SettingsError as error:
        assert "line " in error.what
    assert "POD_ID=abc" in with_value(text, "POD_ID", "abc") or "POD_ID" in text


@examples(200)
@given(st.lists(LINES, max_size=5), st.sampled_from(["\n", "\r\n"]), NAMES, VALUES)
def test_all_lines_but_the_one_stay_as_they_are_and_in_their_order(
    lines: list[str], newline: str, name: str, value: str
) -> None:
    text = "".join(line + newline for line in lines)
    rewritten = with_value(text, name, value).split(newline)
    others = [line for line in lines if name not in line]
    assert [line for line in rewritten[:-1] if name not in line] == others
    assert len(rewritten) - 1 in (len(lines), len(lines) + 1)


@examples(200)
@given(st.one_of(st.lists(LINES, max_size=6).map("\n".join), st.text(st.sampled_from("AB=#' \"\\\nx$"), max_size=30)))
def test_what_is_read_is_what_python_dotenv_reads(text: str) -> None:
    try:
        read = parse_env_file(text)
    except SettingsError:
        return
    assert read == dict(dotenv.dotenv_values(stream=io.StringIO(text), interpolate=False))


@examples(200)
@given(st.lists(st.tuples(NAMES, VALUES), min_size=1, max_size=6))
def test_many_writes_leave_the_last_value_of_each_name(writes: list[tuple[str, str]]) -> None:
    text = "# mine\n"
    for name, value in writes:
        text = with_value(text, name, value)
    assert parse_env_file(text) == dict(writes)
    assert text.startswith("# mine\n")
    assert dict(dotenv.dotenv_values(stream=io.StringIO(text), interpolate=False)) == dict(writes)


@examples(15)
@given(st.lists(st.tuples(NAMES, FOR_SHELLS), min_size=1, max_size=6))
@example([("POD_ID", "$HOME `id`"), ("GPU_TYPE", "NVIDIA; #x & *")])
def test_a_shell_that_reads_what_was_written_has_the_same_values(writes: list[tuple[str, str]]) -> None:
    text = ""
    for name, value in writes:
        text = with_value(text, name, value)
    names = list(dict(writes))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / ".runpod.env").write_bytes(text.encode())
        script = ". ./.runpod.env; printf '%s\\0' " + " ".join(f'"${name}"' for name in names)
        done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == [dict(writes)[name] for name in names]


@examples(100)
@given(st.lists(LINES, max_size=4).map("\n".join), st.text(max_size=10), st.text(max_size=10))
def test_no_message_holds_what_stands_in_a_bad_line(text: str, before: str, after: str) -> None:
    bad = f"{text}\n{before}{SECRET}{after}\nRUNPOD_API_KEY '{SECRET}'\n"
    with pytest.raises(SettingsError) as failure:
        parse_env_file(bad)
    assert SECRET not in str(failure.value)


class Killed(BaseException):
    """SIGKILL."""


@examples(60)
@given(st.lists(LINES, max_size=4), st.sampled_from(["\n", "\r\n"]), VALUES, st.sampled_from(["fsync", "replace", ""]))
def test_the_file_is_the_old_one_or_the_new_one_wherever_its_writer_dies(
    lines: list[str], newline: str, value: str, dies_at: str
) -> None:
    old = "".join(line + newline for line in lines).encode()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".runpod.env"
        path.write_bytes(old)
        if dies_at:
            with mock.patch.object(os, dies_at, side_effect=Killed), pytest.raises(Killed):
                write_identity_value(path, "POD_ID", value)
            assert path.read_bytes() == old
        else:
            write_identity_value(path, "POD_ID", value)
            assert path.read_bytes() == with_value(old.decode(), "POD_ID", value).encode()
            assert path.stat().st_mode & 0o777 == 0o600
        assert [entry.name for entry in Path(folder).iterdir()] == [path.name]


@examples(100)
@given(st.binary(max_size=40))
def test_any_bytes_are_an_identity_or_a_settings_error(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ".runpod.env"
        path.write_bytes(data)
        try:
            read_identity(path)
        except SettingsError as error:
            assert error.next_step
        assert path.read_bytes() == data
