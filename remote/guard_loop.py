"""The guard's loop: clients on a unix socket, deadlines, child processes; one select, no polling.

Each deadline is the select's timeout, kept on the monotonic clock so that a clock jump neither stops a pod nor
keeps it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

LONGEST_REQUEST = 1 << 20
LONGEST_WAIT_S = 3600.0  # Linux: epoll_wait(2) counts milliseconds in an int: 24 days at most


class Connection:
    """One client: its socket, what it has sent of its next line, and what it is here for."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.role: str | None = None
        self.who = ""

    def send(self, message: dict[str, Any]) -> None:
        """Send one line; a client that does not read its lines loses its connection."""
        try:
            self.sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.hang_up()

    def hang_up(self) -> None:
        """End the connection; the loop then reads its end and forgets it."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Loop:
    """Serves clients and deadlines, for a class that says what they mean.

    `deadlines` maps the name of a deadline to its monotonic time. When it is over, the method `on_<name>` is
    called; a request {"op": <name>} is answered by the method `op_<name>`.
    """

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.connections: dict[int, Connection] = {}
        self.deadlines: dict[str, float] = {}
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    def on_hang_up(self, connection: Connection) -> None:
        """React to the end of a connection."""

    # Clients

    def serve(self, listener: socket.socket) -> None:
        """Serve clients and deadlines for ever."""
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        while True:
            for key, _ in self.selector.select(self.time_left_s()):
                key.data(key.fileobj)
            self.fire_deadlines()

    def accept(self, listener: socket.socket) -> None:
        """Take on a new client."""
        sock, _ = listener.accept()
        sock.setblocking(False)
        self.connections[sock.fileno()] = Connection(sock)
        self.selector.register(sock, selectors.EVENT_READ, self.receive)

    def receive(self, sock: socket.socket) -> None:
        """Read from a client and answer each whole line."""
        connection = self.connections[sock.fileno()]
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.received += data
        *lines, connection.received = connection.received.split(b"\n")
        for line in lines:
            connection.send(self.answer(connection, line))
        if not data or len(connection.received) > LONGEST_REQUEST:
            self.drop(connection)

    def answer(self, connection: Connection, line: bytes) -> dict[str, Any]:
        """Return the reply to one request."""
        try:
            request = json.loads(line)
            reply: dict[str, Any] = getattr(self, f"op_{request['op']}")(connection, request)
        except Exception as error:  # a client's mistake must not end the guard
            say(f"bad request: {type(error).__name__}: {error}")
            return {"ok": False, "error": f"bad request: {type(error).__name__}: {error}"}
        return reply

    def drop(self, connection: Connection) -> None:
        """Forget a client whose connection is closed."""
        del self.connections[connection.sock.fileno()]
        self.selector.unregister(connection.sock)
        connection.sock.close()
        self.on_hang_up(connection)

    # Deadlines

    def time_left_s(self) -> float | None:
        """Return the seconds to the next deadline, an hour at most; None when there is none."""
        if not self.deadlines:
            return None
        return min(LONGEST_WAIT_S, max(0.0, min(self.deadlines.values()) - time.monotonic()))

    def fire_deadlines(self) -> None:
        """Call `on_<name>` for each deadline that is over."""
        now = time.monotonic()
        for name in [name for name, at in self.deadlines.items() if at <= now]:
            if self.deadlines.pop(name, None) is not None:
                getattr(self, f"on_{name}")()

    def set_deadline(self, name: str, seconds: float) -> None:
        """Set the deadline `name` to `seconds` from now."""
        self.deadlines[name] = time.monotonic() + seconds

    def left_s(self, name: str) -> float | None:
        """Return the seconds left to a deadline, None when it is not set."""
        return max(0.0, self.deadlines[name] - time.monotonic()) if name in self.deadlines else None

    # Child processes

    def start_child(self, name: str, words: list[str], then: Callable[[], None]) -> None:
        """Start a program; call `then` when it has ended (its end closes a pipe that wakes the loop)."""
        reader, writer = os.pipe()
        try:
            child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=sys.stdout, stderr=sys.stdout, pass_fds=(writer,)
            )
        except OSError as error:
            say(f"cannot start {words}: {error}")
            os.close(reader)
            then()
            return
        finally:
            os.close(writer)
        self.children[name] = child

        def ended(number: int) -> None:
            self.selector.unregister(number)
            os.close(number)
            child.wait()
            then()

        self.selector.register(reader, selectors.EVENT_READ, ended)


def say(text: str) -> None:
    """Write one line with its time to the guard's log."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    with contextlib.suppress(OSError):  # a full disk must not end the guard
        print(f"{stamp} {text}", flush=True)
