"""A bucket: the folder of a network volume, where keys are file paths.

Source: RunPod docs, storage/s3-api (object keys are file paths; ETags are computed on demand; a hidden
folder .s3compat_uploads/ holds what is not finished).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from podtasks.emulator.s3.body import Body, Saved
from podtasks.emulator.s3.errors import S3Error, no_such_key

HIDDEN_FOLDER = ".s3compat_uploads"
_LONGEST_KEY_BYTES = 1024
_PIECE_BYTES = 1 << 20
_ETAGS_KEPT = 500_000
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True)
class Found:
    """An object, open: what it is stays so, whatever takes its name meanwhile. Close it by leaving it."""

    descriptor: int
    is_directory: bool
    size_bytes: int
    modified_at: float
    etag: str

    def __enter__(self) -> Found:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


class Folder:
    """A volume's folder and what can be done to the files in it by key.

    Args:
        path: the folder, which exists.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self._etags: dict[str, tuple[int, int, str]] = {}

    def scratch_path(self) -> str:
        """Return a new name on the volume for a file in the making."""
        return f"{self.hidden_folder()}/{secrets.token_hex(8)}.part"

    def hidden_folder(self) -> str:
        """Return the folder for uploads in the making, made if missing."""
        path = f"{self.path}/{HIDDEN_FOLDER}"
        if not os.path.isdir(path):
            os.mkdir(path)
        return path

    def contains(self, path: str) -> bool:
        """Say whether a path without links lies in the volume, outside the hidden folder."""
        inside = path.startswith(f"{self.path}/") or path == self.path
        return inside and not f"{path}/".startswith(f"{self.path}/{HIDDEN_FOLDER}/")

    def is_link_inside(self, path: str) -> bool:
        """Say whether a link leads to a regular file of the volume."""
        target = os.path.realpath(path)
        return self.contains(target) and os.path.isfile(target)

    async def find(self, key: str) -> Found:
        """Return the object with a key; a key that ends in / is an existing directory.

        Raises:
            S3Error: there is none, or the key cannot be a path.
        """
        path, descriptor = self._open(key)
        try:
            facts = os.fstat(descriptor)
            is_directory = stat.S_ISDIR(facts.st_mode)
            size_bytes = 0 if is_directory else facts.st_size
            etag = hashlib.md5().hexdigest() if is_directory else await self._etag_soon(path, descriptor)
            return Found(descriptor, is_directory, size_bytes, facts.st_mtime, etag)
        except BaseException:
            os.close(descriptor)
            raise

    async def put(self, key: str, body: Body) -> Saved:
        """Store a body under a key, whole or not at all; what was there is replaced.

        Raises:
            S3Error: the body is not what was signed, or the key cannot be a file.
            ClientGoneError: the client hung up.
        """
        target = self._target(key)
        if key.endswith("/"):
            return await self._put_directory(target, body)
        scratch = self.scratch_path()
        with disk_refusals():
            saved = await body.save(scratch)
            self.move(scratch, target, saved.md5)
        return saved

    def target(self, key: str) -> str:
        """Return where an object with a key belongs; raise S3Error when a key cannot be a file."""
        if key.endswith("/"):
            raise S3Error("InvalidArgument", "A key that ends in / is a directory.")
        return self._target(key)

    def move(self, scratch: str, target: str, etag: str) -> None:
        """Put a finished file in its place, with the directories above it."""
        try:
            try:
                os.rename(scratch, target)
            except FileNotFoundError:
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.rename(scratch, target)
        except BaseException:
            os.unlink(scratch)
            raise
        self._remember(target, os.stat(target), etag)

    async def copy(self, source: Found, key: str) -> None:
        """Copy an object of any volume to a key."""
        target, scratch = self.target(key), self.scratch_path()
        with disk_refusals():
            await asyncio.to_thread(_copy_file, source.descriptor, scratch)
            self.move(scratch, target, source.etag)

    def delete(self, key: str) -> None:
        """Delete an object; one that is not there is no error. A directory goes only when it is empty."""
        try:
            path = self._target(key)
            os.rmdir(path) if key.endswith("/") else os.unlink(path)
        except OSError:
            return
        self._etags.pop(path, None)

    def etag_of(self, path: str) -> str:
        """Return a file's ETag; computed unless it is known for this size and time. Raises OSError."""
        known = self._known_etag(path, os.stat(path))
        if known is not None:
            return known
        descriptor = os.open(path, _READ)
        try:
            return self._compute_etag(path, descriptor)
        finally:
            os.close(descriptor)

    async def _etag_soon(self, path: str, descriptor: int) -> str:
        facts = os.fstat(descriptor)
        known = self._known_etag(path, facts)
        if known is not None:
            return known
        if facts.st_size <= _PIECE_BYTES:
            return self._compute_etag(path, descriptor)
        return await asyncio.to_thread(self._compute_etag, path, descriptor)

    def _known_etag(self, path: str, facts: os.stat_result) -> str | None:
        known = self._etags.get(path)
        return known[2] if known is not None and known[:2] == (facts.st_mtime_ns, facts.st_size) else None

    def _compute_etag(self, path: str, descriptor: int) -> str:
        digest, place, facts = hashlib.md5(), 0, os.fstat(descriptor)
        while piece := os.pread(descriptor, _PIECE_BYTES, place):
            digest.update(piece)
            place += len(piece)
        self._remember(path, facts, digest.hexdigest())
        return digest.hexdigest()

    def _remember(self, path: str, facts: os.stat_result, etag: str) -> None:
        if len(self._etags) >= _ETAGS_KEPT:
            self._etags.clear()
        self._etags[path] = (facts.st_mtime_ns, facts.st_size, etag)

    def _open(self, key: str) -> tuple[str, int]:
        check_key(key)
        path = os.path.realpath(f"{self.path}/{key}")
        wanted = stat.S_ISDIR if key.endswith("/") else stat.S_ISREG
        try:
            # What is no regular file is not even opened: a pipe or a device would answer to that.
            if self.contains(path) and wanted(os.stat(path).st_mode):
                return path, os.open(path, _READ)
        except OSError:
            pass
        raise no_such_key()

    def _target(self, key: str) -> str:
        check_key(key)
        parent, _, name = f"{self.path}/{key.rstrip('/')}".rpartition("/")
        real = os.path.realpath(parent)
        if not self.contains(f"{real}/{name}"):
            raise S3Error("AccessDenied", "The key leads out of the volume or into the uploads' folder.")
        return f"{real}/{name}"

    async def _put_directory(self, target: str, body: Body) -> Saved:
        if await body.read(0):
            raise S3Error("InvalidArgument", "A key that ends in / is a directory and has no content.")
        with disk_refusals():
            os.makedirs(target, exist_ok=True)
        return Saved(0, hashlib.md5().hexdigest())


