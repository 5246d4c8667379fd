"""Who is told of a run's end, failure and recovery, and what it must not disturb."""

from __future__ import annotations

import http.server
import importlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.remote.fake_pod import FakePod, wait_until
from tests.remote.test_status import add_run

SECRET = "/services/T000/B000/s3cr3t"
SAY = (
    'printf "%s %s %s\\n" "$PODTASKS_EVENT" "$PODTASKS_RUN_ID" "$PODTASKS_EXIT_CODE" >>"$HOME/told"; cat >"$HOME/json"'
)


class Hook(http.server.BaseHTTPRequestHandler):
    """A webhook that answers with the statuses it was given, one after the other, then 200."""

    server: HookServer

    def do_POST(self) -> None:
        """Note the message and answer."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.messages.append((self.path, self.headers["Content-Type"], json.loads(body)))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(f"no: {self.path}".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class HookServer(http.server.ThreadingHTTPServer):
    """The webhook's server and what it was told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Hook)
        self.messages: list[tuple[str, str, dict[str, Any]]] = []
        self.statuses: list[int] = []
        self.url = f"http://127.0.0.1:{self.server_port}{SECRET}"


@pytest.fixture
def hook() -> Iterator[HookServer]:
    """A webhook on this machine."""
    server = HookServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def notify(pod: FakePod, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, its folder that of a pod."""
    for name, value in pod.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(pod.kit))
    return importlib.import_module("notify")


def notified(pod: FakePod, run_dir: str) -> list[dict[str, Any]]:
    """Return what the record says of notifications once the pod has been told to stop."""
    pod.wait_for_stop()
    told: list[dict[str, Any]] = pod.record(run_dir)["notified"]
    return told


@pytest.mark.parametrize(
    ("script", "event", "exit_code", "words"),
    [
        ("print('well')", "ended", 0, ["has finished after", "exit code 0", "less than $0.01"]),
        ("raise MemoryError", "failed", 1, ["failed after", "exit code 1", "The pod ran out of memory"]),
    ],
)
def test_an_address_gets_the_end_of_a_run(
    pod: FakePod, hook: HookServer, script: str, event: str, exit_code: int, words: list[str]
) -> None:
    pod.start_guard()
    answer = pod.launch(script, notify=hook.url, script_env={"HF_TOKEN": "hf_secret"})
    (told,) = notified(pod, answer["run_dir"])
    assert (told["event"], told["ok"], told["detail"]) == (event, True, "HTTP 200")
    ((path, content_type, message),) = hook.messages
    assert (path, content_type) == (SECRET, "application/json")
    assert (message["event"], message["text"]) == (event, message["content"])
    assert all(text in message["text"] for text in [answer["run_id"], *words])
    assert (message["run"]["run_id"], message["run"]["exit_code"]) == (answer["run_id"], exit_code)
    assert not {"script_env", "token", "notify"} & set(message["run"])


def test_the_address_is_on_the_container_disk_only_and_private(pod: FakePod, hook: HookServer) -> None:
    hook.statuses = [404]
    pod.start_guard()
    answer = pod.launch("pass", notify=hook.url)
    (told,) = notified(pod, answer["run_dir"])
    assert (told["ok"], told["detail"]) == (False, "HTTP 404: no: ***")
    assert len(hook.messages) == 1
    places = [path for folder in (pod.volume, pod.directory) for path in folder.rglob("*") if path.is_file()]
    holding = [path for path in places if SECRET.encode() in path.read_bytes()]
    assert holding == [pod.directory / "notify.json"]
    assert holding[0].stat().st_mode & 0o777 == 0o600
    assert "notify: ended: failed: HTTP 404" in (pod.directory / "supervisor.log").read_text()


def test_a_command_gets_the_end_of_a_run_with_the_pods_environment(pod: FakePod) -> None:
    pod.start_guard()
    command = f'{SAY}; echo "$POD_VARIABLE"; pwd; exit 3'
    answer = pod.launch("raise SystemExit(7)", notify=command)
    (told,) = notified(pod, answer["run_dir"])
    assert (told["event"], told["ok"]) == ("failed", False)
    assert told["detail"] == f"exit code 3: two\\nlines\\n{pod.clone}"
    assert (pod.root / "told").read_text() == f"failed {answer['run_id']} 7\n"
    assert json.loads((pod.root / "json").read_text())["run"]["failure"]["kind"] == "unknown"
    record = pod.record(answer["run_dir"])
    assert (record["exit_code"], record["reason"]) == (7, "failed")


def test_a_run_that_was_asked_to_end_has_not_failed(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch("import time; print('begun'); time.sleep(1000)", notify=SAY)
    pod.wait_for_log(b"begun\n")
    pod.client().ask("end", reason="user")
    (told,) = notified(pod, answer["run_dir"])
    assert (told["event"], told["ok"]) == ("ended", True)
    assert "was ended by inv stop after" in json.loads((pod.root / "json").read_text())["text"]


def test_a_supervisor_that_is_killed_is_told_of_once(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch("import time; print('begun'); time.sleep(1000)", notify=SAY)
    pod.wait_for_log(b"begun\n")
    os.kill(int((pod.directory / "supervisor.pid").read_text()), signal.SIGKILL)
    (told,) = notified(pod, answer["run_dir"])
    assert (told["event"], told["ok"]) == ("failed", True)
    words = ["finish", answer["run_dir"], "--exit-code", "137", "--reason", "again"]
    subprocess.run([sys.executable, str(pod.kit / "run_record.py"), *words], env=pod.environ, check=True)
    assert (pod.root / "told").read_text() == f"failed {answer['run_id']} 137\n"
    assert len(pod.record(answer["run_dir"])["notified"]) == 1


def test_a_supervisor_that_is_killed_while_it_tells_has_ended_its_run(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch("import time; print('begun'); time.sleep(1)", notify='echo >>"$HOME/told"; sleep 5')
    pod.wait_for_log(b"begun\n")
    follower = pod.client()
    follower.ask("follow", run_id=answer["run_id"])
    wait_until((pod.root / "told").exists, "the notification")
    os.kill(int((pod.directory / "supervisor.pid").read_text()), signal.SIGKILL)
    end = follower.read()
    assert (end["exit_code"], end["reason"]) == (0, "finished")
    follower.close()
    pod.wait_for_stop()
    assert (pod.root / "told").read_text() == "\n"


def test_what_was_to_be_notified_of_an_earlier_run_is_forgotten(pod: FakePod) -> None:
    pod.start_guard()
    first = pod.launch("pass", notify=SAY, when_done="keep", run_id="r-1")
    wait_until(lambda: pod.record(first["run_dir"]).get("notified"), "the notification")
    wait_until(lambda: pod.status()["lease"] is None, "the lease")
    second = pod.launch("pass", run_id="r-2")
    pod.wait_for_stop()
    assert "notified" not in pod.record(second["run_dir"])
    assert (pod.root / "told").read_text() == "ended r-1 0\n"


def test_a_disk_that_does_not_keep_it_costs_the_notification_only(pod: FakePod) -> None:
    pod.start_guard()
    (pod.directory / "notify.json").mkdir()
    answer = pod.launch("print('trained')", notify=SAY)
    assert any("nobody will be notified" in note for note in answer["notes"])
    assert pod.wait_for_end(answer["run_dir"])["exit_code"] == 0
    pod.wait_for_stop()


# Recovery

PLACE = {"checkpoint_dir": "out", "checkpoint": {"path": "/v/out/checkpoint-200", "step": 200}}


def lost_run(pod: FakePod, **fields: object) -> dict[str, object]:
    """Return the record of a run that went down with its pod."""
    place = {"clone": str(pod.clone), "checkpoint_dir": "out"}
    times = {"launched_at": 1_700_000_000, "started_at": 1_700_000_001, "ended_at": 1_700_000_002}
    return {"run_id": "lost", "reason": "pod lost", **place, **times, **fields}


def test_a_run_that_goes_on_after_a_lost_one_is_a_recovery(pod: FakePod) -> None:
    add_run(pod, "lost", lost_run(pod))
    never_began = lost_run(pod, run_id="never", reason="not launched: x", started_at=None, launched_at=1_700_000_009)
    add_run(pod, "never", never_began)
    pod.start_guard()
    script = f"import os, time\nwhile not os.path.exists({str(pod.root / 'told')!r}): time.sleep(0.01)"
    answer = pod.launch(script, notify=SAY.replace("/json", "/json-$PODTASKS_EVENT"), **PLACE)
    recovered, ended = notified(pod, answer["run_dir"])
    assert (recovered["event"], recovered["ok"]) == ("recovered", True)
    assert (ended["event"], ended["ok"]) == ("ended", True)
    message = json.loads((pod.root / "json-recovered").read_text())
    assert message["text"] == (
        f"Run {answer['run_id']} goes on from /v/out/checkpoint-200 after lost ended without its own doing (pod lost)."
    )
    assert (pod.root / "told").read_text().splitlines()[0] == f"recovered {answer['run_id']} "


@pytest.mark.parametrize(
    ("before", "is_recovery"),
    [
        ({}, True),
        ({"reason": "supervisor killed"}, True),
        ({"reason": "SIGTERM: the pod is ending"}, True),
        ({"reason": "failed"}, False),
        ({"reason": "user"}, False),
        ({"checkpoint_dir": "elsewhere"}, False),
        ({"launched_at": 1_900_000_000}, False),
    ],
)
def test_only_a_lost_run_of_the_same_checkpoints_is_recovered(
    pod: FakePod, notify: ModuleType, before: dict[str, object], is_recovery: bool
) -> None:
    add_run(pod, "lost", lost_run(pod, **before))
    record = {"run_id": "now", "clone": str(pod.clone), "launched_at": 1_800_000_000, **PLACE}
    assert (notify.find_lost(record, str(pod.volume / "runs")) is not None) == is_recovery
    assert notify.find_lost({**record, "checkpoint": None}, str(pod.volume / "runs")) is None


# Addresses and commands that fail


def test_an_address_is_tried_again_once(notify: ModuleType, hook: HookServer) -> None:
    hook.statuses = [503]
    assert notify.post(hook.url, b"{}") == (True, "HTTP 200", False)
    hook.statuses = [503, 429]
    assert notify.post(hook.url, b"{}")[:2] == (False, f"HTTP 429: no: {SECRET}")
    assert len(hook.messages) == 4


def test_a_redirect_is_no_success(notify: ModuleType, hook: HookServer) -> None:
    hook.statuses = [302]
    assert notify.post(hook.url, b"{}")[:2] == (False, f"HTTP 302: no: {SECRET}")


def test_an_address_that_does_not_answer_takes_no_longer_than_allowed(
    notify: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "ATTEMPT_S", 0.2)
    monkeypatch.setattr(notify, "PAUSE_S", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        outcome = notify.post(f"http://127.0.0.1:{silent.getsockname()[1]}/x", b"{}")
    assert not outcome.ok
    assert "timed out" in outcome.detail
    assert 0.4 <= time.monotonic() - began < 5


def test_a_command_that_hangs_is_killed_with_all_it_started(
    notify: ModuleType, pod: FakePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "ATTEMPT_S", 0.3)
    outcome = notify.run_command("trap '' TERM; sleep 1000 & sleep 1000", "ended", {"run_id": "r"}, b"{}")
    assert outcome == (False, "killed after 0.3 s", False)
    sleeping = [pid for pid in pod.pids() if b"sleep" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert sleeping == []


def test_a_command_may_leave_its_input_and_its_folder_alone(notify: ModuleType) -> None:
    record = {"run_id": "r", "exit_code": 0, "clone": "/no/such/folder"}
    assert notify.run_command("exec <&-; pwd", "ended", record, b"x" * 1_000_000) == (True, "exit code 0: /", False)


def test_what_hangs_beyond_its_own_limits_is_killed(notify: ModuleType) -> None:
    process = subprocess.Popen(["sleep", "1000"], stdout=subprocess.PIPE, start_new_session=True)
    told = notify.notifications.finish("ended", process, 0.1)
    assert (told["ok"], told["detail"]) == (False, "it took longer than 0.1 s")


def test_an_image_without_certificates_uses_those_of_pip(
    notify: ModuleType, hook: HookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[ssl.SSLContext | None] = []

    class Handler(urllib.request.HTTPSHandler):
        def __init__(self, context: ssl.SSLContext | None = None) -> None:
            super().__init__(context=context)
            attempts.append(context)
            if context is None:
                raise urllib.error.URLError(ssl.SSLCertVerificationError("no issuer"))

    monkeypatch.setattr(notify.urllib.request, "HTTPSHandler", Handler)
    outcome = notify.post(hook.url, b"{}")
    assert attempts[0] is None
    assert isinstance(attempts[1], ssl.SSLContext)
    assert outcome.ok


@pytest.mark.parametrize(
    ("detail", "target"),
    [
        ("<urlopen error for https://h.example/a/KEY>", "https://h.example/a/KEY"),
        ("cannot post to /a/KEY?k=KEY", "https://h.example/a/KEY?k=KEY"),
        ("curl: https://h.example/KEY failed", "curl -d @- 'https://h.example/KEY'"),
    ],
)
def test_addresses_are_kept_out_of_what_is_said(notify: ModuleType, detail: str, target: str) -> None:
    assert "KEY" not in notify.conceal(detail, target)
