"""The tunnel to a pod's port, over a real sshd."""

from __future__ import annotations

import concurrent.futures
import hashlib
import http.client
import http.server
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from podtasks.doors import local_port
from podtasks.doors.ssh import PodShell, SshLogin
from podtasks.doors.tunnel import Tunnel
from podtasks.pure.pod import SshEndpoint
from tests.end_to_end.project import descendants
from tests.remote.sshd import Sshd, free_port, make_key, wait_until

PAGE_BYTES = 3_000_000


class Page(http.server.BaseHTTPRequestHandler):
    """Gives a page of a size of its own for each path, and the digest of what is posted."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(self.path.encode() * (PAGE_BYTES // len(self.path)))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(hashlib.sha256(body).hexdigest().encode())

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    key = make_key(tmp_path / "key")
    daemon = Sshd(tmp_path, key.with_suffix(".pub"))
    yield daemon
    daemon.end()


@pytest.fixture
def shell(tmp_path: Path, sshd: Sshd) -> Iterator[PodShell]:
    login = SshLogin(
        tmp_path / "key", sshd.host_key.with_suffix(".pub").read_text(), user=os.environ.get("USER", "root")
    )
    with PodShell(SshEndpoint("127.0.0.1", sshd.port), login) as shell:
        yield shell


@pytest.fixture
def listener() -> Iterator[local_port.Listener]:
    with local_port.claim(0) as listener:
        yield listener


def fetch(port: int, path: str, body: bytes | None = None) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("POST" if body is not None else "GET", path, body)
        return connection.getresponse().read()
    finally:
        connection.close()


def has_ended(tunnel: Tunnel) -> bool:
    waiting = threading.Thread(target=tunnel.wait, daemon=True)
    waiting.start()
    waiting.join(timeout=10)
    return not waiting.is_alive()


def test_many_connections_at_once_arrive_whole_both_ways(
    shell: PodShell, server: http.server.ThreadingHTTPServer, listener: local_port.Listener
) -> None:
    port = local_port.port_of(listener)
    tunnel = shell.forward(listener, server.server_port)
    body = os.urandom(PAGE_BYTES)
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        pages = pool.map(lambda number: fetch(port, f"/{number:03}"), range(12))
        digests = pool.map(lambda _: fetch(port, "/", body), range(4))
        assert all(page == f"/{number:03}".encode() * (PAGE_BYTES // 4) for number, page in enumerate(pages))
        assert set(digests) == {hashlib.sha256(body).hexdigest().encode()}
    tunnel.close()


def test_end_of_what_one_side_sends_reaches_the_other_which_may_still_answer(
    shell: PodShell, listener: local_port.Listener
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        tunnel = shell.forward(listener, server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", local_port.port_of(listener)), timeout=10) as client:
            client.sendall(b"question")
            client.shutdown(socket.SHUT_WR)
            connection, _ = server.accept()
            with connection, connection.makefile("rb") as asked:
                connection.settimeout(10)
                assert asked.read() == b"question"
                connection.sendall(b"answer")
            with client.makefile("rb") as answered:
                assert answered.read() == b"answer"
        tunnel.close()


def test_client_that_leaves_early_disturbs_nobody(
    shell: PodShell, server: http.server.ThreadingHTTPServer, listener: local_port.Listener
) -> None:
    port = local_port.port_of(listener)
    tunnel = shell.forward(listener, server.server_port)
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", port)) as early:
            early.sendall(b"GET /early HTTP/1.1\r\nHost: x\r\n\r\n")
            early.recv(10)
    assert fetch(port, "/x").startswith(b"/x/x")
    tunnel.close()


def test_port_that_nobody_has_on_the_pod_ends_the_tunnel(shell: PodShell, listener: local_port.Listener) -> None:
    tunnel = shell.forward(listener, free_port())
    assert not local_port.answers_http(local_port.port_of(listener), 10)
    assert has_ended(tunnel)
    tunnel.close()


def test_broken_link_ends_the_tunnel_and_the_next_one_takes_the_same_port(
    shell: PodShell, sshd: Sshd, server: http.server.ThreadingHTTPServer, listener: local_port.Listener
) -> None:
    port = local_port.port_of(listener)
    tunnel = shell.forward(listener, server.server_port)
    assert fetch(port, "/x")
    for pid in descendants(sshd.pid)[1:]:
        os.kill(pid, signal.SIGKILL)
    assert has_ended(tunnel)
    tunnel.close()
    shell.close()
    shell.connect()
    again = shell.forward(listener, server.server_port)
    assert fetch(port, "/y").startswith(b"/y/y")
    again.close()


def test_closed_tunnel_leaves_no_thread_and_takes_no_connection(
    shell: PodShell, server: http.server.ThreadingHTTPServer, listener: local_port.Listener
) -> None:
    tunnel = shell.forward(listener, server.server_port)
    tunnel.close()
    assert has_ended(tunnel)
    wait_until(lambda: not any(thread.name == "tunnel" for thread in threading.enumerate()))
