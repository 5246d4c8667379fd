"""status.py: what the pod is doing."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import Any

import pytest

from tests.remote.fake_pod import FakePod

NOTHING: dict[str, Any] = {
    "guard": None,
    "run": None,
    "heartbeat_age_s": None,
    "log_size": None,
    "log_modified": None,
    "last_lines": [],
    "gpus": [],
    "progress": None,
}


def test_a_running_training_is_shown_with_its_last_lines(pod: FakePod) -> None:
    pod.start_guard()
    script = "import time\nprint('one')\nprint('10%\\r20%\\r30%')\nprint('begun', flush=True)\ntime.sleep(1000)"
    answer = pod.launch(script, max_hours=2, script_env={"HF_TOKEN": "hf_secret"})
    pod.wait_for_log(b"begun\n")
    code, status = pod.run_program("status.py", {"lines": 3})
    assert code == 0
    assert status["last_lines"] == ["one", "30%", "begun"]
    assert status["guard"]["lease"]["run_id"] == answer["run_id"]
    assert 1.9 < status["guard"]["hours_left"] <= 2
    assert (status["run"]["run_id"], status["run"]["run_dir"]) == (answer["run_id"], answer["run_dir"])
    assert (status["run"]["exit_code"], status["run"]["failure"]) == (None, None)
    assert status["log_size"] == len(pod.log())
    assert status["log_modified"] == (pod.volume / "logs" / "current.log").stat().st_mtime
    assert "hf_secret" not in json.dumps(status)


def test_a_fresh_pod_has_nothing_to_show(pod: FakePod) -> None:
    code, status = pod.run_program("status.py", {"lines": 5})
    assert code == 0
    assert status.pop("disk")["used_bytes"] == 0
    assert status == NOTHING


def test_the_state_of_a_training_is_found(pod: FakePod) -> None:
    pod.add_program("nvidia-smi", "echo '0, NVIDIA GeForce RTX 4090, 97, 20100, 24564'")
    pod.start_guard()
    (pod.volume / "data").mkdir()
    (pod.volume / "data" / "a").write_bytes(b"x" * 1_000_000)
    script = "import time\nprint(' 43%|####   | 430/1000 [00:12<00:16, 34.2it/s]', flush=True)\ntime.sleep(1000)"
    pod.launch(script)
    pod.wait_for_log(b"it/s]")
    _, status = pod.run_program("status.py", {"lines": 0})
    gpu = {"index": 0, "name": "NVIDIA GeForce RTX 4090", "util_percent": 97}
    assert status["gpus"] == [{**gpu, "memory_used_mb": 20100, "memory_total_mb": 24564}]
    assert status["progress"]["source"] == "log"
    assert (status["progress"]["step"], status["progress"]["max_steps"]) == (430, 1000)
    assert status["progress"]["eta_s"] == pytest.approx(570 / 34.2)
    assert status["disk"]["is_exact"]
    assert 1_000_000 < status["disk"]["used_bytes"] < 1_100_000


def test_a_part_that_fails_is_left_out(pod: FakePod) -> None:
    kit = pod.copy_kit()
    for name in ("disk", "gpu", "progress"):
        (kit / f"{name}.py").write_text(f"start_query = lambda: None\ndef broken(*_): raise KeyError({name!r})\n")
        with (kit / f"{name}.py").open("a") as file:
            file.write("find_usage = read_answer = find_progress = broken\n")
    (pod.volume / "runs" / "r").mkdir(parents=True)
    (pod.volume / "runs" / "r" / "run.json").write_text("{}")
    code, status = pod.run_program("status.py", {"lines": 0})
    assert code == 0
    assert (status["gpus"], status["progress"], status["disk"]) == ([], None, None)
    assert status["run"]["run_dir"].endswith("/runs/r")


NOTE_FOLDERS = """
import os, sys
def note(event, arguments):
    if event in ("os.scandir", "os.listdir"):
        with open(os.environ["FOLDERS_READ"], "a") as file:
            file.write(f"{os.fspath(arguments[0])}\\n")
