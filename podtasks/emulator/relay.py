"""The network between the world and a pod's sshd: a TCP relay at the public port that can be disturbed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

from podtasks.emulator.environment import LOOPBACK

_BUFFER_BYTES = 256 * 1024
_BACKLOG = 128
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Relay:
    """The public SSH port of one start of a pod. Must be made inside a running event loop.

    Each direction holds one buffer per connection and reads on only when that has been passed on, so a
    stalled direction fills the sender's window and nothing else. A FIN is passed on in its direction alone,
    a failed connection as a reset.

    Args:
        public_port: where it listens, from now on.
        inner_port: where the pod's sshd listens.

    Raises:
        OSError: the public port is taken.
    """

    def __init__(self, public_port: int, inner_port: int) -> None:
        self.inner_port = inner_port
        self._public_port = public_port
        self._ways = {"to_pod": _Way(), "from_pod": _Way()}
        self._connections: set[asyncio.Task[None]] = set()
        self._refusal: asyncio.TimerHandle | None = None
        self._listener = _bind(public_port)
        self._accepting = self._accept()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def refuse(self, seconds: float) -> None:
        """Refuse new connections for some seconds from now; open ones stay."""
        self._close_listener()
        self._listener = _bind(self._public_port)
        self._refusal = asyncio.get_running_loop().call_later(seconds, self._listen_again)

    def stall(self, ways: tuple[str, ...], seconds: float) -> None:
        """Let all bytes of some directions ("to_pod", "from_pod") wait for some seconds from now."""
        for name in ways:
            self._ways[name].stall(seconds)

    def reset(self) -> None:
        """Reset all open connections, at both ends."""
        for connection in self._connections:
            connection.cancel()

    def move(self, public_port: int) -> None:
        """Listen at another port instead and reset all open connections; a refusal goes on there.

        Raises:
            OSError: that port is taken; nothing has changed then.
        """
        listener = _bind(public_port)
        refused_until = None if self._refusal is None else self._refusal.when()
        self._close_listener()
        self._listener, self._public_port = listener, public_port
        if refused_until is None:
            self._accepting = self._accept()
        else:
            self._refusal = asyncio.get_running_loop().call_at(refused_until, self._listen_again)
        self.reset()

    def close(self) -> None:
        """Listen no more; open connections end when the pod's end of them does and the network lets that pass."""
        self._close_listener()

    def _close_listener(self) -> None:
        self._accepting.cancel()
        if self._refusal is not None:
            self._refusal.cancel()
            self._refusal = None
        asyncio.get_running_loop().remove_reader(self._listener)
        self._listener.close()

    def _listen_again(self) -> None:
        self._refusal = None
        self._accepting = self._accept()

    def _accept(self) -> asyncio.Task[None]:
        self._listener.listen(_BACKLOG)
        return asyncio.create_task(self._accept_from(self._listener))

    async def _accept_from(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = await asyncio.get_running_loop().sock_accept(listener)
            except ConnectionError:
                continue
            connection = asyncio.create_task(self._serve(client))
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)

    async def _serve(self, client: socket.socket) -> None:
        """Pass a connection's bytes on until both directions have ended, or reset both ends."""
        pod = socket.socket()
        pumps: list[asyncio.Task[None]] = []
        try:
            await self._connect(client, pod)
            to_pod, from_pod = self._ways["to_pod"], self._ways["from_pod"]
            pumps.append(asyncio.create_task(_pump(client, pod, to_pod, from_pod)))
            pumps.append(asyncio.create_task(_pump(pod, client, from_pod, to_pod)))
            await asyncio.gather(*pumps)
        except (OSError, asyncio.CancelledError):
            for end in (client, pod):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        finally:
            await _cancelled(pumps)
            client.close()
            pod.close()

    async def _connect(self, client: socket.socket, pod: socket.socket) -> None:
        for end in (client, pod):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(pod, (LOOPBACK, self.inner_port))


class _Way:
    """One direction of a pod's network: open, or stalled for a while."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._end: asyncio.TimerHandle | None = None

    def stall(self, seconds: float) -> None:
        """Let nothing pass for some seconds from now, whatever was ordered before."""
        if self._end is not None:
            self._end.cancel()
        self._open.clear()
        self._end = asyncio.get_running_loop().call_later(seconds, self._open.set)

    async def opened(self) -> None:
        """Wait until the direction is open."""
        await self._open.wait()


async def _pump(source: socket.socket, target: socket.socket, way: _Way, back: _Way) -> None:
    """Pass bytes on in one direction until their FIN; what fails is told when the network lets it pass.

    Args:
        source, target: from where to where.
        way: the direction of the bytes.
        back: the other one, in which a target that has failed says so.
    """
    loop, buffer = asyncio.get_running_loop(), memoryview(bytearray(_BUFFER_BYTES))
    while True:
        async with _told_by(way):
            size = await loop.sock_recv_into(source, buffer)
        await way.opened()
        async with _told_by(back):
            if size == 0:
                target.shutdown(socket.SHUT_WR)
                return
            await loop.sock_sendall(target, buffer[:size])


@contextlib.asynccontextmanager
async def _told_by(way: _Way) -> AsyncIterator[None]:
    """Hold an error of a socket back until the direction in which it travels is open."""
    try:
        yield
    except OSError:
        await way.opened()
        raise


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    """Cancel tasks and wait until they let go of what they use."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _bind(port: int) -> socket.socket:
    """Return a socket that owns a port; until it listens, connections to the port are refused."""
    result = socket.socket()
    result.setblocking(False)
    result.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        result.bind((LOOPBACK, port))
    except OSError:
        result.close()
        raise
    return result
