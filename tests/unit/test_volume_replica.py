"""The volume by the S3 API: measured as a pod measures it, and deleted from without a moment's half checkpoint."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from podtasks.doors import programs_here
from podtasks.doors.s3 import S3Volume
from podtasks.flows.volume_removal import MARK, Removal
from podtasks.flows.volume_replica import measure_by_s3
from podtasks.pure.cleaning import Wishes, plan_cleaning
from podtasks.pure.settings import Settings
from podtasks.pure.storage import Inventory, Search, build_request, parse_inventory
from podtasks.pure.transfer import LocalFile, ProgressBar, Tally, VolumeFile
from tests.remote.test_checkpoints import write_safetensors, write_trainer
from tests.unit.fakes import FakeReporter

SEARCH = Search(("checkpoints",), ("checkpoints/digits",), "checkpoint-*", ".cache/huggingface", ("demo/checkpoints",))
SETTINGS = Settings(project="demo")
EVERYTHING = Wishes(old_checkpoints=True, archives=True, hf_cache=True, logs=True)
ARCHIVE = "checkpoints/digits.archive-20261121-121549"


class KilledError(Exception):
    """The command ended here, as by SIGKILL."""


class FolderVolume:
    """A folder that answers as the S3 API does; it dies after so many deletions."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.read_bytes = 0
        self.lives: int | None = None
        self.refused: set[str] = set()
        self.after_each: Callable[[], None] = lambda: None

    def list_files(self, place: str) -> Iterator[VolumeFile]:
        """Yield the files below a place."""
        for path in sorted((self.top / place).rglob("*")):
            if path.is_file():
                status = path.stat()
                yield VolumeFile(path.relative_to(self.top).as_posix(), status.st_size, status.st_mtime)

    def list_everything(self, place: str) -> Iterator[VolumeFile]:
        """Yield the files below a place."""
        return self.list_files(place)

    def find(self, place: str) -> VolumeFile | None:
        """Return one file, through links too."""
        path = self.top / place
        return VolumeFile(place, path.stat().st_size, path.stat().st_mtime) if path.is_file() else None

    def list_folder(self, place: str) -> tuple[list[str], list[VolumeFile]]:
        """Return one level; a folder without files is none."""
        folder = self.top / place
        names = {file.place[len(place) + 1 :].split("/")[0] for file in self.list_files(place)}
        files = [file for file in self.list_files(place) if "/" not in file.place[len(place) + 1 :]]
        return sorted(name for name in names if (folder / name).is_dir()), files

    def read(self, place: str) -> bytes | None:
        """Return a file whole."""
        return self.read_range(place, 0, None)

    def read_range(self, place: str, first_byte: int, last_byte: int | None) -> bytes | None:
        """Return a part of a file."""
        path = self.top / place
        if not path.is_file():
            return None
        with path.open("rb") as file:
            file.seek(first_byte)
            data = file.read(-1 if last_byte is None else last_byte - first_byte + 1)
        self.read_bytes += len(data)
        return data

    def read_end(self, place: str, size_bytes: int) -> bytes | None:
        """Return the end of a file."""
        path = self.top / place
        return path.read_bytes()[-size_bytes:] if path.is_file() else None

    def read_many(self, places: Iterable[str]) -> dict[str, bytes | None]:
        """Return many files."""
        return {place: self.read(place) for place in places}

    def upload(self, files: Sequence[LocalFile], progress: ProgressBar, *, check: str) -> Tally:
        """Put files there."""
        assert check == "nothing"
        for file in files:
            shutil.copy(file.path, self.top / file.place)
            progress.add(files=1)
            self.after_each()
        return Tally(sent_files=len(files))

    def delete(self, places: Iterable[str]) -> list[tuple[str, str]]:
        """Delete one after the other, in reverse order: the real one keeps none."""
        failures = []
        for place in sorted(places, reverse=True):
            if place in self.refused:
                failures.append((place, "AccessDenied"))
                continue
            if self.lives == 0:
                raise KilledError
            self.lives = None if self.lives is None else self.lives - 1
            (self.top / place).unlink()
            self.after_each()
        return failures

    def as_s3(self) -> S3Volume:
        """Return it as what the flows are typed for."""
        return cast(S3Volume, self)


