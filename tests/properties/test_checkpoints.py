"""Checkpoint folders of Hugging Face's Trainer with any weights: whole, then with one file spoilt in one way."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import checkpoints
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.properties import checkpoint_formats as formats
from tests.properties.hostile import DEEP, JSON, NAMES, WORDS, files
from tests.properties.profile import examples

OLDER, NEWER = 100, 200
STEPS = st.integers(0, 10**9)
STATE = "trainer_state.json"
# What a resume needs, and what says itself that another file must be there.
BESIDE = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
# That these were there once, nothing says.
UNKNOWN = ("config.json", "rng_state.pth", "training_args.bin", "scheduler.pt")
PATIENCE_S = 20.0


@st.composite
def folders(draw: st.DrawFn) -> dict[str, bytes]:
    """Return the files of a whole checkpoint, but for its trainer_state.json."""
    content = {name: formats.write_zip({"archive/data.pkl": b"\x80\x02}."}, is_zip64=True) for name in BESIDE}
    content["config.json"] = b"{}"
    ending = draw(st.sampled_from([".safetensors", ".bin"]))
    stem = "model" if ending == ".safetensors" else "pytorch_model"
    count = draw(st.integers(1, 3))
    weights = [draw(_weights(ending)) for _ in range(count)]
    if count == 1:
        return {**content, f"{stem}{ending}": weights[0]}
    # Numbered parts tell how many there are; of others only the index does.
    name_of = f"{stem}-{{:05}}-of-{count:05}{ending}" if draw(st.booleans()) else f"part {{}}{ending}"
    shards = {name_of.format(number + 1): data for number, data in enumerate(weights)}
    places = {f"layer.{number}": name for number, name in enumerate(shards)}
    index = {"metadata": {"total_size": 1}, "weight_map": places}
    return {**content, **shards, f"{stem}{ending}.index.json": json.dumps(index).encode()}


def _weights(ending: str) -> st.SearchStrategy[bytes]:
    if ending == ".safetensors":
        return st.builds(formats.write_safetensors, formats.TENSORS, formats.METADATA, st.integers(0, 8))
    return st.builds(lambda entries: formats.write_zip({"data.pkl": b".", **entries}, is_zip64=True), formats.ENTRIES)


def write_checkpoint(output: Path, step: int, content: Mapping[str, bytes]) -> Path:
    """Write a checkpoint as the Trainer does, its state last."""
    folder = output / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    (folder / STATE).write_text(json.dumps({"global_step": step, "max_steps": 1000, "log_history": []}))
    return folder


def in_time(question: Callable[[], object]) -> object:
    """Return the answer to a question that must not wait for anybody."""
    answers: list[object] = []
    thread = threading.Thread(target=lambda: answers.append(question()), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert answers, "it hangs, or failed"
    return answers[0]


def newest_step(output: Path) -> int | None:
    """Return the step from which a training would resume."""
    found, _ = checkpoints.find_newest(str(output), "checkpoint-*")
    return found.step if found else None


@examples(15)
@given(folders(), STEPS, STEPS)
def test_whole_checkpoints_are_found_by_the_highest_step(content: dict[str, bytes], one: int, other: int) -> None:
    with tempfile.TemporaryDirectory() as root:
        for step in {one, other}:
            write_checkpoint(Path(root), step, content)
        assert checkpoints.find_newest(root, "checkpoint-*")[1] == []
        assert newest_step(Path(root)) == max(one, other)


def remove(path: Path) -> None:
    path.unlink()


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name + " that is not there")


def make_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def make_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_zeros(path: Path) -> None:
    """Leave what a crash leaves of a file whose length was written and whose content was not."""
    path.write_bytes(b"\0" * path.stat().st_size)


SPOIL = (remove, make_folder, make_pipe, make_dangling, make_loop, make_device, make_empty, make_zeros)


def _known(content: Mapping[str, bytes]) -> list[str]:
    """Return the files whose loss the others tell of; of parts without numbers that is the index alone."""
    is_numbered = not any(name.startswith("part ") for name in content)
    return [name for name in content if name not in UNKNOWN and (is_numbered or not name.endswith(".index.json"))]


@pytest.mark.parametrize("spoil", SPOIL)
@examples(4)
@given(folders())
def test_checkpoint_with_one_file_spoilt_is_passed_over(
    spoil: Callable[[Path], None], content: dict[str, bytes]
) -> None:
    with tempfile.TemporaryDirectory() as root:
        write_checkpoint(Path(root), OLDER, content)
        for name in [*_known(content), STATE]:
            folder = write_checkpoint(Path(root), NEWER, content)
            spoil(folder / name)
            assert in_time(lambda: newest_step(Path(root))) == OLDER, name
            shutil.rmtree(folder)


@examples(20)
@given(st.integers(2, 5), st.sampled_from([".safetensors", ".bin"]), st.data())
def test_weights_in_parts_are_whole_once_their_index_is_written(count: int, ending: str, data: st.DataObject) -> None:
    parts = [f"model-{number:05}-of-{count:05}{ending}" for number in range(1, count + 1)]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / f"checkpoint-{NEWER}"
        folder.mkdir()
        for name in parts[: data.draw(st.integers(1, count))]:
            (folder / name).write_bytes(data.draw(_weights(ending)))
            assert newest_step(Path(root)) is None
        for name in parts:
            (folder / name).write_bytes(data.draw(_weights(ending)))
        index = folder / f"model{ending}.index.json"
        index.write_text(json.dumps({"weight_map": dict(enumerate(parts))}))
        assert newest_step(Path(root)) == NEWER
        (folder / data.draw(st.sampled_from(parts))).unlink()
        assert newest_step(Path(root)) is None
        index.unlink()
        assert newest_step(Path(root)) is None


@examples(40)
@given(folders(), st.data())
def test_checkpoint_with_one_file_cut_at_any_byte_is_passed_over(
    content: dict[str, bytes], data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as root:
        write_checkpoint(Path(root), OLDER, content)
        folder = write_checkpoint(Path(root), NEWER, content)
        path = folder / data.draw(st.sampled_from(sorted(os.listdir(folder))))
        # Of one byte of a torch file nobody can tell what it was.
        least = 2 if path.suffix in (".pt", ".pth", ".bin") else 0
        os.truncate(path, data.draw(st.integers(least, path.stat().st_size - 1)))
        assert newest_step(Path(root)) == OLDER, path.name


@examples(40)
@given(folders(), st.integers(0, 30))
def test_checkpoint_whose_save_was_killed_between_two_files_is_passed_over(
    content: dict[str, bytes], written: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        write_checkpoint(Path(root), OLDER, content)
        folder = Path(root) / f"checkpoint-{NEWER}"
        folder.mkdir()
        for name, data in list(content.items())[: min(written, len(content))]:
            (folder / name).write_bytes(data)
        assert newest_step(Path(root)) == OLDER


@examples(40)
@given(files(JSON), folders())
@example(DEEP, {})
def test_any_document_in_a_checkpoint_is_judged_without_an_error(document: bytes, content: dict[str, bytes]) -> None:
    for name in (STATE, "model.safetensors.index.json", "config.json", "latest"):
        with tempfile.TemporaryDirectory() as root:
            write_checkpoint(Path(root), OLDER, content or {"model.pt": b"x"})
            (write_checkpoint(Path(root), NEWER, content or {"model.pt": b"x"}) / name).write_bytes(document)
            assert newest_step(Path(root)) in (OLDER, NEWER)


@examples(80)
@given(st.dictionaries(NAMES, st.sampled_from(["file", "folder", "pipe", "link"]), max_size=6), WORDS)
def test_any_names_in_the_output_directory_are_judged_without_an_error(names: dict[str, str], pattern: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        for name, kind in names.items():
            path = Path(root) / name
            if kind == "file":
                path.write_bytes(b"x")
            elif kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to("nowhere")
        try:
            found, skipped = checkpoints.find_newest(root, pattern)
        except ValueError:
            assert not pattern or pattern.startswith("/") or ".." in pattern.split("/")
            return
        for path_found in [entry.path for entry in skipped] + ([found.path] if found else []):
            assert os.path.realpath(os.path.dirname(path_found)).startswith(os.path.realpath(root))
