"""The log of a run that does not run: the volume, a copy here, or a pod that must be rented."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import run_copies, show_log
from podtasks.flows.cloud import Cloud
from podtasks.flows.show_log import LogRequest, show_copy, show_stored_log
from podtasks.pure.errors import ApiUnreachableError, UsageError
from podtasks.pure.pod import Pod
from podtasks.pure.run import Run
from podtasks.pure.settings import Settings
from tests.unit.fake_reader import FakeReader
from tests.unit.fakes import World, make_pod

RUN_ID = "digits-20261123-100000-3f2a1b9"
REQUEST = LogRequest("", None, may_start=False, via="auto", now=1000.0)
DEAD = ApiUnreachableError("The S3 API gave no usable answer.", next_step="wait")


@dataclass
class Desk:
    """What a log is asked of: an S3 volume or none, a volume behind SSH, this machine's copies."""

    world: World
    files: ProjectFiles
    s3: FakeReader | None
    pod_volume: FakeReader
    shown: list[bytes] = field(default_factory=list)
    borrowed: int = 0

    def show(self, request: LogRequest = REQUEST, pod: Pod | None = None) -> bytes:
        """Ask for a log and return what was shown."""
        show_stored_log(
            request,
            self.world.cloud(),
            pod,
            Settings(),
            self.files,
            show=self.shown.append,
            report=self.world.report,
            clock=self.world.clock,
        )
        return b"".join(self.shown)

    def copy(self, run_id: str, log: bytes, exit_code: int | None) -> None:
        """Leave a copy on this machine."""
        run = Run(run_id, "", "", 0, "stop", "")
        run_copies.begin(self.files, run).write_bytes(log)
        run_copies.finish(self.files, run, exit_code, "")


