"""The history of runs, from the pod, the volume or this machine; and the last run, without a pod."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import end_marks, last_run, run_copies, runs
from podtasks.flows.last_run import find_last_run
from podtasks.flows.runs import History, known_history, read_history
from podtasks.pure.errors import ApiUnreachableError
from podtasks.pure.run import Run
from podtasks.pure.secret import Secret
from tests.unit.fake_pod import BROKEN, FakePod
from tests.unit.fake_reader import FakeReader
from tests.unit.fakes import STOPPED, World, make_pod

IDS = [f"a-2026112{day}-100000-aaaaaaa" for day in range(5)]
KEYS = (Secret("access"), Secret("secret"))


@pytest.fixture
def files(tmp_path: Path) -> ProjectFiles:
    return ProjectFiles(tmp_path / "project")


@pytest.fixture(autouse=True)
def volume(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeReader:
    (tmp_path / "project").mkdir()
    volume = FakeReader()
    for number, run_id in enumerate(IDS, start=1):
        volume.add_run(run_id, launched_at=100.0 * number, ended_at=100.0 * number + 50, newest=True)
    for module in (runs, last_run):
        monkeypatch.setattr(module, "open_s3_volume", lambda cloud: volume if cloud.s3_keys else None)
    return volume


def ids(history: History) -> list[str]:
    return [str(record["run_id"]) for record in history.records]


def read(world: World, files: ProjectFiles, limit: int | None = None, *, s3: bool = True) -> History:
    cloud = replace(world.cloud(), s3_keys=KEYS if s3 else None, data_center="EU-RO-1")
    return read_history(cloud, "demo", files, world.report, limit)


def test_running_pod_tells_its_runs_with_the_one_that_runs(world: World, pod: FakePod, files: ProjectFiles) -> None:
    world.api.on("list_pods", [make_pod()])
    records = [{"run_id": "new", "launched_at": 2.0}, {"run_id": "old", "launched_at": 1.0, "ended_at": 1.5}]
    pod.on("runs.py", {"runs": records, "active_run_id": "new"})
    history = read(world, files, 7)
    assert (ids(history), history.source, history.active_run_id) == (["new", "old"], "pod pod1", "new")
    assert pod.questions("runs.py") == [{"limit": 7}]
    assert list(run_copies.read_records(files)) == ["old"], "only what is final is kept"


def test_pod_that_does_not_answer_is_replaced_by_the_volume(world: World, pod: FakePod, files: ProjectFiles) -> None:
    world.api.on("list_pods", [make_pod()])
    pod.connects = [BROKEN]
    history = read(world, files)
    assert history.source == "the volume, by the S3 API"
    assert "could not be asked" in world.report.notes[0]


def test_volume_gives_the_newest_of_all_runs(world: World, files: ProjectFiles) -> None:
    world.api.on("list_pods", [STOPPED])
    assert ids(read(world, files, 2)) == [IDS[4], IDS[3]]


def test_ended_runs_are_read_once(world: World, files: ProjectFiles, volume: FakeReader) -> None:
    world.api.on("list_pods", [STOPPED])
    volume.add_run("b-20261130-100000-bbbbbbb", launched_at=900.0)
    assert len(read(world, files).records) == 6
    volume.reads.clear()
    assert len(read(world, files).records) == 6
    assert [place for place, _, _ in volume.reads] == ["runs/b-20261130-100000-bbbbbbb/run.json"]


def test_what_may_be_secret_is_not_kept_here(world: World, files: ProjectFiles, volume: FakeReader) -> None:
    world.api.on("list_pods", [STOPPED])
    volume.add_run(IDS[4], ended_at=1.0, script_env={"HF_TOKEN": "s3cret"}, token="s3cret", notify="https://s3cret")
    read(world, files)
    assert "s3cret" not in (files.run_folder(IDS[4]) / "record.json").read_text()


def test_hostile_run_ids_are_no_runs(world: World, files: ProjectFiles, volume: FakeReader) -> None:
    world.api.on("list_pods", [STOPPED])
    for run_id in ("saved", "-rf; $(true)", "line\nbreak"):
        volume.add_run(run_id, ended_at=1.0)
    assert set(ids(read(world, files))) == {*IDS, "-rf; $(true)"}
    run_copies.remember_record(files, {"run_id": "../out", "ended_at": 1.0})
    assert not (files.state_folder / "out").exists()


def test_silent_volume_leaves_what_is_known_here(world: World, files: ProjectFiles, volume: FakeReader) -> None:
    world.api.on("list_pods", [STOPPED])
    read(world, files)
    volume.error = ApiUnreachableError("The S3 API is silent.", next_step="wait")
    history = read(world, files, 1)
    assert (ids(history), history.source) == ([IDS[4]], "what is known on this machine")
    assert world.report.notes == ["only runs that are known here: The S3 API is silent."]


def test_no_s3_keys_is_said(world: World, files: ProjectFiles) -> None:
    world.api.on("list_pods", [STOPPED])
    assert read(world, files, s3=False).records == ()
    assert "there are no S3 keys" in world.report.notes[0]


def test_known_history_joins_what_was_streamed_fetched_and_read(files: ProjectFiles) -> None:
    run_copies.begin(files, Run("s-20261101-100000-a", "", "", 0, "stop", ""))
    fetched = files.root / "fetched/runs/f-20261102-100000-a"
    fetched.mkdir(parents=True)
    (fetched / "run.json").write_text(json.dumps({"run_id": "other", "exit_code": 3}))
    (fetched / "output.log").write_text("fetched\n")
    run_copies.remember_record(files, {"run_id": "s-20261101-100000-a", "exit_code": 0, "ended_at": 5.0})
    known = known_history(files, None)
    assert [(r["run_id"], r["exit_code"]) for r in known.records] == [
        ("f-20261102-100000-a", 3),
        ("s-20261101-100000-a", 0),
    ]
    copy = run_copies.find(files, "f-20261102-100000-a", None)
    assert copy is not None
    assert (copy.log, copy.exit_code, copy.is_whole, copy.source.split(",")[0]) == (
        b"fetched\n",
        3,
        True,
        "what was fetched",
    )


# The last run


def test_last_run_takes_two_reads_of_the_volume(world: World, files: ProjectFiles, volume: FakeReader) -> None:
    record, source = find_last_run(replace(world.cloud(), s3_keys=KEYS, data_center="EU-RO-1"), files)
    assert record is not None and record["run_id"] == IDS[4]
    assert source == "the volume, by the S3 API"
    assert len(volume.reads) == 2


def test_last_run_asks_no_api_where_the_data_center_is_not_known(world: World, files: ProjectFiles) -> None:
    run_copies.remember_record(files, {"run_id": IDS[0], "ended_at": 1.0})
    record, source = find_last_run(replace(world.cloud(), s3_keys=KEYS), files)
    assert record is not None and record["run_id"] == IDS[0]
    assert source == "what is known on this machine"


def test_last_run_of_a_silent_volume_is_what_is_known_here(
    world: World, files: ProjectFiles, volume: FakeReader
) -> None:
    volume.error = ApiUnreachableError("silent", next_step="wait")
    assert find_last_run(replace(world.cloud(), s3_keys=KEYS, data_center="X"), files) == (None, "")


def test_run_lost_with_a_pod_that_was_deleted_from_here_is_told_as_ended_by_the_user(
    world: World, files: ProjectFiles, volume: FakeReader
) -> None:
    failure = {"kind": "pod_lost", "title": "x"}
    lost: dict[str, Any] = {"ended_at": 2e9, "exit_code": None, "reason": "pod lost", "failure": failure}
    volume.add_run(IDS[4], newest=True, pod={"id": "pod1"}, **lost)
    world.api.on("list_pods", [])
    cloud = replace(world.cloud(), s3_keys=KEYS, data_center="EU-RO-1")
    assert read(world, files, 1).records[0]["reason"] == "pod lost"
    end_marks.note_end(files, world.cloud(), make_pod(), 1.8e9, world.report)
    record, _ = find_last_run(cloud, files)
    assert record is not None and record["reason"] == read(world, files, 1).records[0]["reason"] == "user"
