"""An API that quotes the key back in every way it can: nobody sees the key, and no other server gets it."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from podtasks.doors.clock import SystemClock
from podtasks.doors.runpod_rest import RunPodRest
from podtasks.doors.runpod_sdk import RunPodSdk
from podtasks.doors.s3 import S3Volume
from podtasks.pure.errors import PodtasksError
from podtasks.pure.s3_account import S3Account
from podtasks.pure.secret import Secret
from podtasks.tasks.entry import _error_text

API_KEY = "rpa_EchoedKey4471"
ACCESS_KEY, SECRET_KEY = "user_EchoedAccess9102", "rps_EchoedSecret6620"
MARKS = ("EchoedKey4471", "EchoedAccess9102", "EchoedSecret6620")
ANSWERS = {
    "GraphQL error": (200, "application/json", '{"errors": [{"message": "bad key %s"}]}'),
    "problem": (400, "application/problem+json", '{"detail": "bad key %s"}'),
    "HTML": (502, "text/html", "<html>%s</html>"),
    "no JSON": (200, "application/json", "key %s"),
    "null": (200, "application/json", '{"data": null, "told": "%s"}'),
    "S3 error": (400, "application/xml", "<Error><Code>Odd</Code><Message>key %s</Message></Error>"),
    "refused": (401, "application/json", '{"errors": [{"message": "bad key %s"}]}'),
    "moved": (307, "text/plain", "%s"),
}


class HurriedClock(SystemClock):
    def sleep(self, seconds: float) -> None:
        del seconds


class Echo(http.server.ThreadingHTTPServer):
    """Answers everything with what it was told, the request's own key in it; keeps what it heard."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), EchoHandler)
        self.answer = ANSWERS["HTML"]
        self.other: Echo | None = None
        self.heard: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def end(self) -> None:
        self.shutdown()
        self.server_close()


class EchoHandler(http.server.BaseHTTPRequestHandler):
    server: Echo

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.headers.get("Authorization", "")
        self.server.heard.append(f"{self.path} {dict(self.headers)}")
        status, kind, body = self.server.answer
        data = (body % json.dumps(key)[1:-1]).encode()
        self.send_response(status)
        if status == 307 and self.server.other is not None:
            self.send_header("Location", f"{self.server.other.url}{self.path}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_PUT = do_DELETE = do_POST

    def log_message(self, format: str, *args: object) -> None:
        del format, args


@pytest.fixture
def echo() -> Iterator[Echo]:
    made, other = Echo(), Echo()
    made.other = other
    yield made
    made.end()
    other.end()


def calls(url: str) -> dict[str, Callable[[], object]]:
    clock = HurriedClock()
    sdk = RunPodSdk(Secret(API_KEY), url, clock)
    rest = RunPodRest(Secret(API_KEY), f"{url}/v2", clock)
    account = S3Account(url, "EU-RO-1", "volume", Secret(ACCESS_KEY), Secret(SECRET_KEY))
    volume = S3Volume(account, use_proxies=False)
    return {
        "sdk": sdk.list_pods,
        "sdk, order": lambda: sdk.stop_pod("abc"),
        "rest": lambda: rest.list_pod_billing(3),
        "s3": lambda: list(volume.list_files("data")),
        "s3, read": lambda: volume.read("data/x"),
    }


@pytest.mark.parametrize("answer", ANSWERS)
def test_no_error_shows_a_key_and_no_other_server_gets_one(
    echo: Echo, answer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("botocore.retries.standard.StandardRetryConditions.is_retryable", lambda *_: False)
    echo.answer = ANSWERS[answer]
    for name, call in calls(echo.url).items():
        with pytest.raises(PodtasksError) as failure:
            call()
        shown = _error_text(failure.value)
        assert not [mark for mark in MARKS if mark in shown], (name, shown)
    assert any(MARKS[0] in text for text in echo.heard), "the key is sent where it belongs"
    # In a header: addresses end up in the logs of proxies.
    assert not [text for text in echo.heard if any(mark in text.split(" ")[0] for mark in MARKS)]
    assert echo.other is not None
    assert not [text for text in echo.other.heard if any(mark in text for mark in MARKS)]


def test_a_server_that_is_not_there_is_told_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.retries.standard.StandardRetryConditions.is_retryable", lambda *_: False)
    for name, call in calls("http://127.0.0.1:9").items():
        with pytest.raises(PodtasksError) as failure:
            call()
        assert not [mark for mark in MARKS if mark in f"{failure.value} {failure.value!r}"], name