@pytest.fixture
def desk(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    volume = FakeReader()
    volume.add_run(RUN_ID, log=b"one\ntwo\nEXIT_CODE=0\n", newest=True, ended_at=900.0)
    desk = Desk(world, ProjectFiles(tmp_path), volume, volume)

    def choose(via: str, cloud: Cloud) -> FakeReader | None:
        del cloud
        if via == "s3" and desk.s3 is None:
            raise UsageError("There is no S3 API.", next_step="mend that")
        return None if via == "ssh" else desk.s3

    @contextlib.contextmanager
    def borrow(*_: object, who: str) -> Iterator[Any]:
        assert who == "inv logs"
        desk.borrowed += 1
        yield SimpleNamespace(pod=make_pod("cpu1"), shell=None)

    monkeypatch.setattr(show_log, "choose_s3", choose)
    monkeypatch.setattr(show_log, "borrow_pod", borrow)
    monkeypatch.setattr(show_log, "open_shell", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(show_log, "ShellVolume", lambda *_: desk.pod_volume)
    monkeypatch.setattr(show_log, "describe_offer", lambda *_: "a CPU pod at $0.08/h")
    return desk


def test_newest_run_comes_by_the_s3_api_and_says_so(desk: Desk) -> None:
    assert desk.show() == b"one\ntwo\nEXIT_CODE=0\n"
    assert desk.world.report.steps == [f"run {RUN_ID}, from the volume, by the S3 API"]
    assert desk.world.report.notes == []


def test_last_lines_only(desk: Desk) -> None:
    assert desk.show(replace(REQUEST, lines=1)) == b"EXIT_CODE=0\n"


def test_run_without_a_recorded_end_is_said(desk: Desk) -> None:
    assert desk.s3
    desk.s3.add_run(RUN_ID, log=b"one\n", newest=True)
    desk.show()
    assert "not recorded" in desk.world.report.notes[0]


def test_unknown_run_names_the_nearest(desk: Desk) -> None:
    with pytest.raises(UsageError, match=f"did you mean {RUN_ID}?"):
        desk.show(replace(REQUEST, run_id="digits-20261123"))
    assert desk.shown == []


def test_hostile_run_id_is_no_path(desk: Desk) -> None:
    assert desk.s3
    desk.s3.files["secret/run.json"] = b"{}"
    with pytest.raises(UsageError, match="no run"):
        desk.show(replace(REQUEST, run_id="../secret"))


def test_volume_without_runs_says_how_to_make_one(desk: Desk) -> None:
    desk.s3 = FakeReader()
    with pytest.raises(UsageError, match="no run on the volume yet"):
        desk.show()


def test_newest_run_without_its_mark_is_the_newest_by_its_id(desk: Desk) -> None:
    assert desk.s3
    del desk.s3.files["runs/newest"]
    assert desk.show().startswith(b"one")


def test_s3_that_does_not_answer_falls_back_to_the_copy_with_a_note(desk: Desk) -> None:
    assert desk.s3
    desk.s3.error = DEAD
    desk.copy(RUN_ID, b"copied\n", 0)
    assert desk.show() == b"copied\n"
    assert "cannot be read by the S3 API" in desk.world.report.notes[0]
    assert "what was streamed here" in desk.world.report.steps[0]


def test_s3_that_breaks_off_after_some_bytes_is_not_told_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off(*_: object) -> Iterator[bytes]:
        yield b"one\n"
        raise DEAD

    monkeypatch.setattr(show_log, "read_log", break_off)
    desk.copy(RUN_ID, b"one\ntwo\n", 0)
    with pytest.raises(ApiUnreachableError):
        desk.show()
    assert desk.shown == [b"one\n"]


def test_s3_asked_for_is_not_replaced(desk: Desk) -> None:
    assert desk.s3
    desk.s3.error = DEAD
    desk.copy(RUN_ID, b"copied\n", 0)
    with pytest.raises(ApiUnreachableError):
        desk.show(replace(REQUEST, via="s3"))


def test_running_pod_is_the_way_where_there_is_no_s3(desk: Desk) -> None:
    desk.s3 = None
    desk.pod_volume.name = "SSH"
    assert desk.show(pod=make_pod()).startswith(b"one")
    assert desk.world.report.steps == [f"run {RUN_ID}, from the volume, by SSH"]


def test_ssh_asked_for_goes_by_the_running_pod(desk: Desk) -> None:
    desk.s3 = FakeReader()
    assert desk.show(replace(REQUEST, via="ssh"), make_pod()).startswith(b"one")


def test_copy_that_is_not_whole_says_how_to_see_the_rest(desk: Desk) -> None:
    desk.s3 = None
    desk.copy(RUN_ID, b"half", None)
    assert desk.show() == b"half"
    assert "inv logs --start" in desk.world.report.notes[0]


@pytest.mark.parametrize("via", ["auto", "ssh"])
def test_nothing_within_reach_says_what_it_would_take_and_rents_nothing(desk: Desk, via: str) -> None:
    desk.s3 = None
    with pytest.raises(UsageError) as caught:
        desk.show(replace(REQUEST, via=via))
    assert "a CPU pod at $0.08/h" in str(caught.value) and "inv logs --start" in caught.value.next_step
    assert desk.borrowed == 0


def test_start_rents_the_pod_and_reads_the_volume(desk: Desk) -> None:
    desk.s3 = None
    desk.copy(RUN_ID, b"half", None)
    assert desk.show(replace(REQUEST, may_start=True)).startswith(b"one")
    assert desk.borrowed == 1


def test_start_rents_nothing_where_s3_answers(desk: Desk) -> None:
    desk.show(replace(REQUEST, may_start=True))
    assert desk.borrowed == 0


def test_copy_says_how_old_it_is(desk: Desk) -> None:
    desk.copy(RUN_ID, b"a\nb\n", 0)
    age_base = (desk.files.run_folder(RUN_ID) / "output.log").stat().st_mtime
    request = replace(REQUEST, lines=1, now=age_base + 7200)
    assert show_copy(request, desk.files, None, show=desk.shown.append, report=desk.world.report)
    assert desk.shown == [b"b\n"]
    assert desk.world.report.steps[0].endswith(", 2 h 0 min old")


def test_no_copy_is_said_by_false(desk: Desk) -> None:
    assert not show_copy(REQUEST, desk.files, None, show=desk.shown.append, report=desk.world.report)
