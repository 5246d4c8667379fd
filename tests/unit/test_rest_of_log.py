"""The rest of a log whose pod is gone, from the volume."""

from __future__ import annotations

from typing import Any

import pytest

from podtasks.flows import rest_of_log
from podtasks.flows.rest_of_log import show_rest
from podtasks.pure.errors import TransferError
from tests.unit.fake_reader import FakeReader
from tests.unit.fakes import World

LOG = b"one\ntwo\nthree\n====== the next run"
RECORD = {"run_id": "run1", "log_start": 4, "log_end": 14}


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> FakeReader:
    made = FakeReader({"logs/current.log": LOG})
    monkeypatch.setattr(rest_of_log, "open_s3_volume", lambda _: made)
    return made


def rest(world: World, first_byte: int, **changes: Any) -> bytes:  # noqa: ANN401
    shown: list[bytes] = []
    show_rest(world.cloud(), {**RECORD, **changes}, first_byte, shown.append, world.report)
    return b"".join(shown)


@pytest.mark.usefixtures("reader")
def test_bytes_from_the_last_one_shown_to_the_end_of_the_run_are_shown(world: World) -> None:
    assert rest(world, 6) == b"o\nthree\n"
    assert world.report.notes == []


@pytest.mark.usefixtures("reader")
def test_run_without_an_end_on_record_is_shown_as_far_as_it_came(world: World) -> None:
    assert rest(world, 6, log_end=None) == LOG[6:]


def test_whole_log_is_not_read_again(world: World, reader: FakeReader) -> None:
    assert rest(world, 14) == b"" and reader.reads == []


def test_log_that_is_not_there_or_cannot_be_read_is_named(
    world: World, reader: FakeReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.files["logs/current.log"] = LOG[:9]
    assert rest(world, 6) == b"o\nt"
    reader.files.clear()
    rest(world, 6)
    reader.error = TransferError("The S3 API refused.", next_step="again")
    rest(world, 6)
    monkeypatch.setattr(rest_of_log, "open_s3_volume", lambda _: None)
    rest(world, 6)
    assert world.report.notes == 4 * ["the end of the log of run run1 was not shown; inv logs shows it"]
