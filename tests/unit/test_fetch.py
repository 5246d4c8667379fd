"""`inv fetch`: what is meant, what is brought, and what is left alone."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import fetch
from podtasks.flows.fetch import Fetch, FetchRequest
from podtasks.flows.fetch_parts import Fetched
from podtasks.flows.transfer_way import SshWay
from podtasks.pure.errors import UsageError
from podtasks.pure.settings import Settings
from tests.unit.fake_volume import WRITTEN, FakeVolume
from tests.unit.fakes import FakeClock, FakeReporter, StrictApi, make_cloud
from tests.unit.test_checkpoint_choice import make_checkpoint

RECORD = {"run_id": "run-1", "config": "configs/b.yaml", "output_dir": "/workspace/demo/checkpoints/b"}
Run = Callable[..., Fetched]


@pytest.fixture
def volume(monkeypatch: pytest.MonkeyPatch) -> FakeVolume:
    files = {
        **make_checkpoint("checkpoints/b", 100),
        **make_checkpoint("checkpoints/b", 200),
        "checkpoints/b/final_model/config.json": b"{}",
        "checkpoints/b/notes.txt": b"x",
        "logs/current.log": b"a log",
        "runs/newest": b"run-1\n",
        "runs/run-1/run.json": json.dumps(RECORD).encode(),
        "data/x": b"x",
    }
    volume = FakeVolume(files)
    monkeypatch.setattr(fetch, "choose_s3", lambda *_: volume)
    return volume


@pytest.fixture
def report() -> FakeReporter:
    return FakeReporter()


@pytest.fixture
def run(tmp_path: Path, report: FakeReporter) -> Run:
    def run(*names: str, **request: Any) -> Fetched:  # noqa: ANN401
        return Fetch(
            FetchRequest(names, **request),
            make_cloud(StrictApi(), tmp_path),
            Settings(project="demo"),
            ProjectFiles(tmp_path),
            report,
            FakeClock(),
            lambda: None,
        ).run()

    return run


def brought(tmp_path: Path) -> set[str]:
    top = tmp_path / "fetched"
    return {str(path.relative_to(top)) for path in top.rglob("*") if path.is_file()} - {".gitignore"}


CHECKPOINT_200 = {f"checkpoints/b/checkpoint-200/{name}" for name in ("model.safetensors", "trainer_state.json")}
FINAL_MODEL = {"checkpoints/b/final_model/config.json"}


@pytest.mark.usefixtures("volume")
def test_the_newest_checkpoint_and_the_final_model_of_the_newest_run_come_by_default(
    run: Run, report: FakeReporter, tmp_path: Path
) -> None:
    fetched = run()
    assert brought(tmp_path) == CHECKPOINT_200 | FINAL_MODEL
    assert [fetched.count_here(part)[0] for part in fetched.parts] == [2, 1]
    assert "outputs of configs/b.yaml (run run-1)" in report.steps
    assert (tmp_path / "fetched/.gitignore").read_text() == "*\n"


def test_an_incomplete_checkpoint_is_skipped_by_name(
    run: Run, volume: FakeVolume, report: FakeReporter, tmp_path: Path
) -> None:
    del volume.files["checkpoints/b/checkpoint-200/model.safetensors"]
    run()
    assert "checkpoints/b/checkpoint-100/model.safetensors" in brought(tmp_path)
    assert any("skipped: checkpoints/b/checkpoint-200 holds no weights" in note for note in report.notes)


@pytest.mark.usefixtures("volume")
def test_all_checkpoints_logs_and_paths_are_brought(run: Run, tmp_path: Path) -> None:
    run("checkpoints", "logs", "data/x", "/workspace/checkpoints/b/notes.txt")
    expected = {"logs/current.log", "runs/newest", "runs/run-1/run.json", "data/x", "checkpoints/b/notes.txt"}
    checkpoints = {name.replace("200", "100") for name in CHECKPOINT_200} | CHECKPOINT_200
    assert brought(tmp_path) == expected | checkpoints | FINAL_MODEL
    assert (tmp_path / "fetched/runs/run-1/run.json").stat().st_mode & 0o077 == 0


def test_a_record_that_came_before_ctrl_c_is_for_its_owner_only(
    run: Run, volume: FakeVolume, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring = volume.download

    def interrupt(*given: Any) -> None:  # noqa: ANN401
        bring(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(volume, "download", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run("logs", target=tmp_path / "open")
    assert (tmp_path / "open/runs/run-1/run.json").stat().st_mode & 0o077 == 0


@pytest.mark.usefixtures("volume")
def test_the_only_configuration_counts_before_the_newest_run(run: Run, report: FakeReporter, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/a.yaml").write_text("output_dir: checkpoints/a\n")
    with pytest.raises(UsageError, match="nothing of this yet"):
        run()
    assert "outputs of configs/a.yaml" in report.steps
    (tmp_path / "configs/b.yaml").write_text("output_dir: checkpoints/b\n")
    assert run(config="configs/b.yaml").parts[0].files
    assert "outputs of configs/b.yaml" in report.steps


def test_without_a_run_and_with_several_configurations_one_must_be_named(run: Run, volume: FakeVolume) -> None:
    del volume.files["runs/newest"]
    with pytest.raises(UsageError, match="not clear whose checkpoints"):
        run()


@pytest.mark.usefixtures("volume")
def test_what_is_nowhere_is_refused_with_what_there_is(run: Run, report: FakeReporter, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing at dat on the volume; did you mean data") as caught:
        run("dat")
    assert "checkpoints/, data/, logs/, runs/" in caught.value.next_step
    with pytest.raises(UsageError, match="nothing of this yet: predictions"):
        run("predictions")
    assert report.notes == ["predictions: there is nothing on the volume"]
    assert brought(tmp_path) == set()


def test_what_is_here_is_not_fetched_and_what_is_newer_here_is_kept(
    run: Run, volume: FakeVolume, report: FakeReporter, tmp_path: Path
) -> None:
    top = tmp_path / "fetched/data"
    volume.files = {"data/same": b"11", "data/older": b"22", "data/newer": b"33", "data/new": b"4"}
    top.mkdir(parents=True)
    for name, data, age_s in (("same", b"xx", 0), ("older", b"yyy", -100), ("newer", b"zzz", 100)):
        (top / name).write_bytes(data)
        os.utime(top / name, (WRITTEN + age_s, WRITTEN + age_s))
    fetched = run("data")
    assert fetched.tally.sent_files == 2
    assert {path.name: path.read_bytes() for path in top.iterdir()} == {
        "same": b"xx",
        "older": b"22",
        "newer": b"zzz",
        "new": b"4",
    }
    assert report.notes == ["data/newer is newer here than on the volume and is kept; --overwrite replaces it"]
    run("data", overwrite=True)
    assert (top / "newer").read_bytes() == b"33"


def test_failures_and_names_that_lead_out_are_told(run: Run, volume: FakeVolume, tmp_path: Path) -> None:
    volume.files |= {"data/../../out": b"x", "data/bad": b"y"}
    volume.broken = {"data/bad": "it broke off"}
    fetched = run("data")
    assert fetched.failures == [
        ("data/../../out", "its name, or a link on the way, would lead out of the folder it belongs into"),
        ("data/bad", "it broke off"),
    ]
    assert brought(tmp_path) == {"data/x"}
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("volume")
def test_another_folder_gets_no_gitignore_and_a_file_is_no_folder(run: Run, tmp_path: Path) -> None:
    run("data", target=tmp_path / "else/where")
    assert [path.name for path in (tmp_path / "else/where").iterdir()] == ["data"]
    with pytest.raises(UsageError, match="is no folder"):
        run("data", target=tmp_path / "else/where/data/x")


@pytest.mark.usefixtures("volume")
def test_a_dry_run_brings_nothing(run: Run, tmp_path: Path) -> None:
    fetched = run("data", dry_run=True)
    assert [len(part.plan.wanted) for part in fetched.parts] == [1]
    assert not (tmp_path / "fetched").exists()


def test_a_dry_run_makes_no_pod(run: Run, report: FakeReporter, monkeypatch: pytest.MonkeyPatch) -> None:
    way = SshWay("over SSH to a CPU pod at $0.08/h", makes_pod=True, rents=True)
    monkeypatch.setattr(fetch, "choose_s3", lambda *_: None)
    monkeypatch.setattr(fetch, "find_ssh_way", lambda *_: way)
    assert run("data", dry_run=True).parts == []
    assert (report.steps, report.notes) == ([way.text], ["only a pod could tell what is there; --dry-run makes none"])


@pytest.mark.parametrize("name", ["/proc/x", "a file"])
@pytest.mark.usefixtures("volume")
def test_a_folder_that_cannot_be_used_is_an_error_of_the_fetch(run: Run, tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").touch()
    with pytest.raises(UsageError, match="cannot take what is fetched") as caught:
        run(target=tmp_path / name)
    assert caught.value.means == "Nothing was fetched."
    assert "you may write to" in caught.value.next_step


def test_a_log_that_grew_within_the_second_it_was_listed_in_has_arrived(
    run: Run, volume: FakeVolume, tmp_path: Path
) -> None:
    download = volume.download

    def grown(files: Any, target: Path, progress: Any) -> Any:  # noqa: ANN401
        tally = download(files, target, progress)
        log = target / "logs/current.log"
        log.write_bytes(b"a log, and one line more")
        os.utime(log, (WRITTEN, WRITTEN))
        return tally

    volume.download = grown  # type: ignore[method-assign]
    assert run("logs").failures == []
    assert (tmp_path / "fetched/logs/current.log").read_bytes() == b"a log, and one line more"


def test_a_newer_file_that_is_kept_is_counted_as_it_is_here(run: Run, volume: FakeVolume, tmp_path: Path) -> None:
    del volume
    run("logs")
    log = tmp_path / "fetched/logs/current.log"
    log.write_bytes(b"a log, changed by hand here")
    os.utime(log, (WRITTEN + 60, WRITTEN + 60))
    fetched = run("logs/current.log")
    (part,) = fetched.parts
    assert fetched.count_here(part) == (1, len(b"a log, changed by hand here"))