@pytest.fixture
def volume(tmp_path: Path) -> FolderVolume:
    """A volume with all that a clean looks at."""
    top = tmp_path / "volume"
    out = top / "checkpoints/digits"
    for step in (100, 200, 300, 400):
        write_trainer(out / f"checkpoint-{step}", step)
    os.truncate(out / "checkpoint-400/model.safetensors", 20)
    write_safetensors(out / "final_model/model.safetensors")
    write_trainer(top / ARCHIVE / "checkpoint-900", 900)
    write_trainer(top / "checkpoints/other/checkpoint-7", 7)
    write_trainer(top / "data/checkpoint-7", 7)
    for number in range(22):
        folder = top / f"runs/digits-{number:02}"
        folder.mkdir(parents=True)
        record = {"run_id": folder.name, "ended_at": 5.0, "log": "x", "checkpoint": None}
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "output.log").write_text("x")
        os.utime(folder / "run.json", (1000 + number, 1000 + number))
    (top / "runs/newest").write_text("digits-21\n")
    (top / ".cache/huggingface/hub").mkdir(parents=True)
    (top / ".cache/huggingface/hub/blob").write_bytes(b"x" * 5000)
    (top / ".cache/huggingface/token").write_text("hf_x")
    (top / "logs").mkdir()
    (top / "logs/current.log").write_text("all")
    return FolderVolume(top)


def measure(volume: FolderVolume, *, other_pods: bool = False, keep: int = 1) -> Inventory:
    """Measure by the S3 API."""
    return measure_by_s3(volume.as_s3(), SEARCH, SETTINGS, FakeReporter(), other_pods=other_pods, keep=keep)


def measure_on_pod(volume: FolderVolume, folder: Path, *, other_pods: bool = False) -> Inventory:
    """Measure as a pod does that has the volume mounted."""
    programs_here.install(folder)
    request = {**build_request(SEARCH, other_pods=other_pods), "op": "measure"}
    answer = parse_inventory(programs_here.run(folder, "storage.py", request, volume.top))
    (volume.top / ".cache/podtasks-usage.json").unlink()
    return answer


def removal(volume: FolderVolume, inventory: Inventory, tmp_path: Path) -> Removal:
    """Return a clean of what was measured."""
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    return Removal(volume.as_s3(), SEARCH, inventory, empty)


def newest_complete(top: Path, directory: str = "checkpoints/digits") -> str | None:
    """Return the checkpoint that a pod would resume from."""
    request = {"clone": str(top), "directory": directory, "pattern": "checkpoint-*", "resume_from": None}
    program = Path(__file__).parents[2] / "remote/find_checkpoint.py"
    done = subprocess.run(
        [sys.executable, str(program)], input=json.dumps(request) + "\n", capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)["found"]
    return os.path.basename(found["path"]) if found else None


def test_the_plan_is_the_one_a_pod_makes(volume: FolderVolume, tmp_path: Path) -> None:
    for keep in (1, 2):
        wishes = replace(EVERYTHING, keep=keep)
        ours = plan_cleaning(measure(volume, keep=keep), wishes, SEARCH)
        theirs = plan_cleaning(measure_on_pod(volume, tmp_path / "kit"), wishes, SEARCH)
        assert [(item.kind, item.place, item.amount) for item in ours.items] == [
            (item.kind, item.place, item.amount) for item in theirs.items
        ]
        assert ours.kept == theirs.kept
    places = {item.place for item in ours.items}
    assert f"{ARCHIVE}" in places and "runs/digits-00/output.log" in places
    assert ".cache/huggingface/hub" in places and "checkpoints/digits/checkpoint-100" in places
    assert not places & {"checkpoints/digits/checkpoint-300", "checkpoints/digits/checkpoint-400"}


def test_totals_are_those_of_the_listing(volume: FolderVolume, tmp_path: Path) -> None:
    ours, theirs = measure(volume), measure_on_pod(volume, tmp_path / "kit")
    assert ours.used == theirs.used
    assert {place: amount for place, amount in theirs.tree.items() if amount.files} == dict(ours.tree)


def test_old_checkpoints_are_not_read(volume: FolderVolume) -> None:
    measure(volume)
    once = volume.read_bytes
    for step in range(1, 60):
        write_trainer(volume.top / f"checkpoints/digits/checkpoint-{step}", step)
    volume.read_bytes = 0
    measured = measure(volume)
    assert volume.read_bytes < once + 60 * 100, "no more of each than its trainer_state.json"
    assert measured.directories[0].checkpoints[-1].is_checked is False


