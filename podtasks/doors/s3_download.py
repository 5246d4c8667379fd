"""Bringing files of a volume home by the S3 API: whole or not at all, and going on where they broke off."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from podtasks.doors.many import run_many
from podtasks.doors.s3_client import THREADS, S3Client, S3FileError
from podtasks.pure.s3_listing import parse_md5
from podtasks.pure.transfer import ProgressBar, Tally, VolumeFile, is_safe_place, is_same_copy

CHUNK_BYTES = 1024**2
TRIES = 4
# Where files lie until they are whole: on the same disk as the target, and with names of one length.
PARTIAL_FOLDER = ".partial"


class S3Download:
    """One transfer from the volume into a folder here."""

    def __init__(self, client: S3Client, target: Path, progress: ProgressBar) -> None:
        self._client = client
        self._target = target
        self._progress = progress
        self._tally = Tally()
        self._lock = threading.Lock()

    def run(self, files: Sequence[VolumeFile]) -> Tally:
        """Fetch the files and return what came of it. Raises what concerns them all."""
        partial = self._target / PARTIAL_FOLDER
        partial.mkdir(parents=True, exist_ok=True)
        run_many(self._take, files, THREADS)
        # A file that failed has left its beginning there, for the next time.
        with contextlib.suppress(OSError):
            partial.rmdir()
        self._tally.failures.sort()
        return self._tally

    def _take(self, file: VolumeFile) -> None:
        if not is_safe_place(file.place):
            self._fail(file, "its name would lead out of the folder it belongs into")
            return
        path = self._target / file.place
        try:
            if _is_there(path, file):
                self._count(file, was_sent=False)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fetch(file, path)
        except S3FileError as error:
            self._fail(file, str(error))
        except OSError as error:
            self._fail(file, error.strerror or str(error))
        else:
            self._count(file, was_sent=True)

    def _fetch(self, file: VolumeFile, path: Path) -> None:
        partial = self._target / PARTIAL_FOLDER / _partial_name(file)
        for attempt in range(TRIES):
            counted = [0]
            try:
                modified = self._receive(file, partial, counted)
                os.utime(partial, (modified, modified))
                os.replace(partial, path)
                self._progress.add(files=1, size_bytes=file.size_bytes - counted[0])
                return
            except S3FileError as error:
                self._progress.add(size_bytes=-counted[0])
                if not error.is_transient or attempt == TRIES - 1:
                    raise
            except BaseException:
                self._progress.add(size_bytes=-counted[0])
                raise

    def _receive(self, file: VolumeFile, partial: Path, counted: list[int]) -> float:
        """Bring the partial file to its end and return when it was written on the volume."""
        with open(partial, "ab+") as local:
            there = local.seek(0, os.SEEK_END)
            wanted = {"Range": f"bytes={there}-"} if 0 < there < file.size_bytes else {}
            answer = self._client.call("get_object", Key=file.place, **wanted)
            if "LastModified" not in answer:
                answer["Body"].close()
                raise S3FileError("the S3 API answered something else than the file", is_transient=True)
            if not wanted or answer.get("ContentRange") != f"bytes {there}-{file.size_bytes - 1}/{file.size_bytes}":
                local.truncate(0)
                there = 0
                if wanted:
                    answer["Body"].close()
                    raise S3FileError("it changed on the volume since it was begun", is_transient=True)
            digest = _hash_beginning(local)
            self._add(counted, there)
            expected_bytes = there + int(answer["ContentLength"])
            with contextlib.closing(answer["Body"]) as body:
                while chunk := self._client.read_body(body, CHUNK_BYTES):
                    local.write(chunk)
                    digest.update(chunk)
                    there += len(chunk)
                    self._add(counted, len(chunk))
            local.flush()
            if there != expected_bytes:
                raise S3FileError(f"it broke off after {there} of {expected_bytes} bytes", is_transient=True)
            if parse_md5(answer) not in (None, digest.hexdigest()) and not self._has_grown(file.place, there):
                local.truncate(0)
                raise S3FileError("what arrived is not what is on the volume", is_transient=True)
        modified: float = answer["LastModified"].timestamp()
        return modified

    def _has_grown(self, place: str, size_bytes: int) -> bool:
        # A log that is written to: its ETag is of a later moment than its bytes.
        return int(self._client.call("head_object", Key=place)["ContentLength"]) > size_bytes

    def _add(self, counted: list[int], size_bytes: int) -> None:
        counted[0] += size_bytes
        self._progress.add(size_bytes=size_bytes)

    def _count(self, file: VolumeFile, *, was_sent: bool) -> None:
        with self._lock:
            self._tally.count(file.size_bytes, was_sent=was_sent)
        if not was_sent:
            self._progress.add(files=1, size_bytes=file.size_bytes)

    def _fail(self, file: VolumeFile, why: str) -> None:
        with self._lock:
            self._tally.failures.append((file.place, why))


def _partial_name(file: VolumeFile) -> str:
    """Return a name that only the same version of the same file has."""
    told = f"{file.place}\0{file.size_bytes}\0{int(file.modified)}"
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _is_there(path: Path, file: VolumeFile) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return is_same_copy(found.st_size, found.st_mtime, file)


def _hash_beginning(local: BinaryIO) -> hashlib._Hash:
    digest = hashlib.md5(usedforsecurity=False)
    local.seek(0)
    while chunk := local.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest
