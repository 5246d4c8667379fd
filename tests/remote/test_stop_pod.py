"""stop_pod.py against real little HTTP servers and a runpodctl on PATH."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.remote.fake_pod import API_KEY, REMOTE, FakePod, wait_until

FAST = {"PODTASKS_SETTLE_S": "0", "PODTASKS_STOP_TIMEOUT_S": "1"}


class Api(ThreadingHTTPServer):
    """RunPod's API, as far as a pod stops itself by it; notes each request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.requests: list[tuple[str, str, str, object]] = []
        self.answers: dict[str, tuple[int, object]] = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    """Notes a request and gives the answer set for its path."""

    server: Api

    def answer(self) -> None:
        """Answer any method."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        noted = (self.command, self.path, self.headers["Authorization"], json.loads(body) if body else None)
        self.server.requests.append(noted)
        status, answer = self.server.answers.get(self.path, (200, {"data": {}}))
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_POST = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def api(pod: FakePod) -> Iterator[Api]:
    """An API that the pod's environment points at."""
    server = Api()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    pod.pod_environ.update(RUNPOD_API_URL=f"{server.url}/v2", RUNPOD_GRAPHQL_URL=f"{server.url}/graphql")
    pod.write_environ()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def stop(pod: FakePod, action: str = "stop", **settings: str) -> Path:
    """Start stop_pod.py; return the file with what it says."""
    said = pod.root / "said"
    with said.open("wb") as file:
        words = [sys.executable, str(REMOTE / "stop_pod.py"), action]
        pod.processes.append(
            subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**pod.environ, **FAST, **settings},
                start_new_session=True,
            )
        )
    return said


def test_stop_goes_through_every_way_though_each_says_it_worked(pod: FakePod, api: Api) -> None:
    said = stop(pod)
    wait_until(lambda: len(api.requests) >= 2, "both APIs")
    assert pod.stops.read_text().splitlines()[:2] == ["pod stop pod123", "stop pod pod123"]
    bearer = f"Bearer {API_KEY}"
    query = 'mutation { podStop(input: {podId: "pod123"}) { id desiredStatus } }'
    assert api.requests[:2] == [
        ("POST", "/v2/pods/pod123/action", bearer, {"action": "stop"}),
        ("POST", "/graphql", bearer, {"query": query}),
    ]
    wait_until(lambda: said.read_text().count("accepted") >= 4, "the log")


def test_terminate_uses_the_words_and_methods_for_it(pod: FakePod, api: Api) -> None:
    stop(pod, "terminate")
    wait_until(lambda: len(api.requests) >= 2, "both APIs")
    assert pod.stops.read_text().splitlines()[:2] == ["pod delete pod123", "remove pod pod123"]
    assert [(method, path) for method, path, _, _ in api.requests[:2]] == [
        ("DELETE", "/v2/pods/pod123"),
        ("POST", "/graphql"),
    ]
    assert api.requests[1][3] == {"query": 'mutation { podTerminate(input: {podId: "pod123"}) }'}


def test_it_goes_on_in_further_rounds(pod: FakePod, api: Api) -> None:
    stop(pod)
    wait_until(lambda: len(api.requests) >= 4, "a second round")
    assert pod.stops.read_text().count("pod stop pod123") >= 2


def test_a_way_that_worked_gets_time_before_the_next(pod: FakePod, api: Api) -> None:
    said = stop(pod, PODTASKS_SETTLE_S="1000")
    wait_until(lambda: "accepted" in said.read_text(), "the first way")
    assert pod.stops.read_text().splitlines() == ["pod stop pod123"]
    assert api.requests == []


@pytest.mark.parametrize("script", ["exit 1", "sleep 1000", "kill -9 $$"])
def test_a_runpodctl_that_fails_or_hangs_leaves_it_to_the_api(pod: FakePod, api: Api, script: str) -> None:
    pod.add_program("runpodctl", script)
    said = stop(pod)
    wait_until(lambda: api.requests, "REST v2")
    assert said.read_text().count("failed") >= 2


def test_without_runpodctl_the_api_is_used(pod: FakePod, api: Api) -> None:
    (pod.programs / "runpodctl").unlink()
    said = stop(pod)
    wait_until(lambda: api.requests, "REST v2")
    assert "runpodctl is not installed" in said.read_text()


def test_a_rest_api_that_refuses_leaves_it_to_graphql_and_errors_inside_a_200_are_failures(
    pod: FakePod, api: Api
) -> None:
    api.answers["/v2/pods/pod123/action"] = (410, {"title": "Gone"})
    api.answers["/graphql"] = (200, {"errors": [{"message": "not yours"}]})
    said = stop(pod)
    wait_until(lambda: "not yours" in said.read_text(), "GraphQL's answer")
    assert "REST v2 failed: RuntimeError: HTTP 410" in said.read_text()
    assert "GraphQL failed" in said.read_text()


def test_the_key_is_neither_in_arguments_nor_in_the_log(pod: FakePod, api: Api) -> None:
    pod.add_program("runpodctl", f'tr "\\0" " " </proc/$$/cmdline >>{pod.stops}; echo "$RUNPOD_API_KEY"; exit 1')
    api.answers["/graphql"] = (401, {"message": f"key {API_KEY} is wrong"})
    said = stop(pod)
    wait_until(lambda: said.read_text().count("failed") >= 3, "the log")
    assert API_KEY not in said.read_text()
    assert API_KEY not in pod.stops.read_text()
    assert "***" in said.read_text()


def test_a_machine_that_is_no_pod_is_left_alone(pod: FakePod, api: Api) -> None:
    pod.pod_environ.pop("RUNPOD_POD_ID")
    pod.write_environ()
    said = stop(pod)
    wait_until(lambda: "RUNPOD_POD_ID is not" in said.read_text(), "the log")
    assert not pod.stops.exists()
    assert api.requests == []


def test_missing_certificates_are_installed_once(pod: FakePod, api: Api) -> None:
    installs = pod.root / "installs"
    pod.add_program("apt-get", f'echo "$*" >>{installs}')
    pod.add_program("runpodctl", "echo 'x509: certificate signed by unknown authority' >&2; exit 1")
    stop(pod, PATH=f"{pod.programs}:{os.environ['PATH']}")
    wait_until(lambda: len(api.requests) >= 3, "a second round")
    assert installs.read_text().splitlines() == ["update -qq", "install -y -qq ca-certificates"]


def test_other_words_are_refused(pod: FakePod) -> None:
    done = subprocess.run(
        [sys.executable, str(REMOTE / "stop_pod.py"), "pause"],
        env=pod.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "usage" in done.stderr
