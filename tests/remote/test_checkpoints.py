"""find_checkpoint.py, run as the client runs it, on checkpoints of every kind and state."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).parents[2] / "remote" / "find_checkpoint.py"
HOSTILE = "a b'c\"d;$(touch pwned)[x]*\nline"
LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def run(
    clone: Path, directory: str = "out", pattern: str = "checkpoint-*", resume_from: str | None = None
) -> tuple[int, dict[str, Any]]:
    return ask({"clone": str(clone), "directory": directory, "pattern": pattern, "resume_from": resume_from})


def ask(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM)],
        input=json.dumps(request) + "\n",
        capture_output=True,
        text=True,
        env={**os.environ, "PODTASKS_VOLUME": os.path.dirname(request["clone"])},
        check=False,
    )
    assert done.returncode in (0, 20), done.stderr
    (line,) = done.stdout.splitlines()
    return done.returncode, json.loads(line)


def found(clone: Path, **request: str) -> tuple[str | None, int | None]:
    """Return the found checkpoint's path inside the output directory, and its step."""
    code, answer = run(clone, **request)
    assert code == 0, answer
    entry = answer["found"]
    return (os.path.relpath(entry["path"], clone / "out"), entry["step"]) if entry else (None, None)


def skipped(clone: Path, **request: str) -> dict[str, str]:
    _, answer = run(clone, **request)
    return {os.path.basename(entry["path"]): entry["why"] for entry in answer["skipped"]}


def write_safetensors(path: Path, data_bytes: int = 64) -> Path:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "weight": {"dtype": "U8", "shape": [data_bytes], "data_offsets": [0, data_bytes]},
        }
    ).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + data_bytes)  # sparse: no byte of it on the disk
    return path


def write_torch(path: Path, data_bytes: int = 2000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/data/0", os.urandom(data_bytes))
    return path


def write_trainer(folder: Path, step: int, weights: str = "model.safetensors") -> Path:
    write_safetensors(folder / weights)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        write_torch(folder / name)
    (folder / "config.json").write_text("{}")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    return folder


def cut(path: Path, by: int = 10) -> None:
    os.truncate(path, path.stat().st_size - by)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    path = tmp_path / "clone"
    (path / "out").mkdir(parents=True)
    return path


@pytest.fixture
def out(clone: Path) -> Path:
    return clone / "out"


def test_nothing_there_is_nothing_found(clone: Path) -> None:
    assert run(clone) == (0, {"found": None, "skipped": []})
    assert run(clone, directory="not/there") == (0, {"found": None, "skipped": []})


def test_highest_step_wins_whatever_its_age_or_spelling(clone: Path, out: Path) -> None:
    for step in (1000, 200, 999):
        write_trainer(out / f"checkpoint-{step}", step)
    os.utime(out / "checkpoint-1000", (1, 1))
    assert found(clone) == ("checkpoint-1000", 1000)


def test_absolute_directory_and_hostile_names_work(clone: Path, tmp_path: Path) -> None:
    directory = tmp_path / HOSTILE
    write_trainer(directory / f"checkpoint-{HOSTILE}-7", 7)
    code, answer = run(clone, directory=str(directory))
    assert (code, answer["found"]) == (0, {"path": str(directory / f"checkpoint-{HOSTILE}-7"), "step": 7})
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("name", "step"),
    [
        ("checkpoint-200", 200),
        ("epoch=3-step=1000.ckpt", 1000),
        ("step=1000-epoch=3.ckpt", 1000),
        ("epoch=3-val_loss=0.12.ckpt", 3),
        ("global_step500", 500),
        ("Step_12.pt", 12),
        ("ckpt_0300.pt", 300),
        ("400", 400),
        ("model-v2.ckpt", None),
        ("whisper2-small.pt", None),
        ("last.ckpt", None),
        ("ckpt.pt", None),
    ],
)
def test_step_comes_from_the_name(clone: Path, out: Path, name: str, step: int | None) -> None:
    write_torch(out / name / "weights.pt") if "." not in name else write_torch(out / name)
    assert found(clone, pattern="*") == (name, step)


def test_step_comes_from_the_folder_or_from_trainer_state(clone: Path, out: Path) -> None:
    write_torch(out / "step-5" / "model.pt")
    write_torch(out / "step-40" / "model.pt")
    assert found(clone, pattern="*/model.pt") == ("step-40/model.pt", 40)
    write_trainer(out / "best", 77)
    assert found(clone, pattern="best") == ("best", 77)


def test_numbered_ones_come_before_newer_ones_without_a_number(clone: Path, out: Path) -> None:
    write_torch(out / "step=10.ckpt")
    write_torch(out / "last.ckpt")
    assert found(clone, pattern="*.ckpt") == ("step=10.ckpt", 10)
    (out / "step=10.ckpt").unlink()
    write_torch(out / "older.ckpt")
    os.utime(out / "older.ckpt", (1, 1))
    assert found(clone, pattern="*.ckpt") == ("last.ckpt", None)


