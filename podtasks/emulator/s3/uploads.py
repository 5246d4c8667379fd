"""Multipart uploads: parts in the hidden folder of the volume until they are put together."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from podtasks.emulator.s3.body import Body, Saved
from podtasks.emulator.s3.errors import S3Error
from podtasks.emulator.s3.folder import Folder, disk_refusals

LARGEST_PART_NUMBER = 10_000
_RECORD = "upload.json"
_PIECE_BYTES = 1 << 24


@dataclass(frozen=True)
class Upload:
    """An upload that has begun; its parts lie in `path`."""

    id: str
    key: str
    begun_at: float
    path: str


@dataclass(frozen=True)
class Part:
    """A part that has arrived."""

    number: int
    size_bytes: int
    modified_at: float
    etag: str
    path: str


def begin_upload(folder: Folder, key: str) -> Upload:
    """Begin an upload.

    Raises:
        S3Error: the key cannot be a file.
    """
    folder.target(key)
    upload_id = secrets.token_hex(16)
    upload = Upload(upload_id, key, time.time(), f"{folder.hidden_folder()}/{upload_id}")
    with disk_refusals():
        os.mkdir(upload.path)
        with open(f"{upload.path}/{_RECORD}", "w") as file:
            json.dump({"key": key, "begun_at": upload.begun_at}, file)
    return upload


def find_upload(folder: Folder, upload_id: str, key: str) -> Upload:
    """Return an upload that has begun for a key.

    Raises:
        S3Error: there is none.
    """
    upload = _read_upload(folder, upload_id) if upload_id.isalnum() else None
    if upload is None or upload.key != key:
        raise S3Error("NoSuchUpload", "The specified multipart upload does not exist.")
    return upload


def list_uploads(folder: Folder) -> list[Upload]:
    """Return all uploads that have begun, by key and time."""
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(folder.hidden_folder())
        uploads = [_read_upload(folder, name) for name in names if name.isalnum()]
        return sorted((item for item in uploads if item), key=lambda item: (item.key, item.begun_at))
    return []


async def save_part(folder: Folder, upload: Upload, number: int, body: Body) -> Saved:
    """Take one part in; one with the same number is replaced."""
    scratch = folder.scratch_path()
    with disk_refusals():
        saved = await body.save(scratch)
        older = [part.path for part in list_parts(upload) if part.number == number]
        path = f"{upload.path}/{number:05}.{saved.md5}"
        try:
            os.rename(scratch, path)
        except FileNotFoundError:
            os.unlink(scratch)
            raise S3Error("NoSuchUpload", "The specified multipart upload does not exist.") from None
        for other in set(older) - {path}:
            os.unlink(other)
    return saved


def list_parts(upload: Upload) -> list[Part]:
    """Return the parts that have arrived, by number."""
    parts = []
    try:
        with os.scandir(upload.path) as entries:
            for entry in entries:
                number, _, etag = entry.name.partition(".")
                if number.isdecimal():
                    facts = entry.stat()
                    parts.append(Part(int(number), facts.st_size, facts.st_mtime, etag, entry.path))
    except FileNotFoundError:
        raise S3Error("NoSuchUpload", "The specified multipart upload does not exist.") from None
    return sorted(parts, key=lambda part: part.number)


async def complete_upload(folder: Folder, upload: Upload, wanted: Sequence[tuple[int, str]], largest_bytes: int) -> str:
    """Put an upload's parts together in the order of their numbers.

    Args:
        folder: the volume's.
        upload: the upload.
        wanted: number and ETag of each part.
        largest_bytes: the largest file allowed.

    Returns:
        the ETag: the MD5 of the parts' MD5s, a dash and their number, as S3 makes it.

    Raises:
        S3Error: a part is missing, another one, or out of order; or the file is too large.
    """
    parts = _chosen_parts(upload, wanted)
    if sum(part.size_bytes for part in parts) > largest_bytes:
        raise S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
    etag = f"{hashlib.md5(b''.join(bytes.fromhex(part.etag) for part in parts)).hexdigest()}-{len(parts)}"
    target, scratch = folder.target(upload.key), folder.scratch_path()
    with disk_refusals():
        await asyncio.to_thread(_join, [part.path for part in parts], scratch)
        folder.move(scratch, target, etag)
    abort_upload(upload)
    return etag


def abort_upload(upload: Upload) -> None:
    """Drop an upload with its parts."""
    shutil.rmtree(upload.path, ignore_errors=True)


def _read_upload(folder: Folder, upload_id: str) -> Upload | None:
    path = f"{folder.hidden_folder()}/{upload_id}"
    try:
        with open(f"{path}/{_RECORD}") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return None
    return Upload(upload_id, record["key"], record["begun_at"], path)


def _chosen_parts(upload: Upload, wanted: Sequence[tuple[int, str]]) -> list[Part]:
    numbers = [number for number, _ in wanted]
    if numbers != sorted(set(numbers)):
        raise S3Error("InvalidPartOrder", "The list of parts was not in ascending order.")
    arrived = {part.number: part for part in list_parts(upload)}
    for number, etag in wanted:
        if number not in arrived or arrived[number].etag != etag:
            raise S3Error("InvalidPart", f"Part {number} could not be found, or its ETag does not match.")
    return [arrived[number] for number in numbers]


def _join(paths: Sequence[str], target: str) -> None:
    try:
        with open(target, "xb") as joined:
            for path in paths:
                with open(path, "rb", buffering=0) as part:
                    shutil.copyfileobj(part, joined, _PIECE_BYTES)
    except BaseException:
        if os.path.exists(target):
            os.unlink(target)
        raise