sys.addaudithook(note)
"""


def test_of_a_big_volume_no_more_is_read_than_there_is_time_for(pod: FakePod) -> None:
    for number in range(200):
        (pod.volume / "data" / str(number)).mkdir(parents=True)
    (pod.volume / ".cache").mkdir()
    measured = {"used_bytes": 77, "measured_at": time.time()}
    (pod.volume / ".cache" / "podtasks-usage.json").write_text(json.dumps(measured))
    disk = pod.copy_kit() / "disk.py"
    disk.write_text(disk.read_text().replace("LOOK_S = 0.4", "LOOK_S = 0.0"))
    (pod.root / "hook").mkdir()
    (pod.root / "hook" / "sitecustomize.py").write_text(NOTE_FOLDERS)
    read = pod.root / "folders read"
    settings = {"PYTHONPATH": str(pod.root / "hook"), "FOLDERS_READ": str(read)}
    _, status = pod.run_program("status.py", {"lines": 0}, **settings)
    assert status["disk"] == {"total_bytes": None, **measured, "is_exact": False}
    data = str(pod.volume / "data")
    assert [path for path in read.read_text().splitlines() if path.startswith(data)] == [data]


def test_bytes_that_are_no_text_and_long_lines_are_no_trouble(pod: FakePod) -> None:
    log = pod.volume / "logs" / "current.log"
    log.parent.mkdir()
    log.write_bytes(b"x" * 1_000_000 + b"\n\xff\xfe tail\nlast\n\n")
    _, status = pod.run_program("status.py", {"lines": 2})
    assert status["last_lines"] == ["\ufffd\ufffd tail", "last"]
    assert pod.run_program("status.py", {"lines": 0})[1]["last_lines"] == []


def test_a_request_that_is_none_is_refused(pod: FakePod) -> None:
    process = pod.start(["python3", str(pod.kit / "status.py")])
    out, _ = process.communicate(b"nonsense\n", timeout=20)
    assert process.returncode == 20
    assert b'"error": "The request is no JSON object."' in out


# runs.py


def add_run(pod: FakePod, run_id: str, record: object) -> None:
    """Put a run's record on the volume as it is given."""
    folder = pod.volume / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(record if isinstance(record, str) else json.dumps(record))


def test_runs_are_listed_newest_first_without_what_is_private(pod: FakePod) -> None:
    private = {"token": "t0ken", "script_env": {"A": "s3cret"}, "notify": "https://x"}
    add_run(pod, "z-20260101-000000-aaaaaaa", {"launched_at": 1767225600, **private})
    add_run(pod, "a-20260301-000000-aaaaaaa", {"run_id": "another folder", "launched_at": 1772323200, "exit_code": 1})
    add_run(pod, "m-20260201-000000-aaaaaaa", {"launched_at": 1769904000.5})
    (pod.volume / "runs" / "saved").mkdir()
    (pod.volume / "runs" / "newest").write_text("x\n")
    code, answer = pod.run_program("runs.py", {"limit": 2})
    assert code == 0
    first, second, third = (f"{name}-20260{month}01-000000-aaaaaaa" for name, month in (("z", 1), ("m", 2), ("a", 3)))
    assert [run["run_id"] for run in answer["runs"]] == [third, second], "a run is called as its folder is"
    assert answer["runs"][0]["exit_code"] == 1
    assert answer["runs"][0]["failure"] is None
    assert answer["active_run_id"] is None
    _, answer = pod.run_program("runs.py", {"limit": None})
    assert [run["run_id"] for run in answer["runs"]] == [third, second, first]
    assert not set(private) & set(answer["runs"][2])


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"launched_at": "soon"}', '{"launched_at": NaN}', "\x00"])
def test_a_broken_record_does_not_hide_the_others(pod: FakePod, text: str) -> None:
    add_run(pod, "whole-20260101-000000-aaaaaaa", {"launched_at": 1767225600})
    add_run(pod, "broken-20260201-000000-aaaaaaa", text)
    add_run(pod, "no date", {"launched_at": 1769000000})
    (pod.volume / "runs" / "empty").mkdir()
    os.utime(pod.volume / "runs" / "empty", (5, 5))
    code, answer = pod.run_program("runs.py", {"limit": 10})
    assert code == 0
    names = [run["run_id"] for run in answer["runs"]]
    assert names == ["broken-20260201-000000-aaaaaaa", "no date", "whole-20260101-000000-aaaaaaa", "empty"]
    assert "config" in answer["runs"][0]


def test_a_pod_without_runs_has_none_to_list(pod: FakePod) -> None:
    assert pod.run_program("runs.py", {"limit": 5}) == (0, {"runs": [], "active_run_id": None})


def test_the_run_that_holds_the_pod_is_named(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch("import time; time.sleep(1000)")
    assert pod.run_program("runs.py", {"limit": 5})[1]["active_run_id"] == answer["run_id"]


def test_hundreds_of_runs_are_listed_quickly(pod: FakePod) -> None:
    record = {"run_id": "r", "launched_at": 1.0, "command": ["python"] * 20, "failure": {"lines": ["x" * 300] * 6}}
    for number in range(300):
        add_run(pod, f"run-20260101-{number:06d}-aaaaaaa", record)
    began_s = os.times().children_user + os.times().children_system
    words = ["python3", str(pod.kit / "runs.py")]
    done = subprocess.run(words, input=b'{"limit": 1000}\n', env=pod.environ, stdout=subprocess.PIPE, check=True)
    assert len(json.loads(done.stdout)["runs"]) == 300
    assert os.times().children_user + os.times().children_system - began_s < 0.5


def test_only_the_records_asked_for_are_read(pod: FakePod) -> None:
    add_run(pod, "run-20260102-000000-aaaaaaa", {"launched_at": 2})
    (pod.volume / "runs" / "run-20260101-000000-aaaaaaa").mkdir()
    # Whoever opens this one waits for ever.
    os.mkfifo(pod.volume / "runs" / "run-20260101-000000-aaaaaaa" / "run.json")
    _, answer = pod.run_program("runs.py", {"limit": 1})
    assert [run["launched_at"] for run in answer["runs"]] == [2]
