"""The server: one process per state directory, on loopback only, that says when it really answers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Generator

import uvicorn
from starlette.applications import Starlette

from podtasks.emulator.cloud import Cloud
from podtasks.emulator.control_api import ControlApi
from podtasks.emulator.environment import LOOPBACK
from podtasks.emulator.files import write_json
from podtasks.emulator.front_door import FrontDoor
from podtasks.emulator.gate import Gate
from podtasks.emulator.http_api import HttpApi
from podtasks.emulator.layout import Layout
from podtasks.emulator.s3.api import S3Api
from podtasks.emulator.sandbox import Sandbox
from podtasks.emulator.usage import VolumeUsage

# Calls that a fault keeps waiting must not keep a shutdown waiting.
_LAST_CALLS_S = 1


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready, sleeps until it is told to end and leaves signals to us."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._ending = asyncio.Event()

    def end(self) -> None:
        """Let the server end."""
        self.should_exit = True
        self._ending.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start and say so."""
        await super().startup(sockets)
        self._ready()

    async def main_loop(self) -> None:
        """Wait without polling; uvicorn's own loop wakes ten times a second."""
        await self._ending.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield


async def serve(layout: Layout, sandbox: Sandbox, *, port: int, idle_exit_s: float) -> None:
    """Serve one cloud until it is told to end or has been idle for long; pods outlive it.

    Args:
        layout: the state directory, locked by the caller.
        sandbox: how containers are run.
        port: where to listen; 0 for the port of the last time, or any.
        idle_exit_s: seconds without a call and without a running pod after which the server ends.
    """
    cloud = Cloud(layout, sandbox)
    gate = Gate(cloud)
    usage = VolumeUsage(layout)
    control = ControlApi(cloud, gate, usage, lambda: server.end())
    routes = [*HttpApi(cloud, gate).routes(), *control.routes()]
    app = FrontDoor(Starlette(routes=routes), S3Api(cloud, gate.faults, gate.calls, usage))
    server = _Server(_configure(app), lambda: _announce(cloud))
    listener = _listen(port, cloud.port)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, server.end)
    await cloud.open(listener.getsockname()[1])
    idle = asyncio.create_task(_end_when_idle(cloud, idle_exit_s, server.end))
    try:
        await server.serve(sockets=[listener])
    finally:
        idle.cancel()
        await cloud.host.close()
        layout.server.unlink(missing_ok=True)
        cloud.save()


def _configure(app: FrontDoor) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        date_header=False,
        timeout_graceful_shutdown=_LAST_CALLS_S,
    )


def _listen(wished: int, last: int) -> socket.socket:
    """Listen where wished; else at the address that running pods know; else anywhere."""
    for port in dict.fromkeys([wished] if wished else [last, 0]):
        # asyncio turns Nagle's algorithm off only where the protocol is named; with it, an answer takes 40 ms.
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            listener.close()
        else:
            listener.listen(128)
            return listener
    raise SystemExit(f"podtasks.emulator: port {wished} of {LOOPBACK} is taken")


def _announce(cloud: Cloud) -> None:
    volume = cloud.account.volumes[0]
    write_json(
        cloud.layout.server,
        {
            "url": cloud.api_url,
            "pid": os.getpid(),
            "key": cloud.account.key,
            "sandbox": cloud.host.sandbox.name,
            "sandbox_note": cloud.host.sandbox.note,
            "ssh_user": cloud.host.sandbox.ssh_user,
            "volume_id": volume.id,
            "data_center": volume.data_center,
            "s3_access_key": cloud.account.s3_access_key,
            "s3_secret_key": cloud.account.s3_secret_key,
        },
    )


async def _end_when_idle(cloud: Cloud, idle_exit_s: float, end: Callable[[], None]) -> None:
    """End the server when nobody has called and no pod has run for long; sleeps in between."""
    while (left_s := cloud.last_activity + idle_exit_s - time.monotonic()) > 0 or cloud.is_busy():
        await asyncio.sleep(left_s if left_s > 0 else idle_exit_s)
    end()
