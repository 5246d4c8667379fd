"""The link to the guard: no event is lost or overlooked, whatever it arrives together with."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.remote.fake_pod import REMOTE, FakePod

END = {"event": "end", "reason": "user"}
OK = {"ok": True}


@pytest.fixture
def guard_link(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module."""
    monkeypatch.syspath_prepend(str(REMOTE))
    return importlib.import_module("guard_link")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def lines(*messages: dict[str, Any]) -> bytes:
    """Return messages as they go over the socket."""
    return b"".join(json.dumps(message).encode() + b"\n" for message in messages)


@pytest.mark.parametrize("messages", [(OK, END), (END, OK)], ids=["behind", "before"])
def test_an_event_that_arrives_with_a_reply_is_kept(
    guard_link: ModuleType, pair: tuple[socket.socket, socket.socket], messages: tuple[dict[str, Any], ...]
) -> None:
    link = guard_link.GuardLink(pair[0])
    pair[1].sendall(lines(*messages))
    assert link.request("status") == OK
    assert link.take_events() == [END]


class TerseGuard(threading.Thread):
    """A guard that says yes to all, and with the news of the training also says that the run is to end."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()

    def run(self) -> None:
        """Serve one supervisor until it is gone."""
        client, _ = self.listener.accept()
        with self.listener, client, client.makefile("rb") as requests:
            for request in requests:
                is_training = json.loads(request)["op"] == "training"
                client.sendall(lines(OK, END) if is_training else lines(OK))


def test_an_end_that_is_asked_for_in_the_same_breath_as_a_reply_ends_the_training(pod: FakePod) -> None:
    run_dir = pod.volume / "runs" / "r-1"
    run_dir.mkdir(parents=True)
    (pod.volume / "logs").mkdir()
    record = {**pod.request("import time; time.sleep(1000)"), "log": str(pod.volume / "logs" / "current.log")}
    (run_dir / "run.json").write_text(json.dumps({**record, "when_done": "keep", "log_start": 0}))
    guard = TerseGuard(pod.directory / "guard.sock")
    guard.start()
    supervisor = pod.start([sys.executable, str(REMOTE / "supervise.py"), str(run_dir)])
    try:
        supervisor.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        pytest.fail("the supervisor overlooked the event")
    assert pod.record(str(run_dir))["reason"] == "user"
    guard.join(10)
