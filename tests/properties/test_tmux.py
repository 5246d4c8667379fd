"""Words that start a program in a real tmux, which has a syntax of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tmux
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.properties.hostile import WORDS
from tests.properties.profile import examples

# Puts its arguments into a file, as one step.
PROGRAM = """
import os, sys
with open(sys.argv[1] + ".new", "wb") as file:
    file.write(b"".join(os.fsencode(word) + b"\\0" for word in sys.argv[2:]))
os.rename(sys.argv[1] + ".new", sys.argv[1])
"""
PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the sockets of a tmux server of this test's own."""
    with tempfile.TemporaryDirectory(prefix="tmux-", dir="/tmp") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMUX_TMPDIR", folder)
        patch.delenv("TMUX", raising=False)
        yield tmp_path_factory.mktemp("words")
        subprocess.run(["tmux", "kill-server"], capture_output=True, check=False)


@settings(parent=examples(6), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(WORDS, min_size=1, max_size=6))
@example([";", "a;", "\\;", "a\\;", ";;", "#{pane_pid}", "$HOME", "-t", "", "a\nb", "{", "}", "~", "%0", "'", "\\"])
def test_any_words_reach_the_program_that_tmux_starts(server: Path, words: list[str]) -> None:
    path = server / f"{time.monotonic_ns()}"
    pid = tmux.start_session(f"s{path.name}", [sys.executable, "-S", "-c", PROGRAM, str(path), *words])
    assert pid > 1
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < deadline, "the program did not run"
        time.sleep(0.005)
    assert [os.fsdecode(word) for word in path.read_bytes().split(b"\0")[:-1]] == words


def test_sessions_begin_though_the_server_ends_with_the_one_before(server: Path) -> None:
    assert server.is_dir()
    assert all(tmux.start_session(f"short{number}", ["true"]) > 1 for number in range(60))
