"""Tables and bars: on a terminal of any width, and as plain lines."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TABLE = """
from podtasks.doors.tables import Column, write_bars, write_table
columns = [
    Column("run"), Column("start", may_drop=True), Column("took", "right"),
    Column("why", may_shrink=True, may_drop=True), Column("cost", "right"),
    Column("GPU", may_shrink=True, may_drop=True),
]
rows = [
    ["digits-20261123-145050-38cb525", "2026-11-23 14:50", "3 h 20 min", "The GPU ran out of memory.", "$12.30",
     "NVIDIA GeForce RTX 4090"],
    ["b", "2026-11-22 14:50", "1 s", "\\x1b[31mfinished\\nor not", "<$0.01", "RTX 4090"],
]
write_table(columns, rows, marked=1)
write_bars([("2026-11-22", 0.0, "$0.00"), ("2026-11-23", 2.0, "$2.00")])
"""


def run_plain(**environment: str) -> list[str]:
    """Return the lines that go to a pipe."""
    done = subprocess.run(
        [sys.executable, "-c", TABLE], env=_environment(**environment), capture_output=True, check=True
    )
    return done.stdout.decode().splitlines()


def run_on_terminal(columns: int, program: str = TABLE, **environment: str) -> str:
    """Return what goes to a terminal of this width."""
    ours, theirs = open_terminal(columns)
    with subprocess.Popen([sys.executable, "-c", program], env=_environment(**environment), stdout=theirs) as process:
        os.close(theirs)
        told = read_all(ours)
    assert process.returncode == 0
    return told


def open_terminal(columns: int) -> tuple[int, int]:
    """Return both ends of a new terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    return ours, theirs


def read_all(descriptor: int) -> str:
    """Return what comes from a terminal until its other end is closed."""
    told = b""
    while piece := _read(descriptor):
        told += piece
    os.close(descriptor)
    return told.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 1 << 16)
    except OSError:  # the other end has closed
        return b""


def _environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR", "TERM")}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "TERM": "xterm-256color", **more}


def test_piped_table_is_whole_plain_lines() -> None:
    lines = run_plain()
    assert re.split(r" {2,}", lines[0]) == ["run", "start", "took", "why", "cost", "GPU"]
    assert re.split(r" {2,}", lines[1])[3:] == ["The GPU ran out of memory.", "$12.30", "NVIDIA GeForce RTX 4090"]
    assert "?[31mfinished or not" in lines[2], "no cell steers the terminal or breaks its line"
    assert lines[4].split()[1] == "$2.00" and not lines[3].endswith("\u2588")


@pytest.mark.parametrize(
    ("columns", "titles"),
    [
        (60, ["run", "took", "cost"]),
        (80, ["run", "start", "took", "cost"]),
        (90, ["run", "start", "took", "why", "cost"]),
        (200, ["run", "start", "took", "why", "cost", "GPU"]),
    ],
)
def test_table_fits_the_terminal(columns: int, titles: list[str]) -> None:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", run_on_terminal(columns)).replace("\r", "")
    lines = plain.splitlines()
    assert lines[0].split() == titles
    assert max(map(len, lines)) <= columns
    assert "digits-20261123-145050-38cb525" in plain and "$12.30" in plain, "what may not be shortened is whole"


PATHS = """
from podtasks.doors.tables import Column, write_table
columns = [Column("folder", keeps_ends=True), Column("size", "right"), Column("why", may_shrink=True, may_drop=True)]
rows = [[f"checkpoints/long/{'x' * 40}/checkpoint-{n}", "1.21 GB", "older than step 31, complete"] for n in range(3)]
write_table(columns, rows)
"""


