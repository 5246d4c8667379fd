"""storage.py: what lies on the volume, and what a clean deletes of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.remote.fake_pod import FakePod
from tests.remote.test_checkpoints import write_safetensors, write_trainer

HOSTILE = "a b'c\"d;$(touch pwned)[x]*\nline"
RUNNING = "import time\nprint('begun', flush=True)\ntime.sleep(1000)"


class Storage:
    """storage.py on one pod, asked about the folders below checkpoints/."""

    def __init__(self, pod: FakePod) -> None:
        self.pod = pod
        self.volume = pod.volume
        self.out = pod.volume / "checkpoints" / "digits"
        self.request: dict[str, Any] = {
            "roots": ["checkpoints"],
            "exact": [],
            "pattern": "checkpoint-*",
            "hf_home": ".cache/huggingface",
            "other_pods": False,
            "keep": 1,
            "keep_logs": 2,
        }

    def measure(self, **fields: object) -> dict[str, Any]:
        """Return what lies on the volume."""
        code, answer = self.pod.run_program("storage.py", {**self.request, "op": "measure", **fields})
        assert code == 0, answer
        return answer

    def clean(self, *items: tuple[str, str], **fields: object) -> dict[str, Any]:
        """Delete (kind, path) each and return the answer, reasons by path."""
        told = [{"kind": kind, "path": path} for kind, path in items]
        code, answer = self.pod.run_program("storage.py", {**self.request, "op": "clean", "items": told, **fields})
        assert code == 0, answer
        return {"deleted": answer["deleted"], **{k: _by_path(answer[k]) for k in ("left", "failed")}}

    def checkpoint(self, step: int, folder: Path | None = None) -> Path:
        """Write a complete checkpoint."""
        return write_trainer((folder or self.out) / f"checkpoint-{step}", step)

    def steps(self) -> list[str]:
        """Return the names in the output directory."""
        return sorted(os.listdir(self.out))

    def record(self, run_id: str, *, ended: bool = True, age_s: float = 0, **fields: object) -> Path:
        """Write the record and the log of a run that ended so long ago."""
        folder = self.volume / "runs" / run_id
        folder.mkdir(parents=True)
        record = {"run_id": run_id, "log": "x", "ended_at": 1.0 if ended else None, **fields}
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "output.log").write_text("log of " + run_id)
        os.utime(folder / "run.json", (time.time() - age_s,) * 2)
        (self.volume / "runs" / "newest").write_text(run_id + "\n")
        return folder


def _by_path(entries: list[dict[str, str]]) -> dict[str, str]:
    return {entry["path"]: entry["why"] for entry in entries}


@pytest.fixture
def storage(pod: FakePod) -> Storage:
    """The program on a pod."""
    return Storage(pod)


# Measuring


def test_folders_are_measured_with_all_below_them_and_no_link_is_followed(storage: Storage, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"x" * 5000)
    for path, size in (("data/a/b/deep", 300), ("data/one", 20), ("loose", 1), (".cache/uv/wheel", 50)):
        (storage.volume / path).parent.mkdir(parents=True, exist_ok=True)
        (storage.volume / path).write_bytes(b"x" * size)
    (storage.volume / "data" / "outside").symlink_to(tmp_path)
    (storage.volume / "data" / "file").symlink_to(tmp_path / "outside")
    (storage.volume / "data" / "round").symlink_to(storage.volume)
    os.link(storage.volume / "data/one", storage.volume / "data/one again")
    answer = storage.measure()
    assert (answer["used_bytes"], answer["files"]) == (371, 4)
    assert answer["tree"]["data"] == [2, 320]
    assert answer["tree"][".cache/uv"] == [1, 50]
    assert answer["unreadable"] == []


def test_measured_total_is_written_down_for_status(storage: Storage) -> None:
    (storage.volume / "data").mkdir()
    (storage.volume / "data" / "x").write_bytes(b"x" * 123)
    before = time.time()
    answer = storage.measure()
    noted = json.loads((storage.volume / ".cache/podtasks-usage.json").read_text())
    assert noted == {"used_bytes": 123, "measured_at": answer["measured_at"]}
    assert before <= noted["measured_at"] <= time.time()
    assert os.listdir(storage.volume / ".cache") == ["podtasks-usage.json"]


def test_every_file_of_a_large_flat_folder_and_of_many_folders_is_counted(storage: Storage) -> None:
    flat, deep = storage.volume / "flat", storage.volume / "deep"
    flat.mkdir()
    for number in range(1234):
        (flat / str(number)).write_bytes(b"xy")
    for number in range(300):
        (deep / str(number) / "a").mkdir(parents=True)
        (deep / str(number) / "a" / "f").write_bytes(b"x")
    answer = storage.measure()
    assert answer["tree"]["flat"] == [1234, 2468]
    assert answer["tree"]["deep"] == [300, 300]
    assert answer["files"] == 1534


def test_output_directories_are_found_with_checkpoints_and_archives(storage: Storage) -> None:
    for step in (100, 200, 1000):
        storage.checkpoint(step)
    (storage.out / "checkpoint-1000" / "model.safetensors").write_bytes(b"cut")
    storage.checkpoint(50, storage.volume / "checkpoints" / "digits.archive-20261123-121549")
    write_safetensors(storage.out / "final_model" / "model.safetensors")
    storage.checkpoint(7, storage.volume / "checkpoints" / "deep" / "branch")
    storage.checkpoint(7, storage.volume / "data")
    told = {entry["path"]: entry for entry in storage.measure()["directories"]}
    assert set(told) == {"checkpoints/digits", "checkpoints/deep/branch"}
    digits = told["checkpoints/digits"]
    assert [(entry["path"], entry["step"], entry["keep"]) for entry in digits["checkpoints"]] == [
        (f"checkpoints/digits/checkpoint-{step}", step, None) for step in (1000, 200, 100)
    ]
    assert "model.safetensors" in digits["checkpoints"][0]["why"]
    assert [entry["why"] for entry in digits["checkpoints"][1:]] == [None, None]
    assert digits["archives"] == [
        {"path": "checkpoints/digits.archive-20261123-121549", "is_complete": True, "in_use": False}
    ]


def test_directory_named_by_the_configuration_counts_wherever_links_put_it(storage: Storage) -> None:
    (storage.volume / "demo").mkdir()
    (storage.volume / "demo" / "checkpoints").symlink_to(storage.volume / "checkpoints")
    storage.checkpoint(5)
    (storage.volume / "elsewhere").symlink_to("/")
    answer = storage.measure(roots=[], exact=["demo/checkpoints/digits", "elsewhere/etc", "../..", "none"])
    assert [entry["path"] for entry in answer["directories"]] == ["checkpoints/digits", "none"]


def test_measuring_tells_of_the_run_that_goes_on(storage: Storage) -> None:
    storage.pod.start_guard()
    assert storage.measure()["live"] is None
    lease, _ = storage.pod.prepare()
    assert storage.measure()["is_preparing"]
    lease.close()
    launched = storage.pod.launch(RUNNING)
    storage.pod.wait_for_log(b"begun\n")
    assert storage.measure()["live"] == launched["run_id"]


def test_record_without_end_is_a_run_that_goes_on_only_where_another_pod_may_have_it(storage: Storage) -> None:
    storage.record("digits-1", ended=False)
    assert storage.measure()["live"] is None
    assert storage.measure(other_pods=True)["live"] == "digits-1"


def test_run_that_goes_on_is_seen_behind_a_newer_one_of_another_project(storage: Storage) -> None:
    (storage.volume / ".cache/huggingface/hub/models").mkdir(parents=True)
    storage.record("digits-1", ended=False, age_s=7200, launched_at=time.time() - 7200)
    storage.record("other-2", age_s=60)
    answer = storage.clean(("cache", ".cache/huggingface/hub"), other_pods=True)
    assert answer["left"] == {".cache/huggingface/hub": "a run goes on"}


def test_record_without_end_counts_no_longer_than_its_hours(storage: Storage) -> None:
    storage.record("digits-1", ended=False, age_s=7200, launched_at=time.time() - 7200, max_hours=0.5)
    storage.record("other-2", age_s=60)
    assert storage.measure(other_pods=True)["live"] is None


# Cleaning


def test_old_checkpoint_goes_and_nothing_else(storage: Storage) -> None:
    for step in (100, 200, 300):
        storage.checkpoint(step)
    write_safetensors(storage.out / "final_model" / "model.safetensors")
    answer = storage.clean(("checkpoint", "checkpoints/digits/checkpoint-100"))
    assert answer == {"deleted": ["checkpoints/digits/checkpoint-100"], "left": {}, "failed": {}}
    assert storage.steps() == ["checkpoint-200", "checkpoint-300", "final_model"]


def test_checkpoint_that_became_the_newest_complete_one_is_left(storage: Storage) -> None:
    storage.checkpoint(100)
    storage.checkpoint(200)
    (storage.out / "checkpoint-200" / "model.safetensors").write_bytes(b"cut")
    answer = storage.clean(("checkpoint", "checkpoints/digits/checkpoint-100"))
    assert answer["left"] == {
        "checkpoints/digits/checkpoint-100": "it is among the newest complete ones by now"
    }
    assert storage.steps() == ["checkpoint-100", "checkpoint-200"]


def test_as_many_are_kept_as_asked(storage: Storage) -> None:
    for step in (100, 200, 300, 400):
        storage.checkpoint(step)
    (storage.out / "checkpoint-200" / "model.safetensors").write_bytes(b"cut")
    items = [("checkpoint", f"checkpoints/digits/checkpoint-{step}") for step in (100, 200, 300)]
    answer = storage.clean(*items, keep=2)
    assert answer["deleted"] == ["checkpoints/digits/checkpoint-100", "checkpoints/digits/checkpoint-200"]
    assert storage.steps() == ["checkpoint-300", "checkpoint-400"]


def test_incomplete_checkpoint_goes_only_below_a_complete_one(storage: Storage) -> None:
    storage.checkpoint(100)
    (storage.out / "checkpoint-200").mkdir()
    (storage.out / "checkpoint-50").mkdir()
    items = [("checkpoint", f"checkpoints/digits/checkpoint-{step}") for step in (50, 200)]
    answer = storage.clean(*items)
    assert answer["deleted"] == ["checkpoints/digits/checkpoint-50"]
    assert answer["left"] == {"checkpoints/digits/checkpoint-200": "no newer one is complete"}


def test_checkpoint_that_holds_no_known_format_goes_as_training_would_resume_from_it(storage: Storage) -> None:
    for step in (1, 2):
        (storage.out / f"checkpoint-{step}").mkdir(parents=True)
        (storage.out / f"checkpoint-{step}" / "state.json").write_text('{"step": 1}')
    older = "checkpoints/digits/checkpoint-1"
    wide = {"pattern": "*", "exact": ["checkpoints/digits"]}
    assert storage.clean(("checkpoint", older), **wide)["left"] == {older: "it does not look like a checkpoint"}
    assert storage.clean(("checkpoint", older))["deleted"] == [older]


def make_link(storage: Storage) -> str:
    (storage.out / "checkpoint-50").symlink_to(storage.checkpoint(60, storage.volume / "data"))
    return "checkpoints/digits/checkpoint-50"


def make_linked(storage: Storage) -> str:
    storage.checkpoint(50)
    (storage.out / "best").symlink_to("checkpoint-50")
    return "checkpoints/digits/checkpoint-50"


def make_best(storage: Storage) -> str:
    storage.checkpoint(50)
    state = storage.out / "checkpoint-900" / "trainer_state.json"
    told = json.loads(state.read_text())
    state.write_text(json.dumps({**told, "best_model_checkpoint": "checkpoints/digits/checkpoint-50"}))
    return "checkpoints/digits/checkpoint-50"


def make_notes(storage: Storage) -> str:
    (storage.out / "checkpoint-50").mkdir()
    (storage.out / "checkpoint-50" / "README.md").write_text("mine")
    return "checkpoints/digits/checkpoint-50"


def make_output_directory(storage: Storage) -> str:
    storage.checkpoint(8, storage.out / "checkpoint-50")
    return "checkpoints/digits/checkpoint-50"


def make_final(storage: Storage) -> str:
    storage.request.update(pattern="*", exact=["checkpoints/digits"])
    write_trainer(storage.out / "final_model", 50)
    return "checkpoints/digits/final_model"


def make_stranger(storage: Storage) -> str:
    storage.checkpoint(50, storage.volume / "data")
    return "data/checkpoint-50"


def make_way_out(storage: Storage) -> str:
    storage.checkpoint(50, storage.volume.parent / "away")
    (storage.out / "away").symlink_to(storage.volume.parent / "away")
    return "checkpoints/digits/away/checkpoint-50"


def make_dots(storage: Storage) -> str:
    storage.checkpoint(50, storage.volume.parent / "away")
    return "checkpoints/digits/../../../away/checkpoint-50"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (make_link, "it is behind a link"),
        (make_linked, "the link best leads to it"),
        (make_best, "it is the best one so far"),
        (make_notes, "it does not look like a checkpoint"),
        (make_output_directory, "it does not look like a checkpoint"),
        (make_final, "it is the final model"),
        (make_stranger, "it is in no output directory"),
        (make_way_out, "it is behind a link"),
        (make_dots, "it is behind a link"),
    ],
)
def test_what_must_stay_is_left_whatever_the_plan_says(
    storage: Storage, make: Callable[[Storage], str], why: str
) -> None:
    storage.checkpoint(900)
    path = make(storage)
    for kind in ("checkpoint", "archive", "cache", "log", "leftover"):
        answer = storage.clean((kind, path))
        assert (answer["deleted"], answer["failed"]) == ([], {})
        assert kind != "checkpoint" or answer["left"] == {path: why}
    assert (storage.volume / path).exists()


def test_archive_goes_but_not_the_last_complete_checkpoint(storage: Storage) -> None:
    older, newer = (f"checkpoints/digits.archive-2026112{day}-121549" for day in (1, 2))
    for archive in (older, newer):
        storage.checkpoint(70, storage.volume / archive)
    (storage.out / "checkpoint-5").mkdir(parents=True)
    answer = storage.clean(("archive", older), ("archive", newer))
    assert answer["deleted"] == [older]
    assert answer["left"] == {newer: "it holds the only complete checkpoint"}
    storage.checkpoint(5)
    assert storage.clean(("archive", newer))["deleted"] == [newer]


def test_folder_that_only_has_the_name_of_an_archive_is_left(storage: Storage) -> None:
    path = "data/songs.archive-20261121-121549"
    (storage.volume / path).mkdir(parents=True)
    assert storage.clean(("archive", path))["left"] == {path: "it is no archive of an output directory"}


def test_cache_goes_and_the_login_token_stays(storage: Storage) -> None:
    home = storage.volume / ".cache/huggingface"
    for path in ("hub/models--x/blobs/1", "datasets/y", "accelerate/default_config.yaml", "token"):
        (home / path).parent.mkdir(parents=True, exist_ok=True)
        (home / path).write_text("x")
    names = ("hub", "datasets", "accelerate", "token")
    answer = storage.clean(*(("cache", f".cache/huggingface/{name}") for name in names))
    assert answer["deleted"] == [".cache/huggingface/hub", ".cache/huggingface/datasets"]
    assert sorted(os.listdir(home)) == ["accelerate", "token"]


def test_logs_of_the_newest_runs_stay(storage: Storage) -> None:
    for number in range(4):
        storage.record(f"digits-{number}", age_s=number * 60)
    storage.record("digits-lost", ended=False, age_s=9000)
    (storage.volume / "logs").mkdir()
    for name in ("current.log", "current.log.1", "current.log-20261101"):
        (storage.volume / "logs" / name).write_text("x")
    logs = storage.measure()["logs"]
    assert [log["path"] for log in logs][:3] == [f"runs/digits-{number}/output.log" for number in range(3)]
    paths = [*(log["path"] for log in logs), "logs/current.log", "runs/digits-3/run.json"]
    answer = storage.clean(*(("log", path) for path in paths))
    assert answer["deleted"] == [
        *("runs/digits-2/output.log", "runs/digits-3/output.log"),
        *("logs/current.log-20261101", "logs/current.log.1"),
    ]
    assert answer["left"]["logs/current.log"] == "it is no log of a run"
    assert answer["left"]["runs/digits-0/output.log"] == "it is among the newest"
    assert answer["left"]["runs/digits-lost/output.log"] == "its run goes on"


def test_live_run_keeps_what_it_needs(storage: Storage) -> None:
    for step in (100, 200):
        storage.checkpoint(step)
    archive = "checkpoints/digits.archive-20261121-121549"
    began = storage.checkpoint(70, storage.volume / archive)
    (storage.volume / ".cache/huggingface/hub").mkdir(parents=True)
    storage.pod.start_guard()
    launched = storage.pod.launch(RUNNING, checkpoint={"path": str(began), "step": 70})
    storage.pod.wait_for_log(b"begun\n")
    items = [
        ("archive", archive),
        ("cache", ".cache/huggingface/hub"),
        ("checkpoint", "checkpoints/digits/checkpoint-100"),
        ("log", f"runs/{launched['run_id']}/output.log"),
    ]
    answer = storage.clean(*items)
    assert answer["deleted"] == ["checkpoints/digits/checkpoint-100"]
    assert answer["left"][archive] == "the run that goes on began from it"
    assert answer["left"][".cache/huggingface/hub"] == "a run goes on"


def test_nothing_is_deleted_while_a_launch_is_being_prepared(storage: Storage) -> None:
    storage.checkpoint(100)
    storage.checkpoint(200)
    storage.pod.start_guard()
    lease, _ = storage.pod.prepare()
    items = [{"kind": "checkpoint", "path": "checkpoints/digits/checkpoint-100"}]
    code, answer = storage.pod.run_program("storage.py", {**storage.request, "op": "clean", "items": items})
    assert code == 20 and "being prepared" in answer["error"]
    assert storage.steps() == ["checkpoint-100", "checkpoint-200"]
    lease.close()


def test_killed_clean_leaves_no_half_checkpoint_and_the_next_takes_the_rest(storage: Storage) -> None:
    storage.checkpoint(100)
    storage.checkpoint(200)
    kit = storage.pod.copy_kit()
    # As a kill in the middle would leave it: set aside, and nothing deleted yet.
    program = (kit / "volume_clean.py").read_text()
    (kit / "volume_clean.py").write_text(program.replace("shutil.rmtree(absolute)", "os._exit(9)"))
    process = storage.pod.start_program(
        "storage.py",
        {
            **storage.request,
            "op": "clean",
            "items": [{"kind": "checkpoint", "path": "checkpoints/digits/checkpoint-100"}],
        },
    )
    assert process.wait(timeout=30) == 9
    assert storage.steps() == [".deleting-checkpoint-100", "checkpoint-200"]
    (kit / "volume_clean.py").write_text(program)
    leftovers = storage.measure()["leftovers"]
    assert leftovers == ["checkpoints/digits/.deleting-checkpoint-100"]
    assert storage.clean(*(("leftover", path) for path in leftovers))["deleted"] == leftovers
    assert storage.steps() == ["checkpoint-200"]


def test_an_interrupted_upload_is_a_leftover_wherever_it_lies(storage: Storage) -> None:
    partial = storage.volume / "data/audio/.rsync-partial"
    partial.mkdir(parents=True)
    (partial / "half").write_bytes(b"x" * 100)
    found = storage.measure()
    assert (found["leftovers"], found["tree"]["data/audio/.rsync-partial"]) == (
        ["data/audio/.rsync-partial"],
        [1, 100],
    )
    assert storage.clean(("leftover", "data/audio/.rsync-partial"))["deleted"] == ["data/audio/.rsync-partial"]
    assert not partial.exists() and partial.parent.exists()
    assert storage.clean(("leftover", "data/audio"))["deleted"] == []


def test_what_cannot_be_deleted_is_named(storage: Storage) -> None:
    for step in (50, 100, 200):
        storage.checkpoint(step)
    kit = storage.pod.copy_kit()
    program = (kit / "volume_clean.py").read_text()
    refusal = "if '100' in absolute: raise PermissionError(1, 'Operation not permitted', absolute)"
    deletion = "            shutil.rmtree(absolute)"
    broken = program.replace(deletion, f"            {refusal}\n{deletion}")
    assert broken != program
    (kit / "volume_clean.py").write_text(broken)
    answer = storage.clean(*(("checkpoint", f"checkpoints/digits/checkpoint-{step}") for step in (100, 50)))
    assert answer["deleted"] == ["checkpoints/digits/checkpoint-50"], "the others go all the same"
    assert answer["failed"]["checkpoints/digits/checkpoint-100"].endswith(
        ".deleting-checkpoint-100: Operation not permitted"
    )


def test_hostile_names_are_only_names(storage: Storage) -> None:
    folder = storage.volume / "checkpoints" / HOSTILE
    for step in (1, 2):
        storage.checkpoint(step, folder)
    (told,) = storage.measure()["directories"]
    assert told["path"] == f"checkpoints/{HOSTILE}"
    path = told["checkpoints"][1]["path"]
    assert storage.clean(("checkpoint", path))["deleted"] == [path]
    assert os.listdir(folder) == ["checkpoint-2"]
