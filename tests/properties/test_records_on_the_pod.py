"""Run records as a crash, a full volume or anybody's code may leave them, read by the programs on the pod."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import answer
import failure
import gpu
import guard_link
import heartbeat
import progress
import run_record
import runs
import status
from hypothesis import given
from hypothesis import strategies as st
from sound_record import make_sound

from tests.properties.hostile import DEEP, JSON, NUMBERS, documents, files
from tests.properties.profile import examples

FIELDS = (
    *("run_id", "run_dir", "config", "clone", "commit", "branch", "command", "script_env", "output_dir"),
    *("checkpoint_dir", "checkpoint_pattern", "checkpoint", "volume", "log", "log_start", "log_end", "launched_at"),
    *("started_at", "training_started_at", "ended_at", "exit_code", "reason", "failure", "footer_start", "notified"),
    *("memory_kills_before", "chain", "pod", "last_step", "token", "notify", "ending"),
)
GOOD = {
    "run_id": "r-1",
    "log_start": 0,
    "launched_at": 5.0,
    "clone": "/nowhere",
    "checkpoint_dir": "out",
    "exit_code": None,
    "reason": None,
}
FAILURES = st.one_of(JSON, documents("kind", "title", "lines", "advice"))
RECORDS = st.one_of(
    st.builds(lambda broken: {**GOOD, **broken}, documents(*FIELDS)),
    st.builds(lambda failure: {**GOOD, "exit_code": 1, "reason": "failed", "failure": failure}, FAILURES),
    st.builds(lambda value: {**GOOD, **dict.fromkeys(FIELDS, value)}, st.one_of(NUMBERS, JSON)),
)
LOGS = st.sampled_from(
    [b"", b"step 3/10\n", b"epoch 1\n 43%|####   | 430/1000 [00:12<00:16, 34.2it/s]\r", b"\xff\0\n" * 9]
)


@contextmanager
def volume_with(record: bytes, newest: bytes, beat: bytes, log: bytes) -> Iterator[Path]:
    """Give a volume with two runs, of which the one that may be the newest has this record."""
    with (
        tempfile.TemporaryDirectory() as root,
        mock.patch.dict("os.environ", PODTASKS_DIR=f"{root}/container"),
        mock.patch("os.fsync"),
    ):
        volume = Path(root) / "volume"
        for name, content in (("r-1", record), ("r-0", json.dumps(GOOD).encode())):
            (volume / "runs" / name).mkdir(parents=True)
            (volume / "runs" / name / "run.json").write_bytes(content)
        (volume / "runs" / "r-1" / "heartbeat").write_bytes(beat)
        (volume / "runs" / "newest").write_bytes(newest)
        (volume / "logs").mkdir()
        (volume / "logs" / "current.log").write_bytes(log)
        yield volume


NEWEST = st.sampled_from(
    [b"r-1\n", b"r-1\n", b"r-1", b"", b"\0", b"..\n", b"../..", b"\xff\xfe\n", b"r-2\n", b"r-1\nr-0\n"]
)


@examples(120)
@given(files(RECORDS), NEWEST, files(documents("at", "beat")), LOGS)
def test_status_and_runs_of_any_record_are_an_answer(record: bytes, newest: bytes, beat: bytes, log: bytes) -> None:
    answers: list[dict[str, Any]] = []
    with (
        volume_with(record, newest, beat, log) as volume,
        mock.patch.object(status, "volume_directory", lambda: str(volume)),
        mock.patch.object(runs, "volume_directory", lambda: str(volume)),
        mock.patch.object(answer, "give", answers.append),
        mock.patch.object(guard_link, "connect", side_effect=guard_link.GuardGone("none")),
        mock.patch.object(gpu, "start_query", lambda: None),
    ):
        status.main({"lines": 3})
        runs.main({"limit": None})
        runs.main({"limit": 1})
        age_s = heartbeat.age_s(str(volume / "runs" / "r-1"))
    assert all(json.dumps(document) for document in answers)
    assert {run["run_id"] for run in answers[1]["runs"]} == {"r-0", "r-1"}
    assert age_s is None or age_s >= 0
    for run in [*answers[1]["runs"], answers[0]["run"]]:
        assert json.dumps(make_sound(run)) == json.dumps(run)


@examples(100)
@given(files(RECORDS), LOGS)
def test_progress_and_cause_of_any_record_are_an_answer(record: bytes, log: bytes) -> None:
    with volume_with(record, b"", b"", log) as volume:
        read = run_record.read(str(volume / "runs" / "r-1"))
        here = {**read, "log": str(volume / "logs" / "current.log")}
        json.dumps(progress.find_progress(here))
        json.dumps(failure.explain(here))


@examples(100)
@given(files(RECORDS), NEWEST, LOGS, st.sampled_from([0, 1, 137]), st.booleans())
def test_a_run_with_any_record_is_finished(record: bytes, newest: bytes, log: bytes, code: int, is_lost: bool) -> None:
    with volume_with(record, newest, b"", log) as volume:
        run_dir = str(volume / "runs" / "r-1")
        if is_lost:
            run_record.finish_lost(str(volume))
        finished = run_record.finish(run_dir, code, "failed" if code else "finished")
        assert run_record.has_ended(finished)
        assert run_record.has_ended(run_record.read(run_dir))
        assert run_record.newest(str(volume)) is not None


@examples(60)
@given(files(RECORDS))
def test_the_end_of_any_record_can_be_followed(record: bytes) -> None:
    with volume_with(record, b"r-1\n", b"", b"some\nlog\n") as volume:
        record_read = run_record.read(str(volume / "runs" / "r-1"))
        assert record_read.get("log_end") is None or isinstance(record_read["log_end"], int)
        assert isinstance(record_read["log"], str)


def test_record_that_nests_too_deeply_is_read_as_broken() -> None:
    with volume_with(DEEP, b"r-1\n", b"", b"") as volume:
        assert run_record.read(str(volume / "runs" / "r-1"))["log_start"] is None
        assert [run.get("is_broken") for run in runs.newest_first(str(volume)) if run["run_id"] == "r-1"] == [True]


@examples(100)
@given(st.lists(JSON, max_size=3))
def test_a_record_that_is_written_is_read_back(values: list[object]) -> None:
    with volume_with(b"{}", b"", b"", b"") as volume:
        run_dir = str(volume / "runs" / "r-1")
        run_record.write(run_dir, {"log": "l", "values": values})
        assert json.dumps(run_record.read(run_dir).get("values")) == json.dumps(values)
