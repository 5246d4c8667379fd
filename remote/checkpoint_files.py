"""Whether one checkpoint file is whole, judged from its length, its beginning and its end only."""

from __future__ import annotations

import json
import os
import stat
import struct
import sys
import zipfile
from typing import Any, BinaryIO

_TORCH_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_ZIP_ENDINGS = (".npz", ".zip")
_JSON_LIMIT = 32 << 20
_HEADER_LIMIT = 100 * 1000 * 1000  # safetensors' own limit for its header
# Bits of one value, https://github.com/huggingface/safetensors tensor.rs; of a type that came later only the place is
# checked.
_BITS = {
    **{"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8},
    **{"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32},
    **{"C64": 64, "F64": 64, "I64": 64, "U64": 64},
}
_END_RECORD_BYTES = 22
_END_RECORDS_BYTES = 56 + 20 + _END_RECORD_BYTES  # with those of zip64, as every file of torch has them
_LOCAL_HEADER_BYTES = 30
# torch.save before torch 1.6: a pickled magic number first, raw weights last, so its end proves nothing.
_LEGACY_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def why_not_whole(path: str) -> str | None:
    """Return in plain words why the file cannot be whole, or None.

    Weights are not read: 100 GB take no longer than 100 kB.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return "is no ordinary file"
        if status.st_size == 0:
            return "is empty"
        with open(path, "rb") as file:
            return _why_not_whole(file, os.path.splitext(path)[1].lower(), status.st_size)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _why_not_whole(file: BinaryIO, ending: str, size: int) -> str | None:
    if ending == ".safetensors":
        return _check_safetensors(file, size)
    if ending in _ZIP_ENDINGS:
        return _check_zip(file, size)
    if ending in _TORCH_ENDINGS:
        return _check_torch(file, size)
    if ending == ".json":
        return _check_json(file, size)
    return None


def _check_json(file: BinaryIO, size: int) -> str | None:
    """Check that a JSON file can be read; one too large to be a setting only for its end."""
    if size > _JSON_LIMIT:
        file.seek(-64, os.SEEK_END)
        return None if file.read().rstrip().endswith((b"}", b"]")) else "is cut off"
    try:
        json.loads(file.read())
    except (ValueError, RecursionError):
        return "is no whole JSON"
    return None


def _check_safetensors(file: BinaryIO, size: int) -> str | None:
    """Check the layout of https://huggingface.co/docs/safetensors: length, JSON header, data without holes."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _HEADER_LIMIT):
        return "is cut off in its header"
    try:
        data_bytes = _count_data_bytes(json.loads(file.read(length).decode()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return "has an unreadable header"
    return _compare(size, 8 + length + data_bytes)


def _count_data_bytes(header: dict[str, Any]) -> int:
    """Return how many bytes of data a header tells of. Raise ValueError where its tensors have not their lengths."""
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    end = 0
    for entry in sorted(tensors, key=lambda entry: entry["data_offsets"]):
        start, stop = entry["data_offsets"]
        values = 1
        for length in entry["shape"]:
            values *= _whole(length)
        bits = _BITS.get(entry["dtype"])
        if _whole(start) != end or _whole(stop) < start or (bits and values * bits != (stop - start) * 8):
            raise ValueError("a tensor has another length than its place")
        end = int(stop)
    return end


def _whole(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise ValueError("a length is no whole number")
    return number


def _compare(size: int, expected: int) -> str | None:
    if size < expected:
        return f"is cut off: {size} of {expected} bytes are there"
    return f"is too long: {size} bytes instead of {expected}" if size > expected else None


def _check_torch(file: BinaryIO, size: int) -> str | None:
    start = file.read(16)
    if start.startswith(b"PK"):
        return _check_zip(file, size)
    if not start.strip(b"\0"):
        return "begins with zeros: its content never reached the disk"
    if start.startswith(b"\x80") and not start.startswith(_LEGACY_TORCH):
        file.seek(-1, os.SEEK_END)
        return None if file.read(1) == b"." else "is cut off: its pickle has no end"
    return None  # a format of its own


def _check_zip(file: BinaryIO, size: int) -> str | None:
    if size < _END_RECORD_BYTES:
        return "is cut off in its header"
    file.seek(-min(size, _END_RECORDS_BYTES), os.SEEK_END)
    records = file.read()
    if records[-_END_RECORD_BYTES:][:4] != b"PK\x05\x06":
        return "is cut off: the directory at its end is missing"
    try:
        with zipfile.ZipFile(file) as archive:
            entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
            directory_start = archive.start_dir
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, UnicodeDecodeError):
        return "has an unreadable directory at its end"
    starts = [entry.header_offset for entry in entries] + [directory_start]
    if _count_entries(records) != len(entries):
        return "does not have as many entries as its end says"
    if starts[0] != 0 or any(_least_end(entry) > start for entry, start in zip(entries, starts[1:])):
        return "does not have the length its directory says"
    return None


def _count_entries(records: bytes) -> int:
    """Return how many entries the records at the end of a zip tell of: in the last one, or in that of a large zip."""
    count = int.from_bytes(records[-12:-10], "little")
    is_large = count == 0xFFFF and records.startswith(b"PK\x06\x06")
    return int.from_bytes(records[32:40], "little") if is_large else count


def _least_end(entry: zipfile.ZipInfo) -> int:
    """Return where an entry ends at least; how much its header is padded, only that header says."""
    if entry.compress_type == zipfile.ZIP_STORED and entry.compress_size != entry.file_size:
        return sys.maxsize
    return entry.header_offset + _LOCAL_HEADER_BYTES + len(entry.filename) + entry.compress_size
