"""tensorboard.py with real tmux and a stand-in for TensorBoard: one session, healthy, on the right folder."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.remote.fake_pod import FakePod, as_object, is_running, wait_until

# Answers as TensorBoard does; counts its starts; fails as the file `trouble` says.
STUB = """
import http.server, json, os, sys
place = os.environ["PODTASKS_DIR"]
trouble = os.path.join(place, "trouble")
if "--version" in sys.argv:
    sys.exit(os.path.exists(os.path.join(place, "broken")))
options = dict(word[2:].split("=", 1) for word in sys.argv[1:])
with open(os.path.join(place, "starts"), "a") as file:
    file.write(json.dumps({**options, "gpu": os.environ["CUDA_VISIBLE_DEVICES"], "nice": os.nice(0)}) + "\\n")
if os.path.exists(trouble):
    text = open(trouble).read()
    if text.startswith("once"):
        os.unlink(trouble)
    sys.exit(text)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"data_location": options["logdir"]}).encode())
    def log_message(self, *words):
        pass
http.server.HTTPServer((options["host"], int(options["port"])), Handler).serve_forever()
"""


@pytest.fixture
def board_pod(pod: FakePod) -> FakePod:
    """A pod whose image has a TensorBoard."""
    package = pod.root / "site/tensorboard"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "main.py").write_text(STUB)
    pod.add_program("python", f'PYTHONPATH="{pod.root}/site" exec "{sys.executable}" "$@"')
    return pod


def ask(pod: FakePod, **fields: object) -> dict[str, Any]:
    request = {"clone": str(pod.clone), "python": "python", "logging_dir": "logs/a", "output_dir": "out"}
    code, answer = pod.run_program("tensorboard.py", {**request, "is_named": True, **fields})
    return {**answer, "code": code}


def starts(pod: FakePod) -> list[dict[str, Any]]:
    path = pod.directory / "starts"
    return [as_object(line.encode()) for line in path.read_text().splitlines()] if path.exists() else []


def note(pod: FakePod) -> dict[str, Any]:
    return as_object((pod.directory / "tensorboard.json").read_bytes())


def test_tensorboard_starts_once_on_loopback_behind_the_training(board_pod: FakePod) -> None:
    first, again = ask(board_pod), ask(board_pod)
    assert (first["code"], first["was_running"], first["has_event_files"]) == (0, False, False)
    assert first["folder"] == str(board_pod.clone / "logs/a")
    assert again == {**first, "was_running": True}
    (started,) = starts(board_pod)
    assert started == {
        "logdir": first["folder"],
        "host": "127.0.0.1",
        "port": str(first["port"]),
        "load_fast": "false",
        "gpu": "",
        "nice": 10,
    }
    assert board_pod.tmux("has-session", "-t", "=tb").returncode == 0


def test_two_calls_at_once_start_one(board_pod: FakePod) -> None:
    request = {"clone": str(board_pod.clone), "python": "python", "is_named": True}
    processes = [board_pod.start_program("tensorboard.py", request) for _ in range(3)]
    answers = [as_object(process.communicate(timeout=60)[0]) for process in processes]
    assert len({answer["port"] for answer in answers}) == 1
    assert sorted(answer["was_running"] for answer in answers) == [False, True, True]
    assert len(starts(board_pod)) == 1


def test_one_on_another_folder_is_replaced(board_pod: FakePod) -> None:
    ask(board_pod)
    old = note(board_pod)["pid"]
    answer = ask(board_pod, logging_dir="logs/b; $(x) 'q'")
    assert (answer["was_running"], answer["folder"]) == (False, str(board_pod.clone / "logs/b; $(x) 'q'"))
    assert not is_running(old)


def test_one_that_was_killed_is_started_again(board_pod: FakePod) -> None:
    ask(board_pod)
    old = note(board_pod)["pid"]
    os.kill(old, signal.SIGKILL)
    wait_until(lambda: not is_running(old), "its end")
    assert ask(board_pod)["was_running"] is False
    assert len(starts(board_pod)) == 2


def test_another_program_on_its_port_is_not_taken_for_it(board_pod: FakePod) -> None:
    answer = ask(board_pod)
    told = note(board_pod)
    (board_pod.directory / "tensorboard.json").write_text(json.dumps({**told, "folder": "/elsewhere"}))
    again = ask(board_pod, logging_dir="/elsewhere")
    assert (again["was_running"], again["port"] != answer["port"]) == (False, True)


def test_port_that_was_taken_meanwhile_is_no_end(board_pod: FakePod) -> None:
    (board_pod.directory / "trouble").write_text("once: TensorBoard could not bind to port 1, it was already in use")
    assert ask(board_pod)["code"] == 0
    assert len(starts(board_pod)) == 2


def test_tensorboard_that_fails_is_refused_with_its_last_words(board_pod: FakePod) -> None:
    (board_pod.directory / "trouble").write_text("ImportError: libwhatever")
    answer = ask(board_pod)
    assert (answer["code"], answer["error"]) == (20, "TensorBoard does not start.")
    assert "ImportError: libwhatever" in answer["detail"]
    assert board_pod.tmux("has-session", "-t", "=tb").returncode != 0


@pytest.mark.parametrize("has_uv", [True, False])
def test_image_without_a_whole_tensorboard_gets_a_venv_and_says_why_that_failed(
    board_pod: FakePod, has_uv: bool
) -> None:
    (board_pod.directory / "broken").touch()
    calls = board_pod.root / "calls"
    if has_uv:
        script = f'echo "$* $(nice)" >>"{calls}"; case $1 in pip) echo no such index; exit 3;; esac'
        board_pod.add_program("uv", script)
    else:
        hide_uv(board_pod)
        board_pod.add_program(
            "python",
            f'case "$*" in *"-m pip --version") exit 0;; *install*) echo "$* $(nice)" >>"{calls}"; '
            f'echo no such index; exit 3;; *tensorboard.main*) exit 1;; esac; exec "{sys.executable}" "$@"',
        )
    answer = ask(board_pod)
    assert (answer["code"], answer["error"]) == (20, "TensorBoard could not be installed on the pod.")
    assert "exit code 3" in answer["detail"] and "no such index" in answer["detail"]
    install = calls.read_text().splitlines()[-1]
    assert "tensorboard>=2.14 setuptools<81" in install
    assert install.endswith(" 10"), "the installer yields to the training"


def hide_uv(pod: FakePod) -> None:
    """Leave no uv on the pod's PATH."""
    places = [place for place in pod.pod_environ["PATH"].split(":") if not (Path(place) / "uv").exists()]
    pod.pod_environ["PATH"] = ":".join(places)
    pod.write_environ()


def test_newest_run_says_where_it_logs_unless_a_configuration_is_named(board_pod: FakePod) -> None:
    run_dir = board_pod.volume / "runs/digits-1"
    run_dir.mkdir(parents=True)
    record = {"run_id": "digits-1", "clone": str(board_pod.clone), "logging_dir": "/w/logs", "output_dir": "/w/out"}
    (run_dir / "run.json").write_text(json.dumps(record))
    answer = ask(board_pod, is_named=False)
    assert (answer["folder"], answer["run_id"]) == ("/w/logs", "digits-1")
    named = ask(board_pod, is_named=True)
    assert (named["folder"], named["run_id"]) == (str(board_pod.clone / "logs/a"), None)


def test_tensorboard_keeps_no_pod_alive(board_pod: FakePod) -> None:
    board_pod.start_guard()
    before = board_pod.status()
    ask(board_pod)
    after = board_pod.status()
    assert after["lease"] is None and after["followers"] == 0
    assert after["grace_left_s"] < before["grace_left_s"], "the grace time goes on running out"