def spoil_weights(folder: Path) -> None:
    cut(folder / "model.safetensors")


def spoil_header(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 12)


def garble_header(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[8:12] = b"\xff\xff\xff\xff"
    (folder / "model.safetensors").write_bytes(data)


def append_to_weights(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as file:
        file.write(b"x")


def empty_optimizer(folder: Path) -> None:
    os.truncate(folder / "optimizer.pt", 0)


def cut_optimizer(folder: Path) -> None:
    cut(folder / "optimizer.pt")


def zero_optimizer(folder: Path) -> None:
    (folder / "optimizer.pt").write_bytes(bytes(5000))


def remove_state(folder: Path) -> None:
    (folder / "trainer_state.json").unlink()


def cut_state(folder: Path) -> None:
    (folder / "trainer_state.json").write_text('{"global_step": 3')


def list_state(folder: Path) -> None:
    (folder / "trainer_state.json").write_text("[]")


def other_step(folder: Path) -> None:
    (folder / "trainer_state.json").write_text('{"global_step": 299}')


def remove_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def lose_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def garble_index(folder: Path) -> None:
    (folder / "model.safetensors.index.json").write_text("{")


def leave_temporary(folder: Path) -> None:
    (folder / "model.safetensors.tmp").write_text("x")


def lose_deepspeed(folder: Path) -> None:
    (folder / "latest").write_text("global_step300")


def make_shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    write_safetensors(folder / "model-00002-of-00002.safetensors")


def lose_shard_and_index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


def remove_optimizer(folder: Path) -> None:
    (folder / "optimizer.pt").unlink()


def change_shape(folder: Path) -> None:
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights.replace(b'"shape": [64]', b'"shape": [65]'))


def nest_deeply(folder: Path) -> None:
    header = b"[" * 100_000
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)


def make_state_a_pipe(folder: Path) -> None:
    (folder / "trainer_state.json").unlink()
    os.mkfifo(folder / "trainer_state.json")


def make_index_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "model.safetensors.index.json")


def make_latest_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "latest")


def loop(folder: Path) -> None:
    (folder / "optimizer.pt").unlink()
    (folder / "optimizer.pt").symlink_to("optimizer.pt")


def make_pipe(folder: Path) -> None:
    (folder / "optimizer.pt").unlink()
    os.mkfifo(folder / "optimizer.pt")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (spoil_weights, "holds model.safetensors, which is cut off"),
        (spoil_header, "cut off in its header"),
        (garble_header, "unreadable header"),
        (append_to_weights, "too long"),
        (empty_optimizer, "holds optimizer.pt, which is empty"),
        (cut_optimizer, "the directory at its end is missing"),
        (zero_optimizer, "begins with zeros"),
        (remove_state, "has no trainer_state.json"),
        (cut_state, "trainer_state.json that cannot be read"),
        (list_state, "trainer_state.json that cannot be read"),
        (other_step, "its trainer_state.json is of step 299"),
        (remove_weights, "holds no weights"),
        (lose_shard, "lacks model-00002-of-00002.safetensors"),
        (garble_index, "model.safetensors.index.json that cannot be read"),
        (leave_temporary, "left by an unfinished save"),
        (lose_deepspeed, "lacks the folder global_step300"),
        (make_shards, "lacks the index of model.safetensors"),
        (lose_shard_and_index, "lacks part 00002 of the 00002 of model.safetensors"),
        (remove_optimizer, "but no optimizer"),
        (change_shape, "unreadable header"),
        (nest_deeply, "unreadable header"),
        (make_state_a_pipe, "trainer_state.json that cannot be read"),
        (make_index_a_pipe, "model.safetensors.index.json that cannot be read"),
        (make_latest_a_pipe, "cannot be read"),
        (loop, "cannot be read"),
        (make_pipe, "no ordinary file"),
    ],
)
def test_incomplete_trainer_checkpoint_is_skipped_with_its_reason(
    clone: Path, out: Path, spoil: Callable[[Path], None], why: str
) -> None:
    write_trainer(out / "checkpoint-200", 200)
    write_trainer(out / "checkpoint-300", 300)
    assert found(clone) == ("checkpoint-300", 300)
    spoil(out / "checkpoint-300")
    assert found(clone) == ("checkpoint-200", 200)
    assert why in skipped(clone)["checkpoint-300"]


def test_every_newer_incomplete_one_is_named(clone: Path, out: Path) -> None:
    for step in (100, 200, 300):
        write_trainer(out / f"checkpoint-{step}", step)
    cut_state(out / "checkpoint-300")
    spoil_weights(out / "checkpoint-200")
    assert sorted(skipped(clone)) == ["checkpoint-200", "checkpoint-300"]
    assert found(clone) == ("checkpoint-100", 100)


