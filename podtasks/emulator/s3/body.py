"""The body of an upload: read once, measured and hashed on its way to the disk."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
from dataclasses import dataclass

from podtasks.emulator.s3.errors import S3Error, not_implemented
from podtasks.emulator.s3.request import S3Request

# Bodies up to this many bytes are written at once, without a thread.
_SMALL_BYTES = 1 << 20
_UNSIGNED = "UNSIGNED-PAYLOAD"
_CHUNKED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_CHECKSUM_HEADERS = ("x-amz-trailer", "x-amz-sdk-checksum-algorithm")


class ClientGoneError(Exception):
    """The client hung up before its body was whole."""


@dataclass(frozen=True)
class Saved:
    """What was written: its size and its MD5 in hexadecimal."""

    size_bytes: int
    md5: str


class Body:
    """What a request carries.

    Args:
        request: the request.
        allows_checksums: whether flexible checksums (x-amz-trailer and the like) are accepted; they are
            then taken off and not compared.

    Raises:
        S3Error: a header asks for what is not supported, or there is no length.
    """

    def __init__(self, request: S3Request, *, allows_checksums: bool) -> None:
        self._receive = request.receive
        headers = request.headers
        self._payload_hash = headers["x-amz-content-sha256"]
        self._is_chunked = self._payload_hash.startswith("STREAMING-")
        _refuse_checksums(headers, self._payload_hash, allows_checksums=allows_checksums)
        self._md5 = headers.get("content-md5")
        name = "x-amz-decoded-content-length" if self._is_chunked else "content-length"
        length = headers.get(name, "")
        if not length.isdecimal():
            raise S3Error("MissingContentLength", "You must provide the Content-Length HTTP header.")
        self.size_bytes = int(length)

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole of a small body.

        Raises:
            S3Error: it is larger than the limit or not what was signed.
        """
        if self.size_bytes > limit_bytes:
            raise S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
        content = bytearray()
        is_last = False
        while not is_last:
            piece, is_last = await self._next()
            content += piece
        whole = _ChunkDecoder().decode(bytes(content)) if self._is_chunked else bytes(content)
        self._check(len(whole), hashlib.md5(whole), self._new_sha256(whole))
        return whole

    async def save(self, path: str) -> Saved:
        """Write the body to a new file, big ones by a thread and never whole in memory.

        Raises:
            S3Error: it is not what was signed; the file is gone then.
            ClientGoneError: the client hung up; the file is gone then.
        """
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            return await self._save_to(descriptor)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(descriptor)

    async def _save_to(self, descriptor: int) -> Saved:
        if self.size_bytes <= _SMALL_BYTES:
            content = await self.read(_SMALL_BYTES)
            _write(descriptor, content)
            return Saved(len(content), hashlib.md5(content).hexdigest())
        md5, sha256, decoder = hashlib.md5(), self._new_sha256(b""), _ChunkDecoder() if self._is_chunked else None
        size_bytes, is_last = 0, False
        while not is_last:
            pieces, is_last = await self._next_pieces()
            content = decoder.decode(pieces) if decoder else pieces
            size_bytes += len(content)
            await asyncio.to_thread(_write_and_hash, descriptor, content, [md5, sha256] if sha256 else [md5])
        self._check(size_bytes, md5, sha256)
        return Saved(size_bytes, md5.hexdigest())

    async def _next_pieces(self) -> tuple[bytes, bool]:
        content, is_last = bytearray(), False
        while not is_last and len(content) < _SMALL_BYTES:
            piece, is_last = await self._next()
            content += piece
        return bytes(content), is_last

    async def _next(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message.get("body", b""), not message.get("more_body", False)

    def _new_sha256(self, content: bytes) -> hashlib._Hash | None:
        return None if self._payload_hash == _UNSIGNED or self._is_chunked else hashlib.sha256(content)

    def _check(self, size_bytes: int, md5: hashlib._Hash, sha256: hashlib._Hash | None) -> None:
        if size_bytes != self.size_bytes:
            raise S3Error("IncompleteBody", "The body has not the number of bytes that the header says.")
        if sha256 is not None and not hmac.compare_digest(sha256.hexdigest(), self._payload_hash.lower()):
            raise S3Error(
                "XAmzContentSHA256Mismatch", "The provided x-amz-content-sha256 header does not match the body."
            )
        if self._md5 is not None and md5.digest() != _decode_base64(self._md5):
            raise S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.")


class _ChunkDecoder:
    """Takes the frames of aws-chunked off; the trailer with the checksum is dropped."""

    def __init__(self) -> None:
        self._rest = b""
        self._left_bytes = 0
        self._is_trailer = False

    def decode(self, content: bytes) -> bytes:
        """Return the payload in the next piece of the stream."""
        result, rest = bytearray(), self._rest + content
        while rest and not self._is_trailer:
            if self._left_bytes:
                piece, rest = rest[: self._left_bytes], rest[self._left_bytes :]
                self._left_bytes -= len(piece)
                result += piece
                continue
            line, end, after = rest.lstrip(b"\r\n").partition(b"\r\n")
            if not end:
                break
            try:
                self._left_bytes = int(line.partition(b";")[0], 16)
            except ValueError:
                raise S3Error("IncompleteBody", "A chunk of the body has no length.") from None
            self._is_trailer = self._left_bytes == 0
            rest = after
        self._rest = b"" if self._is_trailer else rest
        return bytes(result)


def _refuse_checksums(headers: dict[str, str], payload_hash: str, *, allows_checksums: bool) -> None:
    if payload_hash.startswith("STREAMING-") and payload_hash != _CHUNKED:
        raise not_implemented(f"A header that you provided (x-amz-content-sha256: {payload_hash})")
    if allows_checksums:
        return
    present = [name for name in _CHECKSUM_HEADERS if name in headers]
    if present:
        raise not_implemented(f"A header that you provided ({present[0]}, flexible checksums)")
    if payload_hash == _CHUNKED or "aws-chunked" in headers.get("content-encoding", ""):
        raise not_implemented("A header that you provided (content-encoding: aws-chunked)")


def _write_and_hash(descriptor: int, content: bytes, hashes: list[hashlib._Hash]) -> None:
    _write(descriptor, content)
    for item in hashes:
        item.update(content)


def _write(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""
