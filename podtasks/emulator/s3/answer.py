"""What the S3 API sends back, a file's bytes included."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from email.utils import formatdate
from functools import lru_cache

from podtasks.emulator.s3.request import Send

_PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class Extent:
    """Bytes of a file: an open descriptor, which `send` and `drop` close, where to begin and how many."""

    descriptor: int
    start: int
    size_bytes: int


@dataclass
class Answer:
    """A status, headers and a body: bytes, or a part of a file."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    content: bytes = b""
    extent: Extent | None = None
    error: str | None = None

    async def send(self, send: Send, *, has_body: bool, is_cut: bool = False) -> None:
        """Send it.

        Args:
            send: the server's.
            has_body: False for a HEAD request, whose answer has only the headers.
            is_cut: break off after half of the body.
        """
        try:
            await self._send_start(send, is_cut=is_cut)
            if self.extent is None or not has_body:
                content = self.content if has_body else b""
                kept = content[: len(content) // 2] if is_cut else content
                await send({"type": "http.response.body", "body": kept, "more_body": is_cut})
            else:
                await self._send_file(self.extent, send, is_cut=is_cut)
        finally:
            self.drop()

    def drop(self) -> None:
        """Let go of the file; for an answer that is not sent."""
        if self.extent is not None:
            os.close(self.extent.descriptor)
            self.extent = None

    async def _send_start(self, send: Send, *, is_cut: bool) -> None:
        headers = [(name.encode(), value.encode("latin-1")) for name, value in self.headers.items()]
        headers.append((b"date", _now_text(int(time.time()))))
        if "content-length" not in self.headers and self.status not in (204, 304):
            size_bytes = len(self.content) if self.extent is None else self.extent.size_bytes
            headers.append((b"content-length", str(size_bytes + is_cut).encode()))
        await send({"type": "http.response.start", "status": self.status, "headers": headers})

    async def _send_file(self, extent: Extent, send: Send, *, is_cut: bool) -> None:
        place, left = extent.start, extent.size_bytes // 2 if is_cut else extent.size_bytes
        while left:
            piece = os.pread(extent.descriptor, min(left, _PIECE_BYTES), place)
            if not piece:
                return  # The file became shorter; the server cuts the connection.
            place, left = place + len(piece), left - len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        if not is_cut:
            await send({"type": "http.response.body", "body": b""})


@lru_cache(maxsize=2)
def _now_text(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