def test_first_save_cut_short_is_skipped_with_nothing_to_compare(clone: Path, out: Path) -> None:
    remove_state(write_trainer(out / "checkpoint-100", 100))
    assert found(clone) == (None, None)
    assert "cut short" in skipped(clone)["checkpoint-100"]


def test_save_without_state_is_skipped_where_others_have_one(clone: Path, out: Path) -> None:
    write_trainer(out / "checkpoint-100", 100)
    write_safetensors(out / "checkpoint-200" / "model.safetensors")
    assert found(clone) == ("checkpoint-100", 100)


@pytest.mark.parametrize(
    "weights",
    [
        "adapter_model.safetensors",
        "pytorch_model.bin",
        "global_step5/mp_rank_00_model_states.pt",
        "pytorch_model_fsdp_0/__0_0.distcp",
        "encoder/own format.weights",
    ],
)
def test_whole_but_exotic_trainer_folders_are_accepted(clone: Path, out: Path, weights: str) -> None:
    folder = write_trainer(out / "checkpoint-5", 5)
    (folder / "model.safetensors").unlink()
    (write_safetensors if weights.endswith("safetensors") else write_torch)(folder / weights)
    (folder / "latest").write_text("global_step5" if weights.startswith("global") else "something else")
    (folder / "empty.txt").write_text("")
    assert found(clone) == ("checkpoint-5", 5)


def test_sharded_weights_that_are_all_there_are_accepted(clone: Path, out: Path) -> None:
    folder = write_trainer(out / "checkpoint-5", 5)
    lose_shard(folder)
    write_safetensors(folder / "model-00002-of-00002.safetensors")
    assert found(clone) == ("checkpoint-5", 5)


def test_plain_folders_are_judged_by_what_they_hold(clone: Path, out: Path) -> None:
    write_torch(out / "checkpoint-1" / "unet" / "weights.pt")
    (out / "checkpoint-2" / "empty folder").mkdir(parents=True)
    (out / "checkpoint-3").mkdir()
    (out / "checkpoint-3" / "notes").write_text("")
    cut(write_torch(out / "checkpoint-4" / "unet" / "weights.pt"))
    write_torch(out / "checkpoint-5" / "tmp-save" / "x.pt.part")
    write_torch(out / "checkpoint-6.tmp" / "x.pt")
    reasons = skipped(clone)
    assert found(clone) == ("checkpoint-1", 1)
    assert "empty folder" in reasons["checkpoint-2"] and "only empty files" in reasons["checkpoint-3"]
    assert "unet/weights.pt" in reasons["checkpoint-4"] and "unfinished" in reasons["checkpoint-5"]
    assert "name of an unfinished save" in reasons["checkpoint-6.tmp"]


def write_legacy_torch(path: Path) -> None:
    path.write_bytes(LEGACY_TORCH + b"pickles" + os.urandom(100) + b"\0")


def write_zip64(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            member.write(b"x" * 100)
        for number in range(70_000):
            archive.writestr(zipfile.ZipInfo(f"{number}"), b"")


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("step-1.pt", write_torch),
        ("step-1.pth", write_legacy_torch),
        ("step-1.ckpt", lambda path: path.write_bytes(pickle.dumps({"a": 1}))),
        ("step-1.bin", lambda path: path.write_bytes(b"ggml of its own")),
        ("step-1.safetensors", write_safetensors),
        ("step-1.weights", lambda path: path.write_bytes(b"x")),
        ("step-1.pt", write_zip64),
    ],
)
def test_whole_single_files_are_found(clone: Path, out: Path, name: str, write: Callable[[Path], object]) -> None:
    write(out / name)
    assert found(clone, pattern="step-*") == (name, 1)


def test_broken_single_files_are_skipped(clone: Path, out: Path) -> None:
    (out / "step-1.ckpt").write_bytes(pickle.dumps(list(range(100)))[:-1])
    (out / "step-2.weights").write_bytes(b"")
    (out / "step-3.pt").write_bytes(b"PK\x03\x04")
    (out / "step-4.pt").write_bytes(write_torch(out / "whole").read_bytes() + bytes(100))
    (out / "step-5.pt").write_bytes(b"PK\x03\x04" + write_torch(out / "whole").read_bytes())
    (out / "step-6.pt").symlink_to("nowhere")
    (out / "step-7.safetensors").write_bytes(b"\x05")
    (out / "step-8.safetensors").write_bytes((2).to_bytes(8, "little") + b"[]")
    whole = (out / "whole").read_bytes()
    (out / "step-9.pt").write_bytes(whole[:-22].replace(b"PK\x01\x02", b"PKxx") + whole[-22:])
    reasons = skipped(clone, pattern="step-*")
    assert len(reasons) == 9 and "link to nothing" in reasons["step-6.pt"]
    assert found(clone, pattern="step-*") == (None, None)


