"""Checkpoint files of any content, whole, cut at any byte, and with a byte of what tells their lengths changed."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import checkpoint_files
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.properties import checkpoint_formats as formats
from tests.properties.hostile import DEEP, JSON
from tests.properties.profile import examples

MOST_CUTS = 400


def why(name: str, data: bytes) -> str | None:
    """Return why a file of this name and content is not whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        return checkpoint_files.why_not_whole(str(path))


def not_noticed(name: str, data: bytes) -> list[int]:
    """Return the lengths at which a file can be cut without notice: each of them, of a long file some."""
    step = max(1, len(data) // MOST_CUTS)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        lengths = sorted({*range(len(data) - 1, 0, -step), *range(1, min(len(data), 12))}, reverse=True)
        found = []
        with path.open("r+b") as file:
            for length in lengths:
                file.truncate(length)
                if checkpoint_files.why_not_whole(str(path)) is None:
                    found.append(length)
        return found


@examples(20)
@given(formats.TENSORS, formats.METADATA, st.integers(0, 8))
def test_safetensors_are_whole_and_cut_at_any_byte_are_not(
    tensors: Mapping[str, formats.Tensor], metadata: Mapping[str, str] | None, padding: int
) -> None:
    data = formats.write_safetensors(tensors, metadata, padding)
    formats.read_safetensors(data)
    assert why("model.safetensors", data) is None
    assert not_noticed("model.safetensors", data) == []
    assert why("model.safetensors", data + b"\0") is not None


@examples(200)
@given(formats.TENSORS, formats.METADATA, st.data())
def test_safetensors_with_a_changed_byte_are_whole_exactly_where_they_load(
    tensors: Mapping[str, formats.Tensor], metadata: Mapping[str, str] | None, data: st.DataObject
) -> None:
    whole = formats.write_safetensors(tensors, metadata, 2)
    header_end = 8 + int.from_bytes(whole[:8], "little")
    place = data.draw(st.integers(0, header_end - 1))
    changed = bytearray(whole)
    changed[place] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from(b'0123456789[]{},:" ')))
    try:
        formats.read_safetensors(bytes(changed))
        loads = True
    except formats.Broken:
        loads = False
    assert (why("model.safetensors", bytes(changed)) is None) == loads


@examples(200)
@given(st.one_of(JSON.map(json.dumps), JSON.map(lambda entry: json.dumps({"weight": entry})), st.text(max_size=30)))
def test_any_header_of_safetensors_is_judged_as_its_reader_does(text: str) -> None:
    header = text.encode("utf-8", "surrogatepass")
    data = len(header).to_bytes(8, "little") + header
    try:
        formats.read_safetensors(data)
        loads = True
    except formats.Broken:
        loads = False
    assert (why("model.safetensors", data) is None) == loads


def test_header_that_nests_too_deeply_is_unreadable() -> None:
    assert why("a.safetensors", len(DEEP).to_bytes(8, "little") + DEEP) == "has an unreadable header"


@pytest.mark.parametrize("ending", [".pt", ".bin", ".npz"])
@examples(10)
@given(formats.ENTRIES, st.booleans())
def test_zips_are_whole_and_cut_at_any_byte_are_not(ending: str, entries: Mapping[str, bytes], is_zip64: bool) -> None:
    data = formats.write_zip({"archive/data.pkl": b"\x80\x02}.", **entries}, is_zip64=is_zip64)
    assert why(f"optimizer{ending}", data) is None
    # What is shorter than a magic number is a format of its own, for all that can be told.
    assert [length for length in not_noticed(f"optimizer{ending}", data) if length > 1] == []
    assert why(f"optimizer{ending}", data + b"\0") is not None


@examples(200)
@given(formats.ENTRIES, st.booleans(), st.data())
def test_zip_whose_directory_has_a_changed_byte_is_refused_where_lengths_changed(
    entries: Mapping[str, bytes], is_zip64: bool, data: st.DataObject
) -> None:
    whole = formats.write_zip({"archive/data.pkl": b"\x80\x02}.", **entries}, is_zip64=is_zip64)
    changed = bytearray(whole)
    changed[data.draw(st.integers(formats.directory_start(whole), len(whole) - 1))] = data.draw(st.integers(0, 255))
    if why("optimizer.pt", bytes(changed)) is not None:
        return
    before, after = formats.read_zip_places(whole), formats.read_zip_places(bytes(changed))
    assert [size for _, size in after] == [size for _, size in before]
    # An entry may have moved within the padding of its own header.
    assert all(abs(a - b) < 2 * formats.ALIGNMENT for (a, _), (b, _) in zip(after, before, strict=True))


@examples(60)
@given(st.dictionaries(st.text(max_size=6), JSON, max_size=4), st.integers(0, 3))
def test_json_is_whole_and_cut_at_any_byte_is_not(content: dict[str, Any], newlines: int) -> None:
    data = json.dumps(content).encode()
    assert why("trainer_state.json", data + b"\n" * newlines) is None
    assert not_noticed("trainer_state.json", data) == []


@examples(300)
@given(
    st.sampled_from([".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".pkl", ".npz", ".zip", ".json", ".txt", ""]),
    st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\0" * 16, b"\x08" + b"\0" * 7, formats.END_RECORD]),
    st.binary(max_size=60),
    st.sampled_from([b"", formats.END_RECORD + b"\0" * 18, b"."]),
)
def test_any_bytes_are_judged_without_an_error(ending: str, start: bytes, middle: bytes, end: bytes) -> None:
    assert isinstance(why(f"file{ending}", start + middle + end), str | None)
