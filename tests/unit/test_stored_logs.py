"""A run's log on the volume: where it is, and no more of it read than is shown."""

from __future__ import annotations

import pytest

from podtasks.flows import stored_logs
from podtasks.flows.stored_logs import (
    StoredLog,
    find_log,
    last_lines,
    list_run_ids,
    read_last_lines,
    read_log,
    read_newest_record,
    read_record,
)
from tests.unit.fake_reader import FakeReader

OLD, NEW = "a-20261122-100000-aaaaaaa", "b-20261123-100000-bbbbbbb"


@pytest.fixture
def volume() -> FakeReader:
    volume = FakeReader({"logs/current.log": b"older" + b"mine\nmore\n" + b"newer", "runs/saved/x.patch": b""})
    volume.add_run(OLD, log=b"own\n", log_start=0, log_end=5)
    volume.add_run(NEW, newest=True, log_start=5, log_end=15)
    return volume


def whole(volume: FakeReader, run_id: str) -> bytes:
    record = read_record(volume, run_id)
    assert record is not None
    log = find_log(volume, record)
    assert log is not None
    return b"".join(read_log(volume, log))


def test_runs_are_listed_newest_first_and_saved_edits_are_none(volume: FakeReader) -> None:
    assert list_run_ids(volume) == [NEW, OLD]


def test_newest_record_takes_two_reads(volume: FakeReader) -> None:
    record = read_newest_record(volume)
    assert record is not None and record["run_id"] == NEW
    assert len(volume.reads) == 2


@pytest.mark.parametrize("newest", [b"", b"../../etc\n", b"gone\n"])
def test_no_newest_run_is_none(volume: FakeReader, newest: bytes) -> None:
    volume.files["runs/newest"] = newest
    assert read_newest_record(volume) is None


@pytest.mark.parametrize("run_id", ["", "..", "a/b", "none", "broken", "list"])
def test_run_that_cannot_be_read_is_none(volume: FakeReader, run_id: str) -> None:
    volume.files["runs/broken/run.json"], volume.files["runs/list/run.json"] = b"{", b"[]"
    volume.files["runs/../run.json"] = b"{}"
    assert read_record(volume, run_id) is None


def test_log_of_its_own_goes_before_the_slice_of_all_runs(volume: FakeReader) -> None:
    assert whole(volume, OLD) == b"own\n"


def test_run_without_a_log_of_its_own_has_its_slice(volume: FakeReader) -> None:
    assert whole(volume, NEW) == b"mine\nmore\n"


def test_run_without_an_end_has_the_log_to_its_end(volume: FakeReader) -> None:
    volume.add_run(NEW, log_start=5, log_end=None)
    assert whole(volume, NEW) == b"mine\nmore\nnewer"


def test_run_whose_log_was_cut_off_has_what_is_left(volume: FakeReader) -> None:
    volume.add_run(NEW, log_start=5, log_end=500)
    assert whole(volume, NEW) == b"mine\nmore\nnewer"


def test_run_whose_logs_are_gone_has_none(volume: FakeReader) -> None:
    del volume.files["logs/current.log"]
    assert find_log(volume, {"run_id": NEW, "log_start": 5}) is None
    assert find_log(volume, {"run_id": NEW}) is None


def test_long_log_is_read_in_pieces(volume: FakeReader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_logs, "PIECE_BYTES", 4)
    assert whole(volume, NEW) == b"mine\nmore\n"
    assert [read for read in volume.reads if "current" in read[0]] == [
        ("logs/current.log", 5, 8),
        ("logs/current.log", 9, 12),
        ("logs/current.log", 13, 14),
    ]


def test_log_that_is_shortened_meanwhile_ends(volume: FakeReader) -> None:
    assert b"".join(read_log(volume, StoredLog({}, "logs/current.log", 5, 500))) == b"mine\nmore\nnewer"


def test_last_lines_of_a_long_log_read_its_end_only() -> None:
    lines = b"".join(b"line %d\n" % number for number in range(200_000))
    volume = FakeReader({"logs/current.log": lines})
    log = StoredLog({}, "logs/current.log", 0, len(lines))
    assert read_last_lines(volume, log, 2) == b"line 199998\nline 199999\n"
    assert volume.reads == [("logs/current.log", len(lines) - (64 << 10), len(lines) - 1)]


def test_last_lines_reach_further_back_where_lines_are_long() -> None:
    lines = b"x" * 300_000 + b"\n" + b"y" * 300_000 + b"\n"
    volume = FakeReader({"log": lines})
    assert read_last_lines(volume, StoredLog({}, "log", 0, len(lines)), 1) == b"y" * 300_000 + b"\n"
    assert len(volume.reads) == 2


def test_last_lines_never_reach_into_another_run(volume: FakeReader) -> None:
    assert read_last_lines(volume, StoredLog({}, "logs/current.log", 5, 15), 99) == b"mine\nmore\n"
    assert read_last_lines(volume, StoredLog({}, "logs/current.log", 5, 15), 0) == b""


@pytest.mark.parametrize(
    ("data", "lines", "last"),
    [
        (b"a\nb\nc\n", 2, b"b\nc\n"),
        (b"a\nb\nc", 2, b"b\nc"),
        (b"a\rb\rc\n", 1, b"a\rb\rc\n"),
        (b"a\x0bb\x85c\n", 1, b"a\x0bb\x85c\n"),
        (b"a\n", 5, b"a\n"),
        (b"\n\n", 1, b"\n"),
        (b"", 3, b""),
        (b"a\n", 0, b""),
    ],
)
def test_last_lines(data: bytes, lines: int, last: bytes) -> None:
    assert last_lines(data, lines) == last
