"""Answers that come byte by byte, or without end: no command may hang on them."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from podtasks.doors import runpod_sdk
from podtasks.doors.runpod_sdk import _StatusKeeper


class Slow(http.server.BaseHTTPRequestHandler):
    """Says a long answer at the pace that the address names."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        if self.path == "/whole":
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b'"ok"')
            return
        self.send_header("Content-Length", "1000000000")
        self.end_headers()
        piece, pause_s = (b" ", 0.05) if self.path == "/dribble" else (b" " * 65536, 0.0)
        try:
            while True:
                self.wfile.write(piece)
                time.sleep(pause_s)
        except OSError:
            return

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_an_answer_that_dribbles_is_given_up(url: str) -> None:
    keeper = _StatusKeeper(use_proxies=False, longest_s=0.5)

    with pytest.raises(requests.exceptions.ReadTimeout, match="no whole answer within"):
        keeper.post(f"{url}/dribble", data="{}", timeout=30)

    assert keeper.post(f"{url}/whole", data="{}", timeout=30).json() == "ok"


def test_an_answer_without_end_is_cut(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runpod_sdk, "LARGEST_ANSWER_BYTES", 1_000_000)
    keeper = _StatusKeeper(use_proxies=False, longest_s=20)

    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="too long"):
        keeper.post(f"{url}/flood", data="{}", timeout=30)
