"""A transfer's progress: drawn in place on a terminal of any width, and as plain lines elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading

import pytest

from podtasks.doors import progress
from podtasks.doors.progress import Progress
from tests.unit.test_tables import ROOT, open_terminal, read_all

TRANSFER = """
from podtasks.doors.progress import Progress
with Progress("to the volume", 20000, 1_000_000_000) as bar:
    for _ in range(20):
        bar.add(files=1000, size_bytes=50_000_000)
print("done")
"""


def run_on_terminal(columns: int, script: str = TRANSFER, **environment: str) -> str:
    """Return what goes to a terminal of this width as the story of a transfer."""
    ours, theirs = open_terminal(columns)
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "TERM")}
    env = {**kept, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "TERM": "xterm-256color", **environment}
    with subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        told = read_all(ours)
        assert process.stdout and process.stdout.read() == b"done\n", "results stay on standard output"
    assert process.returncode == 0
    return told


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (30, ["20,000/20,000 files", "1.0/1.0 GB"]),
        (60, ["to the volume", "20,000/20,000 files", "1.0/1.0 GB", "0:00:00"]),
        (80, ["to the volume", "\u2501", "20,000/20,000 files", "1.0/1.0 GB", "0:00:00"]),
        (200, ["to the volume", "\u2501", "20,000/20,000 files", "1.0/1.0 GB", "0:00:00"]),
    ],
)
def test_bar_is_one_line_that_fits(columns: int, shown: list[str]) -> None:
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", run_on_terminal(columns))
    lines = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert max(map(len, lines)) <= columns
    assert all(text in lines[-1] for text in shown), lines[-1]
    assert "\u2026" not in plain


def test_bar_honours_no_color_and_an_encoding_without_lines() -> None:
    assert set(re.findall(r"\x1b\[([0-9;]*)m", run_on_terminal(80, NO_COLOR="1"))) <= {"", "0", "1"}
    assert "\x1b[38;5" in run_on_terminal(80), "else the test above could not fail"
    assert run_on_terminal(80, PYTHONIOENCODING="ascii").isascii()


def test_nothing_steers_a_terminal_that_cannot_be_steered() -> None:
    assert "\x1b" not in run_on_terminal(80, TERM="dumb")


def test_nothing_has_no_bar() -> None:
    script = "from podtasks.doors.progress import Progress\nwith Progress('x', 0, 0):\n    print('done')\n"
    assert run_on_terminal(80, script) == ""


def test_one_file_that_takes_long_has_a_rate_without_what_was_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr("podtasks.doors.progress.time.monotonic", lambda: now_s)
    bar = Progress("to the volume", 3, 3000)
    bar.add(files=2, size_bytes=1000)
    assert (bar._told()["rate"], bar._told()["left"]) == ("", "")
    now_s = 100.0
    bar.add(size_bytes=1000)
    now_s = 200.0
    assert (bar._told()["rate"], bar._told()["left"]) == ("5 B/s", "0:03:20")


def test_plain_lines_come_now_and_then_and_only_when_something_moved(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 100.0
    monkeypatch.setattr("podtasks.doors.progress.time.monotonic", lambda: now_s)
    with Progress("to the volume", 3, 3000) as bar:
        bar.add(files=1, size_bytes=1000)
        assert capsys.readouterr().err == ""
        now_s += progress.PLAIN_EVERY_S
        bar.add(size_bytes=500)
        bar.add(size_bytes=1)
        assert capsys.readouterr().err == (
            "to the volume: 1 of 3 files, 1.5 kB of 3 kB, 50 B/s, 30 s left\n"
        )


def test_bytes_that_are_sent_again_are_taken_back_and_threads_lose_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    with Progress("x", 4000, 4000) as bar:

        def work() -> None:
            for _ in range(1000):
                bar.add(files=1, size_bytes=1)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        bar.add(size_bytes=-1000)
    assert "4,000 of 4,000 files, 3 kB of 4 kB" in capsys.readouterr().err.splitlines()[-1]