def check_key(key: str) -> None:
    """Refuse a key that is no path below the volume's top.

    Raises:
        S3Error: it is too long, or has an empty part, `.`, `..` or a NUL.
    """
    name = key.encode("utf-8", "surrogateescape")
    parts = name.removesuffix(b"/").split(b"/")
    if len(name) > _LONGEST_KEY_BYTES or any(len(part) > 255 for part in parts):
        raise S3Error("KeyTooLongError", "Your key is too long.")
    if any(part in (b"", b".", b"..") for part in parts) or b"\0" in name:
        raise S3Error("InvalidArgument", "The key is not a path below the top of the volume.")


@contextmanager
def disk_refusals() -> Iterator[None]:
    """Turn what the file system refuses into S3's errors."""
    try:
        yield
    except (IsADirectoryError, NotADirectoryError, FileExistsError):
        raise S3Error("InvalidRequest", "The key is a directory, or a part of it is a file.") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise S3Error("KeyTooLongError", "Your key is too long.") from None
        raise S3Error("InternalError", f"{os.strerror(error.errno or errno.EIO)}.") from None


def _copy_file(source: int, target: str) -> None:
    try:
        with open(target, "xb") as copy:
            place = 0
            while piece := os.pread(source, _PIECE_BYTES, place):
                copy.write(piece)
                place += len(piece)
    except BaseException:
        if os.path.exists(target):
            os.unlink(target)
        raise
