"""Whether one checkpoint file is whole, judged from its length, its beginning and its end only."""

from __future__ import annotations

import json
import os
import stat
import struct
import zipfile
from typing import BinaryIO

_TORCH_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_ZIP_ENDINGS = (".npz", ".zip")
_JSON_LIMIT = 32 << 20
_HEADER_LIMIT = 100 * 1000 * 1000  # safetensors' own limit for its header
_END_RECORD_BYTES = 22
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
    """Check the layout of https://huggingface.co/docs/safetensors: length, JSON header, data."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _HEADER_LIMIT):
        return "is cut off in its header"
    try:
        header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return "has an unreadable header"
    return _compare(size, expected)


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
    file.seek(-_END_RECORD_BYTES, os.SEEK_END)
    if file.read(4) != b"PK\x05\x06":
        return "is cut off: the directory at its end is missing"
    try:
        with zipfile.ZipFile(file) as archive:
            places = [(entry.header_offset, entry.compress_size) for entry in archive.infolist()]
            directory_start = archive.start_dir
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError, UnicodeDecodeError):
        return "has an unreadable directory at its end"
    if places and (min(places)[0] != 0 or any(start + length > directory_start for start, length in places)):
        return "does not have the length its directory says"
    return None