def test_link_to_a_checkpoint_elsewhere_is_followed(clone: Path, out: Path, tmp_path: Path) -> None:
    write_trainer(tmp_path / "elsewhere", 9)
    (out / "checkpoint-9").symlink_to(tmp_path / "elsewhere")
    (out / "checkpoint-9" / "self").symlink_to(out)
    assert found(clone) == ("checkpoint-9", 9)


@pytest.mark.parametrize("pattern", ["/etc/*", "../*", "", "x/../../*"])
def test_pattern_that_leads_outside_is_refused(clone: Path, pattern: str) -> None:
    code, answer = run(clone, pattern=pattern)
    assert code == 20 and "pattern" in answer["detail"]


def test_directory_that_cannot_be_listed_is_not_taken_for_empty(clone: Path) -> None:
    (clone / "file").write_text("")
    code, answer = run(clone, directory="file")
    assert code == 20 and "Not a directory" in answer["detail"]


@pytest.mark.parametrize("base", ["clone", "output", "volume", "absolute"])
def test_resume_from_is_found_under_each_base(clone: Path, out: Path, tmp_path: Path, base: str) -> None:
    folder = {"clone": clone, "output": out, "volume": tmp_path, "absolute": tmp_path / "x"}[base] / HOSTILE
    write_trainer(folder, 12)
    wanted = str(folder) if base == "absolute" else HOSTILE
    assert run(clone, resume_from=wanted) == (0, {"found": {"path": str(folder), "step": 12}, "skipped": []})


def test_checkpoints_behind_a_link_that_is_still_to_be_made_are_found(clone: Path, tmp_path: Path) -> None:
    folder = write_trainer(tmp_path / "kept" / "whisper" / "checkpoint-8", 8)
    links = {"out": "elsewhere", "checkpoints": "kept", "check": "x"}
    request = {"clone": str(clone), "directory": "checkpoints/whisper", "pattern": "checkpoint-*", "links": links}
    assert ask(request)[1]["found"] == {"path": str(folder), "step": 8}
    (clone / "checkpoints").symlink_to(tmp_path / "kept")
    assert ask(request)[1]["found"] == {"path": f"{clone}/checkpoints/whisper/checkpoint-8", "step": 8}


def test_resume_from_an_older_checkpoint_is_obeyed(clone: Path, out: Path) -> None:
    for step in (100, 200):
        write_trainer(out / f"checkpoint-{step}", step)
    assert found(clone, resume_from="checkpoint-100") == ("checkpoint-100", 100)


def test_resume_from_something_unusable_is_refused(clone: Path, out: Path) -> None:
    code, answer = run(clone, resume_from="checkpoint-1")
    assert code == 20 and "There is no checkpoint 'checkpoint-1'" in answer["error"]
    assert str(out / "checkpoint-1") in answer["detail"]
    spoil_weights(write_trainer(out / "checkpoint-1", 1))
    code, answer = run(clone, resume_from="checkpoint-1")
    assert code == 20 and "is not complete" in answer["error"] and "cut off" in answer["detail"]
    write_trainer(out / "checkpoint-2", 2)
    code, answer = run(clone, resume_from="out")
    assert code == 20 and "folder of checkpoints" in answer["error"]
    assert answer["detail"].endswith("checkpoint-2.")


def test_fifty_checkpoints_of_100_gb_take_no_time(clone: Path, out: Path) -> None:
    for number in range(1, 51):
        folder = write_trainer(out / f"checkpoint-{number}", number)
        write_safetensors(folder / "model.safetensors", 2 * 10**9)
        if number > 1:
            (folder / "optimizer.pt").write_bytes(b"PK")  # so that each of them is looked at
    start = time.monotonic()
    assert found(clone) == ("checkpoint-1", 1)
    assert time.monotonic() - start < 1.0  # 0.1 s here; a loaded machine gets ten times that


@pytest.mark.parametrize("kept", [1, 9, 20])
@pytest.mark.parametrize("name", ["config.json", "rng_state.json"])
def test_json_file_cut_anywhere_makes_a_checkpoint_incomplete(clone: Path, out: Path, name: str, kept: int) -> None:
    text = json.dumps({"vocab_size": 12, "words": ["a", "b"]})
    for step in (1, 2):
        write_trainer(out / f"checkpoint-{step}", step)
        (out / f"checkpoint-{step}" / name).write_text(text)
    (out / "checkpoint-2" / name).write_text(text[:kept])
    best, number = found(clone)
    assert (best, number) == ("checkpoint-1", 1)
    assert [name in why and "JSON" in why for why in skipped(clone).values()] == [True]
