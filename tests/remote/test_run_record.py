"""The record of a run and the end of its log."""

from __future__ import annotations

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.remote.fake_pod import REMOTE, is_running, wait_until

WHY_LAST = b"WHY: The training ended with exit code 1.\n  | last\nTRY: inv logs shows it all.\n"
WHY_SILENT = b"WHY: The training ended with exit code 1 and said nothing of why.\nTRY: inv logs shows it all.\n"
WHY_ASKED = b"WHY: It was asked to end.\nTRY: inv train again resumes from the newest complete checkpoint.\n"


@pytest.fixture
def run_record(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, imported as its siblings import it."""
    monkeypatch.syspath_prepend(str(REMOTE))
    return importlib.import_module("run_record")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with the log of an earlier run."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "current.log").write_bytes(b"earlier\n")
    return tmp_path


def make_run(run_record: ModuleType, volume: Path, output: bytes, name: str = "r-1") -> str:
    """Make a run whose part of the log is `output`; return its folder."""
    log = volume / "logs" / "current.log"
    start = log.stat().st_size
    with log.open("ab") as file:
        file.write(output)
    run_dir = str(volume / "runs" / name)
    unknown = dict.fromkeys(("log_end", "ended_at", "exit_code", "reason"))
    run_record.create(run_dir, {"run_id": name, "log": str(log), "log_start": start, "launched_at": 1, **unknown})
    return run_dir


def output_log(run_dir: str) -> bytes:
    """Return a run's own log."""
    return (Path(run_dir) / "output.log").read_bytes()


@pytest.mark.parametrize(
    ("output", "exit_code", "reason", "expected"),
    [
        (b"last\n", 0, "finished", b"last\nEXIT_CODE=0\n"),
        (b"last", 1, "failed", b"last\n" + WHY_LAST + b"EXIT_CODE=1\n"),
        (b"50%\r60%\r", 0, "finished", b"50%\r60%\r\nEXIT_CODE=0\n"),
        (b"\xff\xfe\n", 143, "user", b"\xff\xfe\n" + WHY_ASKED + b"ENDED: user\nEXIT_CODE=143\n"),
        (b"", 1, "two\nlines", WHY_SILENT + b"ENDED: two\\nlines\nEXIT_CODE=1\n"),
    ],
)
def test_finish_writes_the_footer_on_a_fresh_line(
    run_record: ModuleType,
    volume: Path,
    output: bytes,
    exit_code: int,
    reason: str,
    expected: bytes,
) -> None:
    run_dir = make_run(run_record, volume, output)
    run_record.finish(run_dir, exit_code, reason)
    assert (volume / "logs" / "current.log").read_bytes() == b"earlier\n" + expected
    assert output_log(run_dir) == expected
    record = run_record.read(run_dir)
    assert (record["exit_code"], record["reason"]) == (exit_code, reason)
    assert (record["log_start"], record["log_end"]) == (8, 8 + len(expected))
    assert record["ended_at"] > 0


OUT_OF_MEMORY = b"""Traceback (most recent call last):
  File "train.py", line 3, in <module>
    loss.backward()
torch.OutOfMemoryError: CUDA out of memory.
"""


def test_a_failure_is_explained_on_record_and_in_the_log(run_record: ModuleType, volume: Path) -> None:
    run_dir = make_run(run_record, volume, b"step 1\n" + OUT_OF_MEMORY)
    run_record.finish(run_dir, 1, "failed")
    failure = run_record.read(run_dir)["failure"]
    assert (failure["kind"], failure["title"]) == ("gpu_memory", "The GPU ran out of memory.")
    expected = ["WHY: The GPU ran out of memory."]
    expected += [f"  | {line.strip()}" for line in OUT_OF_MEMORY.decode().splitlines()[1:]]
    expected += [f"TRY: {advice}" for advice in failure["advice"]] + ["EXIT_CODE=1"]
    assert output_log(run_dir).decode().splitlines()[5:] == expected


def test_a_success_has_no_failure_on_record(run_record: ModuleType, volume: Path) -> None:
    run_dir = make_run(run_record, volume, OUT_OF_MEMORY)
    run_record.finish(run_dir, 0, "finished")
    assert run_record.read(run_dir)["failure"] is None


def test_an_explanation_that_fails_costs_only_itself(
    run_record: ModuleType, volume: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    run_dir = make_run(run_record, volume, b"x\n")
    monkeypatch.setattr(run_record.failure, "explain", lambda _: 1 / 0)
    run_record.finish(run_dir, 1, "failed")
    assert output_log(run_dir) == b"x\nEXIT_CODE=1\n"
    assert run_record.read(run_dir)["failure"] is None
    assert "ZeroDivisionError" in capfd.readouterr().err


def test_a_log_that_takes_too_long_is_explained_without_it(
    run_record: ModuleType, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = make_run(run_record, volume, b"a" * 60)
    monkeypatch.setattr(run_record, "EXPLAIN_S", 0.05)
    monkeypatch.setattr(run_record.failure, "in_log", lambda lines: re.match("(a+)+b", "".join(lines)))
    run_record.finish(run_dir, 1, "failed")
    failure = run_record.read(run_dir)["failure"]
    assert (failure["kind"], failure["lines"]) == ("unknown", [])
    assert output_log(run_dir).endswith(b"EXIT_CODE=1\n")


def test_a_log_that_has_room_for_the_end_only_gets_that(
    run_record: ModuleType, volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = make_run(run_record, volume, OUT_OF_MEMORY)
    write_all = run_record.write_all

    def refuse_long(descriptor: int, data: bytes) -> None:
        if b"WHY" in data:
            write_all(descriptor, data[:20])
            raise OSError(28, "No space left on device")
        write_all(descriptor, data)

    monkeypatch.setattr(run_record, "write_all", refuse_long)
    monkeypatch.setattr(run_record, "write", lambda *_: None)
    run_record.finish(run_dir, 1, "failed")
    assert (volume / "logs" / "current.log").read_bytes().endswith(b"\nWHY: The GPU ran out\nEXIT_CODE=1\n")


def test_finish_again_changes_nothing(run_record: ModuleType, volume: Path) -> None:
    run_dir = make_run(run_record, volume, b"x\n")
    first = run_record.finish(run_dir, 0, "finished")
    assert run_record.finish(run_dir, 137, "supervisor killed") == first
    assert (volume / "logs" / "current.log").read_bytes() == b"earlier\nx\nEXIT_CODE=0\n"


@pytest.mark.parametrize("footer_written", [False, True])
def test_finish_goes_on_where_a_killed_one_left_off(
    run_record: ModuleType,
    volume: Path,
    footer_written: bool,
) -> None:
    run_dir = make_run(run_record, volume, b"EXIT_CODE=0")
    log = volume / "logs" / "current.log"
    failure = {"kind": "unknown", "title": "bad", "lines": ["a", "b"], "advice": ["c"]}
    run_record.update(run_dir, exit_code=5, reason="failed", failure=failure, footer_start=log.stat().st_size)
    footer = b"\nWHY: bad\n  | a\n  | b\nTRY: c\nEXIT_CODE=5\n"
    if footer_written:
        with log.open("ab") as file:
            file.write(footer)
    run_record.finish(run_dir, 137, "supervisor killed")
    assert log.read_bytes() == b"earlier\nEXIT_CODE=0" + footer
    record = run_record.read(run_dir)
    assert (record["exit_code"], record["failure"]) == (5, failure)


def test_a_run_lost_with_its_pod_gets_an_end_and_no_footer(run_record: ModuleType, volume: Path) -> None:
    run_dir = make_run(run_record, volume, b"half a li")
    log = volume / "logs" / "current.log"
    os.utime(log, (1_700_000_000, 1_700_000_000))
    assert run_record.finish_lost(str(volume)) == "r-1"
    record = run_record.read(run_dir)
    assert (record["exit_code"], record["reason"], record["ended_at"]) == (None, "pod lost", 1_700_000_000)
    assert (record["log_end"], record["failure"]["kind"]) == (log.stat().st_size, "pod_lost")
    assert log.read_bytes() == b"earlier\nhalf a li"
    assert output_log(run_dir) == b"half a li"
    assert run_record.finish_lost(str(volume)) is None


def test_a_run_that_was_thought_lost_can_still_tell_its_end(run_record: ModuleType, volume: Path) -> None:
    run_dir = make_run(run_record, volume, b"x\n")
    run_record.finish_lost(str(volume))
    run_record.finish(run_dir, 0, "finished")
    record = run_record.read(run_dir)
    assert (record["exit_code"], record["failure"]) == (0, None)


@pytest.mark.parametrize("text", ["", '{"run_id": "r-', "[]", "null"])
def test_a_record_that_cannot_be_read_is_finished_by_its_place(
    run_record: ModuleType,
    volume: Path,
    text: str,
) -> None:
    run_dir = make_run(run_record, volume, b"x\n")
    (Path(run_dir) / "run.json").write_text(text)
    run_record.finish(run_dir, 137, "supervisor killed")
    record = run_record.read(run_dir)
    assert (record["run_id"], record["exit_code"]) == ("r-1", 137)
    assert (volume / "logs" / "current.log").read_bytes().endswith(b"ENDED: supervisor killed\nEXIT_CODE=137\n")


@pytest.mark.parametrize("name", ["../elsewhere", "", ".", "..", "/tmp", "saved\0", "x" * 5000])
def test_newest_leads_out_of_the_runs_by_no_name(run_record: ModuleType, volume: Path, name: str) -> None:
    run_dir = make_run(run_record, volume, b"one\n")
    for folder in (volume / "elsewhere", volume, volume / "runs"):
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text("{}")
    (volume / "runs" / "newest").write_text(f"{name}\n")
    assert run_record.newest(str(volume)) == run_dir


def test_a_pipe_that_should_name_the_newest_run_is_not_waited_for(run_record: ModuleType, volume: Path) -> None:
    run_dir = make_run(run_record, volume, b"one\n")
    (volume / "runs" / "newest").unlink()
    os.mkfifo(volume / "runs" / "newest")
    with importlib.import_module("time_limit").limit(5):
        assert run_record.newest(str(volume)) == run_dir


def test_newest_is_the_run_launched_last(run_record: ModuleType, volume: Path) -> None:
    assert run_record.newest(str(volume)) is None
    make_run(run_record, volume, b"", "z-first")
    second = make_run(run_record, volume, b"", "a-second")
    assert run_record.newest(str(volume)) == second
    (volume / "runs" / "newest").unlink()
    run_record.update(second, launched_at=2)
    assert run_record.newest(str(volume)) == second


def test_the_record_is_replaced_as_a_whole_and_is_private(run_record: ModuleType, volume: Path) -> None:
    run_dir = make_run(run_record, volume, b"")
    path = Path(run_dir) / "run.json"
    before = path.stat().st_ino
    run_record.update(run_dir, pod={"id": "ü"})
    assert path.stat().st_ino != before
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["run.json"]


def test_a_volume_that_takes_nothing_costs_the_footer_not_the_end(run_record: ModuleType, volume: Path) -> None:
    run_dir = make_run(run_record, volume, b"x\n")
    run_record.update(run_dir, log="/dev/full")
    record = run_record.finish(run_dir, 0, "finished")
    assert record["ended_at"] is not None
    assert run_record.read(run_dir)["exit_code"] == 0


def test_the_command_line_kills_what_is_left_of_the_group_first(volume: Path, run_record: ModuleType) -> None:
    run_dir = make_run(run_record, volume, b"x\n")
    script = "set -m; trap '' TERM; sleep 1000 & echo $!; wait"
    with subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as group:
        assert group.stdout is not None
        child = int(group.stdout.readline())
        words = ["finish", run_dir, "--exit-code", "137", "--reason", "why", "--group", str(group.pid)]
        subprocess.run([sys.executable, str(REMOTE / "run_record.py"), *words], check=True)
        assert group.wait() == -signal.SIGKILL
        wait_until(lambda: not is_running(child), "a child in a group of its own")
    assert json.loads((Path(run_dir) / "run.json").read_text())["reason"] == "why"


# How far it came


def bar(step: int) -> bytes:
    """Return a progress bar of the training."""
    return f"\r {step}%|###   | {step}/100 [00:12<00:16, 34.2it/s]".encode()


@pytest.mark.parametrize(("output", "step"), [(bar(17) + bar(43), 43), (b"hello\n", None), (b"", None)])
def test_the_last_step_is_on_record_however_the_run_ends(
    run_record: ModuleType, volume: Path, output: bytes, step: int | None
) -> None:
    finished = make_run(run_record, volume, output, "r-1")
    assert run_record.finish(finished, 1, "failed")["last_step"] == step
    lost = make_run(run_record, volume, output, "r-2")
    assert run_record.finish_lost(str(volume)) == "r-2"
    assert run_record.read(lost)["last_step"] == step
    assert run_record.finish(lost, 137, "supervisor killed")["last_step"] == step
    killed = make_run(run_record, volume, output, "r-3")
    words = ["finish", killed, "--exit-code", "137", "--reason", "supervisor killed"]
    subprocess.run([sys.executable, str(REMOTE / "run_record.py"), *words], check=True)
    assert run_record.read(killed)["last_step"] == step


def test_a_checkpoint_that_is_further_than_the_log_tells_the_last_step(run_record: ModuleType, volume: Path) -> None:
    run_dir = make_run(run_record, volume, bar(17))
    checkpoint = volume / "out" / "checkpoint-40"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 40, "max_steps": 100}))
    run_record.update(run_dir, clone=str(volume), output_dir="out")
    assert run_record.finish(run_dir, 1, "failed")["last_step"] == 40


@pytest.mark.parametrize("hangs", [True, False])
def test_a_last_step_that_cannot_be_told_costs_only_itself(
    run_record: ModuleType, volume: Path, monkeypatch: pytest.MonkeyPatch, hangs: bool
) -> None:
    run_dir = make_run(run_record, volume, bar(17))
    monkeypatch.setattr(run_record, "LAST_STEP_S", 0.05)

    def find(_: object) -> None:
        if hangs:
            wait_until(lambda: False, "nothing")
        raise ZeroDivisionError

    monkeypatch.setattr(run_record.progress, "find_progress", find)
    record = run_record.finish(run_dir, 1, "failed")
    assert (record["last_step"], record["exit_code"]) == (None, 1)
    assert output_log(run_dir).endswith(b"EXIT_CODE=1\n")


def test_a_lost_run_that_was_to_end_has_ended_for_that_reason(run_record: ModuleType, volume: Path) -> None:
    run_dir = make_run(run_record, volume, b"x\n")
    run_record.update(run_dir, ending="user")
    run_record.finish_lost(str(volume))
    record = run_record.read(run_dir)
    assert (record["reason"], record["exit_code"], record["failure"]["kind"]) == ("user", None, "asked_to_end")


def test_finish_makes_the_slice_that_a_writer_killed_after_the_record_left_out(
    run_record: ModuleType, volume: Path
) -> None:
    run_dir = make_run(run_record, volume, b"output\n")
    run_record.finish(run_dir, 0, "finished")
    (Path(run_dir) / "output.log").unlink()
    with (volume / "logs" / "current.log").open("ab") as log:
        log.write(b"a later run\n")
    run_record.finish(run_dir, 137, "supervisor killed")
    assert output_log(run_dir) == b"output\nEXIT_CODE=0\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[" * 20_000,
        b"{}",
        b'{"log": 3, "log_start": "x", "ended_at": [], "exit_code": {}, "failure": "f", "run_id": "../x"}',
        b'{"log": "relative", "log_start": -1, "ended_at": 1e400, "reason": "a\\u0000b", "checkpoint": {"path": 1}}',
    ],
)
def test_run_whose_record_makes_no_sense_is_finished(run_record: ModuleType, volume: Path, content: bytes) -> None:
    run_dir = make_run(run_record, volume, b"output\n")
    (Path(run_dir) / "run.json").write_bytes(content)
    record = run_record.finish(run_dir, 1, "failed")
    assert (record["run_id"], record["log"]) == ("r-1", str(volume / "logs" / "current.log"))
    assert run_record.has_ended(run_record.read(run_dir))
    assert (volume / "logs" / "current.log").read_bytes().endswith(b"EXIT_CODE=1\n")
