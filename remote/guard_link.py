"""A client's connection to the guard of this pod."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import subprocess
import sys
import time
from typing import Any

from pod_environ import container_directory, read_pod_environ

REPLY_TIMEOUT_S = 10.0
START_TIMEOUT_S = 10.0


class GuardGone(Exception):
    """No guard answers on the socket, or it went away in the middle."""


class GuardLink:
    """An open connection: requests with their replies, and the events the guard pushes between them."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._received = b""
        self._events: list[dict[str, Any]] = []

    def fileno(self) -> int:
        """Return the descriptor to select on for events."""
        return self._sock.fileno()

    def request(self, op: str, **fields: object) -> dict[str, Any]:
        """Return the guard's reply to `op`. Raise GuardGone when there is none within 10 s."""
        try:
            self._sock.sendall(json.dumps({"op": op, **fields}).encode() + b"\n")
        except OSError as error:
            raise GuardGone(str(error)) from error
        deadline = time.monotonic() + REPLY_TIMEOUT_S
        while True:
            replies: list[dict[str, Any]] = []
            for message in self._read(max(0.0, deadline - time.monotonic())):
                (self._events if "event" in message else replies).append(message)
            if replies:
                return replies[0]
            if time.monotonic() > deadline:
                raise GuardGone("the guard does not answer")

    def has_events(self) -> bool:
        """Say whether there are events that came with a reply: no select tells of them any more."""
        return bool(self._events)

    def take_events(self, timeout_s: float = 0.0) -> list[dict[str, Any]]:
        """Return the events that came, waiting for the first one. Raise GuardGone when the guard left."""
        if not self._events:
            self._events += self._read(timeout_s)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """End the connection, and with it the lease it held."""
        self._sock.close()

    def _read(self, timeout_s: float) -> list[dict[str, Any]]:
        if not select.select([self._sock], [], [], timeout_s)[0]:
            return []
        try:
            data = self._sock.recv(65536)
        except OSError as error:
            raise GuardGone(str(error)) from error
        if not data:
            raise GuardGone("the guard closed the connection")
        *lines, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in lines]


def connect() -> GuardLink:
    """Return a connection to the guard. Raise GuardGone when none listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(REPLY_TIMEOUT_S)
    try:
        sock.connect(os.path.join(container_directory(), "guard.sock"))
    except OSError as error:
        sock.close()
        raise GuardGone(f"no guard answers: {error}") from error
    return GuardLink(sock)


def connect_or_start() -> GuardLink:
    """Return a connection to the guard, started if none answers. Raise GuardGone when that fails too."""
    with contextlib.suppress(GuardGone):
        return connect()
    start_guard()
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return connect()
        except GuardGone:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def start_guard() -> None:
    """Start the guard of this kit in a session of its own; beside another one it waits as a spare."""
    directory = container_directory()
    os.makedirs(directory, exist_ok=True)
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guard.py")
    environ = {**read_pod_environ(), **_own_settings()}
    environ.pop("PODTASKS_HOST_KEY", None)
    with open(os.path.join(directory, "guard.log"), "ab") as log:
        subprocess.Popen(
            [sys.executable, program],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environ,
            cwd="/",
            start_new_session=True,
        )


def _own_settings() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith("PODTASKS_")}