@pytest.mark.parametrize(("columns", "titles"), [(60, 2), (81, 2), (100, 3)])
def test_paths_are_told_apart_on_any_terminal(columns: int, titles: int) -> None:
    told = re.sub(r"\x1b\[[0-9;]*m", "", run_on_terminal(columns, program=PATHS)).replace("\r", "").splitlines()
    assert len(told[0].split()) == titles
    assert max(map(len, told)) <= columns
    assert len({line.split()[0] for line in told[1:]}) == 3
    assert all("checkpoint-" in line and ("\u2026" in line.split()[0]) == (columns == 60) for line in told[1:])


NUMBERS = """
from podtasks.doors.tables import Column, write_table
columns = [Column("local", keeps_ends=True), Column("volume", keeps_ends=True)]
columns += [Column(title, "right") for title in ("files here", "files there", "bytes here", "bytes there")]
write_table(columns, [["/mnt/big/data/audio_0", "/workspace/data/audio_0", "1", "1", *["3,300,000,024"] * 2]])
"""


@pytest.mark.parametrize("columns", [40, 60, 72, 80, 120])
def test_numbers_are_whole_on_any_terminal(columns: int) -> None:
    told = re.sub(r"\x1b\[[0-9;]*m", "", run_on_terminal(columns, program=NUMBERS)).replace("\r", "")
    assert max(map(len, told.splitlines())) <= columns
    assert told.count("3,300,000,024") == 2
    assert all(title in told for title in ("files here", "files there", "bytes here", "bytes there"))


RUNS = """
from types import SimpleNamespace
from podtasks.pure.run_table import describe_runs
from podtasks.tasks.runs import _show
records = [{"run_id": f"digits-20261123-14505{n}-38cb525-3f2{n}", "launched_at": 1.0, "config": "configs/digits.yaml",
            "commit": "38cb525", "pod": {"gpu": "RTX 4090", "usd_per_hour": 0.69}} for n in range(2)]
told = describe_runs(records, records[0]["run_id"], "x", 600.0)
_show(SimpleNamespace(console=SimpleNamespace(tell=lambda text: None)), told, 20)
"""


@pytest.mark.parametrize(
    ("columns", "titles"),
    [(35, ["run", "exit"]), (45, ["run", "exit"]), (80, ["run", "exit", "start", "took", "cost"])],
)
def test_runs_show_how_they_ended_on_the_narrowest_terminal(columns: int, titles: list[str]) -> None:
    told = re.sub(r"\x1b\[[0-9;]*m", "", run_on_terminal(columns, program=RUNS)).replace("\r", "").splitlines()
    assert told[0].split() == titles
    assert max(map(len, told)) <= columns
    assert told[1].split()[1] == "running" and told[1].split()[0] != told[2].split()[0]


def test_shortened_text_says_so() -> None:
    assert "\u2026" in run_on_terminal(100)
    assert "~" in run_on_terminal(100, PYTHONIOENCODING="ascii:replace")


def test_marked_row_stands_out_and_no_color_has_no_colour() -> None:
    assert "\x1b[1mb" in run_on_terminal(200)
    assert set(re.findall(r"\x1b\[([0-9;]*)m", run_on_terminal(200, NO_COLOR="1"))) <= {"1", "0"}


def test_bars_fill_the_terminal_and_no_more() -> None:
    for columns in (40, 100):
        *_, empty, full = re.sub(r"\x1b\[[0-9;]*m", "", run_on_terminal(columns)).replace("\r", "").splitlines()
        assert empty == "2026-11-22  $0.00", "nothing has no bar"
        assert columns - 4 <= len(full) <= columns and full.endswith("\u2588" * 10)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_has_not_becomes_something_else_and_no_traceback(encoding: str) -> None:
    script = (
        "from podtasks.doors.tables import *\n"
        "write_table([Column('n')], [['\\u65e5\\u672c \\udcff']]); write_bars([('\\u65e5', 1.0, '1')])\n"
        "write_lines(['\\u2713 fine'])"
    )
    environment = _environment(PYTHONIOENCODING=encoding)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
    assert done.stdout.decode(encoding).splitlines() == ["n", "?? ?", "?  1  " + "#" * 40, "? fine"]
