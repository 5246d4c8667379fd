"""Connections to a port of this machine, carried to a port on a pod over one SSH connection.

Fabric's own forwarding (fabric/tunnels.py) reports a taken port only at its end, gives up all connections when the
pod refuses one, and looks for new ones a hundred times a second.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any

from podtasks.pure.errors import TransportError

PIECE_BYTES = 1 << 16
# Opens a channel to the pod's port; raises TransportError when the pod refuses it or is gone.
OpenChannel = Callable[[tuple[str, int]], Any]


class Tunnel:
    """Carries whatever connects to `listener`, until it is closed; the listener itself stays open.

    Args:
        listener: a listening socket.
        open_channel: opens a channel to the pod's port for a connection from this address.
    """

    def __init__(self, listener: socket.socket, open_channel: OpenChannel) -> None:
        listener.setblocking(False)
        self._listener = listener
        self._open_channel = open_channel
        self._ended = threading.Event()
        self._wake, self._woken = socket.socketpair()
        self._acceptor = threading.Thread(target=self._accept, name="tunnel", daemon=True)
        self._acceptor.start()

    def end(self) -> None:
        """Let `wait` return: the link is broken, or nobody listens on the pod's port any more."""
        self._ended.set()

    def wait(self) -> None:
        """Return when the tunnel leads nowhere any more."""
        self._ended.wait()

    def close(self) -> None:
        """Take no more connections; those there are end with the SSH connection."""
        self.end()
        self._wake.close()
        self._acceptor.join()
        self._woken.close()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fileobj for key, _ in selector.select()}
                if self._woken in ready:
                    return
                # Whoever connected may have gone again.
                with contextlib.suppress(OSError):
                    connection, address = self._listener.accept()
                    threading.Thread(target=self._carry, args=(connection, address), daemon=True).start()

    def _carry(self, connection: socket.socket, address: tuple[str, int]) -> None:
        with connection:
            connection.setblocking(True)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                channel = self._open_channel(address)
            except TransportError:
                self.end()
                return
            upward = threading.Thread(target=_copy_up, args=(connection, channel), daemon=True)
            upward.start()
            _copy_down(channel, connection)
            with contextlib.suppress(OSError, EOFError):  # the link may be the first to go
                channel.close()
            upward.join()


def _copy_up(connection: socket.socket, channel: Any) -> None:  # noqa: ANN401  paramiko's channel
    """Send what this side sends to the pod, and then its end."""
    with contextlib.suppress(OSError, EOFError):
        while data := connection.recv(PIECE_BYTES):
            channel.sendall(data)
        channel.shutdown_write()


def _copy_down(channel: Any, connection: socket.socket) -> None:  # noqa: ANN401
    """Send what the pod sends to this side. At its end the other direction is over too: a server has closed."""
    with contextlib.suppress(OSError, EOFError):
        while data := channel.recv(PIECE_BYTES):
            connection.sendall(data)
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
