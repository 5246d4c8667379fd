"""Checkpoint files written and read by the formats' definitions alone, for comparison with remote/checkpoint_files.py.

safetensors: https://github.com/huggingface/safetensors, README, "Format". zip: APPNOTE.TXT 4.3, as torch's
caffe2/serialize/inline_container.cc writes it: stored, each content at a multiple of 64 bytes.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hypothesis import strategies as st

from tests.properties.hostile import NAMES

VALUE_BYTES = {"BOOL": 1, "U8": 1, "F8_E4M3": 1, "I16": 2, "BF16": 2, "F16": 2, "I32": 4, "F32": 4, "F64": 8, "I64": 8}
END_RECORD = b"PK\x05\x06"
ALIGNMENT = 64


class Broken(Exception):
    """The file is not what its format says."""


class Tensor(NamedTuple):
    """A tensor as safetensors has it."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes


@st.composite
def _tensor(draw: st.DrawFn) -> Tensor:
    dtype = draw(st.sampled_from(sorted(VALUE_BYTES)))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    return Tensor(dtype, shape, draw(_content(math.prod(shape) * VALUE_BYTES[dtype])))


def _content(size_bytes: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size_bytes, max_size=size_bytes)


TENSORS = st.dictionaries(NAMES.filter(lambda name: name != "__metadata__"), _tensor(), max_size=4)
METADATA = st.one_of(st.none(), st.dictionaries(st.text(max_size=6), st.text(max_size=6), max_size=3))
# Contents that look like the end of a zip, or like another zip.
ENTRIES = st.dictionaries(
    NAMES, st.one_of(st.binary(max_size=80), st.just(END_RECORD + b"\0" * 18), st.just(b"PK\x03\x04" * 9)), max_size=4
)


def write_safetensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None, padding: int) -> bytes:
    """Return a safetensors file, its header padded with spaces."""
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name, tensor in tensors.items():
        place = [len(data), len(data) + len(tensor.data)]
        header[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": place}
        data += tensor.data
    text = json.dumps(header).encode() + b" " * padding
    return struct.pack("<Q", len(text)) + text + data


def read_safetensors(data: bytes) -> None:
    """Read a safetensors file. Raises Broken where the reader of the format would refuse it."""
    if len(data) < 8:
        raise Broken("no length")
    (length,) = struct.unpack("<Q", data[:8])
    if length > len(data) - 8:
        raise Broken("no header")
    try:
        header = json.loads(data[8 : 8 + length].decode("utf-8"))
    except ValueError:
        raise Broken("no JSON") from None
    if not isinstance(header, dict):
        raise Broken("no object")
    _check_tensors([entry for name, entry in header.items() if name != "__metadata__"], len(data) - 8 - length)


def _check_tensors(entries: Sequence[Any], data_bytes: int) -> None:
    places = []
    for entry in entries:
        if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= set(entry):
            raise Broken("no tensor")
        shape, place = entry["shape"], entry["data_offsets"]
        if not _are_lengths(shape) or not _are_lengths(place) or len(place) != 2:
            raise Broken("no lengths")
        value_bytes = VALUE_BYTES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else 0
        if value_bytes is not None and math.prod(shape) * value_bytes != place[1] - place[0]:
            raise Broken("another length than its place")
        places.append(tuple(place))
    end = 0
    for start, stop in sorted(places):
        if start != end or stop < start:
            raise Broken("a hole")
        end = stop
    if end != data_bytes:
        raise Broken("another length than the file")


def _are_lengths(value: object) -> bool:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)


def write_zip(entries: Mapping[str, bytes], *, is_zip64: bool) -> bytes:
    """Return a zip as torch.save writes it."""
    data, directory = b"", b""
    for name, content in entries.items():
        words, place = name.encode(), len(data)
        fixed = struct.pack("<HHHHHIII", 20, 0x0800, 0, 0, 0x2821, zlib.crc32(content), len(content), len(content))
        extra = _padding(place + 30 + len(words))
        data += b"PK\x03\x04" + fixed + struct.pack("<HH", len(words), len(extra)) + words + extra + content
        rest = struct.pack("<HHHHHII", len(words), 0, 0, 0, 0, 0, place)
        directory += b"PK\x01\x02" + struct.pack("<H", 20) + fixed + rest + words
    return data + directory + _end(len(entries), len(directory), len(data), is_zip64)


def _padding(end: int) -> bytes:
    """Return the extra field that moves what follows to a multiple of 64 bytes."""
    missing = -(end + 4) % ALIGNMENT
    return b"FB" + struct.pack("<H", missing) + b"Z" * missing


def _end(count: int, size: int, start: int, is_zip64: bool) -> bytes:
    if not is_zip64:
        return END_RECORD + struct.pack("<HHHHIIH", 0, 0, count, count, size, start, 0)
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, count, count, size, start)
    locator = b"PK\x06\x07" + struct.pack("<IQI", 0, start + size, 1)
    return record + locator + END_RECORD + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)


def directory_start(data: bytes) -> int:
    """Return where a whole zip's directory begins."""
    count, _, start = struct.unpack("<HII", data[-12:-2])
    return int(struct.unpack("<Q", data[-50:-42])[0]) if count == 0xFFFF else int(start)


def read_zip_places(data: bytes) -> list[tuple[int, int]]:
    """Return offset and length of each entry, as the directory at the end has them. Raises Broken."""
    if data[-22:-18] != END_RECORD:
        raise Broken("no end")
    (count,) = struct.unpack("<H", data[-12:-10])
    place, places = directory_start(data), []
    if count == 0xFFFF:
        (count,) = struct.unpack("<Q", data[-66:-58])
    for _ in range(count):
        if data[place : place + 4] != b"PK\x01\x02":
            raise Broken("no entry")
        size, _, name, extra, comment, offset = struct.unpack("<IIHHH8xI", data[place + 20 : place + 46])
        places.append((offset, size))
        place += 46 + name + extra + comment
    return places
