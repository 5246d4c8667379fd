"""Sending files to a volume by the S3 API, each of them confirmed."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from podtasks.doors.clock import SystemClock, WaitTimeoutError, growing_pauses, wait_until
from podtasks.doors.many import run_many
from podtasks.doors.s3_client import THREADS, S3Client, S3FileError
from podtasks.pure.errors import ApiError
from podtasks.pure.s3_listing import parse_md5
from podtasks.pure.transfer import LocalFile, ProgressBar, Tally

# Larger ones go through boto3's transfer manager, which reads them in parts instead of whole.
WHOLE_BYTES = 8 * 1024**2
# A big file may be missing for a while after its upload (runpodctl#282).
CONFIRM_S = 90.0
MOST_FAILURES_RUNNING = 50

Check = Literal["nothing", "size", "content"]
Send = Callable[[str, str, Callable[[int], None]], None]


class _ChangedError(Exception):
    """The file is not what was found before it was to be sent."""


class S3Upload:
    """One transfer to the volume.

    Args:
        client: the way there.
        progress: hears of each file and byte.
        check: what is asked before a file is sent: nothing, whether one of its size is there, or one with its content.
        on_arrival: hears of each file that is known to be there, from any thread.
    """

    def __init__(
        self, client: S3Client, progress: ProgressBar, check: Check, on_arrival: Callable[[LocalFile], None]
    ) -> None:
        self._client = client
        self._progress = progress
        self._check = check
        self._on_arrival = on_arrival
        self._tally = Tally()
        self._again: list[LocalFile] = []
        self._failures_running = 0
        self._lock = threading.Lock()

    def run(self, files: Sequence[LocalFile]) -> Tally:
        """Send the files and return what came of it. Raises what concerns them all."""
        if any(file.size_bytes > WHOLE_BYTES for file in files):
            self._abort_leftovers({file.place for file in files if file.size_bytes > WHOLE_BYTES})
            with self._client.open_uploader() as send:
                self._run(files, send)
        else:
            self._run(files, None)
        self._tally.failures.sort()
        return self._tally

    def _run(self, files: Iterable[LocalFile], send: Send | None) -> None:
        run_many(lambda file: self._take(file, send, self._check, is_last_try=False), files, THREADS)
        again, self._again = sorted(self._again, key=lambda file: file.place), []
        run_many(lambda file: self._take(file, send, "nothing", is_last_try=True), again, THREADS)

    def _take(self, file: LocalFile, send: Send | None, check: Check, *, is_last_try: bool) -> None:
        try:
            file.place.encode()
            if check != "nothing" and self._is_there(file, check):
                self._count(file, was_sent=False)
                return
            if file.size_bytes <= WHOLE_BYTES or send is None:
                self._send_whole(file)
            else:
                self._send_parts(file, send)
        except S3FileError as error:
            if error.is_transient and not is_last_try:
                self._again.append(file)
            else:
                self._fail(file, str(error))
            self._count_failure(str(error))
        except UnicodeEncodeError:
            self._fail(file, "its name is no UTF-8, which the S3 API needs; --via ssh can send it")
        except (OSError, _ChangedError) as error:
            self._fail(file, (error.strerror if isinstance(error, OSError) else None) or str(error))
        else:
            self._count(file, was_sent=True)

    def _is_there(self, file: LocalFile, check: Check) -> bool:
        try:
            answer = self._client.call("head_object", Key=file.place)
        except S3FileError as error:
            if error.is_missing:
                return False
            raise
        if answer["ContentLength"] != file.size_bytes:
            return False
        expected = parse_md5(answer) if check == "content" else None
        return expected is None or expected == _hash_file(file)

    def _send_whole(self, file: LocalFile) -> None:
        data = _read_steady(file)
        answer = self._client.call("put_object", Key=file.place, Body=data)
        expected = parse_md5(answer)
        if expected is None:
            self._confirm_size(file)
        elif expected != hashlib.md5(data, usedforsecurity=False).hexdigest():
            raise S3FileError("what arrived is not what was sent", is_transient=True)
        self._progress.add(files=1, size_bytes=file.size_bytes)

    def _send_parts(self, file: LocalFile, send: Send) -> None:
        counted = [0]

        def on_bytes(count: int) -> None:
            with self._lock:
                counted[0] += count
            self._progress.add(size_bytes=count)

        _require_steady(file, os.stat(file.path))
        try:
            send(str(file.path), file.place, on_bytes)
            _require_steady(file, os.stat(file.path))
            self._confirm_size(file)
        except BaseException:
            self._progress.add(size_bytes=-counted[0])
            raise
        self._progress.add(files=1, size_bytes=file.size_bytes - counted[0])

    def _confirm_size(self, file: LocalFile) -> None:
        def ask() -> int | None:
            try:
                return int(self._client.call("head_object", Key=file.place)["ContentLength"])
            except S3FileError as error:
                if error.is_missing:
                    return None
                raise

        try:
            wait_until(
                ask,
                lambda size_bytes: size_bytes == file.size_bytes,
                timeout_s=CONFIRM_S,
                pauses=growing_pauses(0.2, 2, 10),
                clock=SystemClock(),
            )
        except WaitTimeoutError as error:
            there = "is not on the volume" if error.last is None else f"has {error.last} bytes on the volume"
            raise S3FileError(f"it was sent, but {there}", is_transient=True) from None

    def _abort_leftovers(self, places: set[str]) -> None:
        """Give up the unfinished uploads of these files that a killed command left, whose parts take up space."""
        markers: dict[str, str] = {}
        try:
            while True:
                page = self._client.call("list_multipart_uploads", **markers)
                for entry in page.get("Uploads", ()):
                    if entry["Key"] in places:
                        self._client.call("abort_multipart_upload", Key=entry["Key"], UploadId=entry["UploadId"])
                found = {
                    "KeyMarker": str(page.get("NextKeyMarker", "")),
                    "UploadIdMarker": str(page.get("NextUploadIdMarker", "")),
                }
                if not page.get("IsTruncated") or found == markers:
                    return
                markers = found
        except S3FileError:
            # It is tidiness only: what is sent now replaces the file all the same.
            return

    def _count(self, file: LocalFile, *, was_sent: bool) -> None:
        with self._lock:
            self._failures_running = 0
            self._tally.count(file.size_bytes, was_sent=was_sent)
        if not was_sent:
            self._progress.add(files=1, size_bytes=file.size_bytes)
        self._on_arrival(file)

    def _fail(self, file: LocalFile, why: str) -> None:
        with self._lock:
            self._tally.failures.append((str(file.path), why))

    def _count_failure(self, why: str) -> None:
        with self._lock:
            self._failures_running += 1
            if self._failures_running >= MOST_FAILURES_RUNNING:
                raise ApiError(
                    f"The last {MOST_FAILURES_RUNNING} files all failed: {why}.",
                    means="What was confirmed before stays on the volume and is not sent again.",
                    next_step="look whether the volume is full (inv storage), then the same command again",
                )


def _read_steady(file: LocalFile) -> bytes:
    with open(file.path, "rb") as opened:
        _require_steady(file, os.fstat(opened.fileno()))
        data = opened.read(file.size_bytes + 1)
        _require_steady(file, os.fstat(opened.fileno()))
    if len(data) != file.size_bytes:
        raise _ChangedError("it changed while it was being sent")
    return data


def _require_steady(file: LocalFile, now: os.stat_result) -> None:
    if (now.st_size, now.st_mtime_ns) != (file.size_bytes, file.modified_ns):
        raise _ChangedError("it changed while it was being sent")


def _hash_file(file: LocalFile) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(file.path, "rb") as opened:
        while chunk := opened.read(1024**2):
            digest.update(chunk)
    return digest.hexdigest()