def test_archive_with_the_only_complete_checkpoint_is_known(volume: FolderVolume, tmp_path: Path) -> None:
    for step in (100, 200, 300):
        os.truncate(volume.top / f"checkpoints/digits/checkpoint-{step}/model.safetensors", 20)
    ours = plan_cleaning(measure(volume), EVERYTHING, SEARCH)
    assert ours.kept == plan_cleaning(measure_on_pod(volume, tmp_path / "kit"), EVERYTHING, SEARCH).kept
    assert dict(ours.kept)[ARCHIVE] == "it holds the only complete checkpoint"


def test_run_that_goes_on_keeps_the_checkpoint_it_began_from(volume: FolderVolume) -> None:
    path = volume.top / "runs/digits-21/run.json"
    began = {"path": "/workspace/demo/checkpoints/digits/checkpoint-100", "step": 100}
    path.write_text(json.dumps({**json.loads(path.read_text()), "ended_at": None, "checkpoint": began}))
    assert measure(volume).live_run is None, "no pod runs, so it was lost"
    inventory = measure(volume, other_pods=True)
    plan = plan_cleaning(inventory, EVERYTHING, SEARCH)
    assert inventory.live_run == "digits-21"
    assert dict(plan.kept)["checkpoints/digits/checkpoint-100"] == "the run that goes on began from it"
    assert ".cache/huggingface/hub" in dict(plan.kept)


def test_links_of_the_clone_are_not_counted_twice(volume: FolderVolume) -> None:
    before = measure(volume)
    (volume.top / "demo").mkdir()
    shutil.copytree(volume.top / "checkpoints", volume.top / "demo/checkpoints")
    assert measure(volume).used == before.used, "the S3 API may show what a link leads to"


def test_clean_deletes_the_plan_and_nothing_else(volume: FolderVolume, tmp_path: Path) -> None:
    inventory = measure(volume)
    plan = plan_cleaning(inventory, EVERYTHING, SEARCH)
    outcome = removal(volume, inventory, tmp_path).run(plan)
    assert set(outcome.deleted) == {item.place for item in plan.items} and not outcome.left + outcome.failed
    left = {file.place for file in volume.list_files("")}
    assert not any(MARK in place or place.startswith(ARCHIVE) for place in left)
    assert {place.split("/")[2] for place in left if place.startswith("checkpoints/digits/")} == {
        "checkpoint-300", "checkpoint-400", "final_model"
    }  # fmt: skip
    assert {"data/checkpoint-7/trainer_state.json", ".cache/huggingface/token", "logs/current.log"} <= left


def test_at_no_point_is_half_a_checkpoint_taken_for_a_complete_one(volume: FolderVolume, tmp_path: Path) -> None:
    # Weights without a trainer_state.json anywhere: any whole file would do for a complete checkpoint.
    bare = volume.top / "checkpoints/digits"
    shutil.rmtree(bare)
    for step in (1, 2):
        write_safetensors(bare / f"checkpoint-{step}/model.safetensors")
        (bare / f"checkpoint-{step}/config.json").write_text("{}")
    inventory = measure(volume)
    plan = plan_cleaning(inventory, Wishes(old_checkpoints=True), SEARCH)
    assert [item.place for item in plan.items] == ["checkpoints/digits/checkpoint-1"]
    seen: list[str | None] = []

    def look() -> None:
        aside = tmp_path / f"seen-{len(seen)}"
        shutil.copytree(bare / "checkpoint-1", aside / "out/checkpoint-1")
        seen.append(newest_complete(aside, "out"))

    volume.after_each = look
    removal(volume, inventory, tmp_path).run(plan)
    assert seen == [None] * 4, "the mark, two files, and the mark again"


@pytest.mark.parametrize("lives", (1, 5, 7))
def test_killed_clean_is_finished_by_the_next(volume: FolderVolume, tmp_path: Path, lives: int) -> None:
    inventory = measure(volume)
    plan = plan_cleaning(inventory, Wishes(old_checkpoints=True), SEARCH)
    volume.lives = lives
    with pytest.raises(KilledError):
        removal(volume, inventory, tmp_path).run(plan)
    assert newest_complete(volume.top) == "checkpoint-300"
    volume.lives = None
    again = measure(volume)
    removal(volume, again, tmp_path).run(plan_cleaning(again, Wishes(old_checkpoints=True), SEARCH))
    names = {file.place.split("/")[2] for file in volume.list_files("checkpoints/digits")}
    assert names == {"checkpoint-300", "checkpoint-400", "final_model"}


def test_checkpoint_that_became_the_newest_is_left(volume: FolderVolume, tmp_path: Path) -> None:
    inventory = measure(volume)
    plan = plan_cleaning(inventory, Wishes(old_checkpoints=True), SEARCH)
    shutil.rmtree(volume.top / "checkpoints/digits/checkpoint-300")
    outcome = removal(volume, inventory, tmp_path).run(plan)
    assert outcome.deleted == () and len(outcome.left) == 2
    assert newest_complete(volume.top) == "checkpoint-200"


def test_checkpoint_that_the_final_model_is_a_link_to_is_left(volume: FolderVolume, tmp_path: Path) -> None:
    out = volume.top / "checkpoints/digits"
    shutil.rmtree(out / "final_model")
    (out / "final_model").symlink_to("checkpoint-100")
    inventory = measure(volume)
    outcome = removal(volume, inventory, tmp_path).run(plan_cleaning(inventory, Wishes(old_checkpoints=True), SEARCH))
    assert outcome.left == (("checkpoints/digits/checkpoint-100", "final_model is a link to it, or a copy"),)
    assert outcome.deleted == ("checkpoints/digits/checkpoint-200",)


def test_logs_are_as_new_as_their_runs_were_launched(volume: FolderVolume) -> None:
    oldest = volume.top / "runs/digits-00/run.json"
    oldest.write_text(json.dumps({**json.loads(oldest.read_text()), "launched_at": 2_000_000.0}))
    os.utime(oldest, (1, 1))
    plan = plan_cleaning(measure(volume), Wishes(logs=True), SEARCH)
    assert [item.place for item in plan.items] == ["runs/digits-01/output.log", "runs/digits-02/output.log"][::-1]


def test_final_model_of_the_same_size_and_second_keeps_no_checkpoint(volume: FolderVolume, tmp_path: Path) -> None:
    out = volume.top / "checkpoints/digits"
    weights = out / "checkpoint-100/model.safetensors"
    other = out / "final_model/model.safetensors"
    other.write_bytes(bytes(reversed(weights.read_bytes())))
    os.utime(other, ns=(weights.stat().st_mtime_ns,) * 2)
    inventory = measure(volume)
    outcome = removal(volume, inventory, tmp_path).run(plan_cleaning(inventory, Wishes(old_checkpoints=True), SEARCH))
    assert outcome.left == ()


def test_what_cannot_be_deleted_is_named(volume: FolderVolume, tmp_path: Path) -> None:
    stuck = "checkpoints/digits/checkpoint-100/model.safetensors"
    volume.refused = {stuck}
    inventory = measure(volume)
    outcome = removal(volume, inventory, tmp_path).run(plan_cleaning(inventory, Wishes(old_checkpoints=True), SEARCH))
    assert outcome.failed == (("checkpoints/digits/checkpoint-100", f"{stuck}: AccessDenied"),)
    assert outcome.deleted == ("checkpoints/digits/checkpoint-200",)
    assert (volume.top / "checkpoints/digits/checkpoint-100" / MARK).exists(), "it still reads as unfinished"


def test_many_files_are_told_of_while_they_are_listed(volume: FolderVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podtasks.flows.volume_replica.SLOW_LISTING_FILES", 20)
    report = FakeReporter()
    measure_by_s3(volume.as_s3(), SEARCH, SETTINGS, report, other_pods=False, keep=1)
    assert report.notes[0].startswith("20 files listed so far")




def test_interrupted_uploads_are_found_by_s3_too_and_go(volume: FolderVolume, tmp_path: Path) -> None:
    partial = volume.top / "data/audio/.rsync-partial/half"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"x" * 100)
    inventory = measure(volume)
    assert inventory.leftovers == ("data/audio/.rsync-partial",)
    assert inventory.amount("data/audio/.rsync-partial").size_bytes == 100
    plan = plan_cleaning(inventory, Wishes(logs=True), SEARCH)
    empty_file = tmp_path / "empty"
    empty_file.touch()
    outcome = Removal(volume.as_s3(), SEARCH, inventory, empty_file).run(plan)
    assert "data/audio/.rsync-partial" in outcome.deleted
    assert not partial.exists()
