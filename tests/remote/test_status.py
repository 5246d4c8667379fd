"""status.py: what the pod is doing."""

from __future__ import annotations

from tests.remote.fake_pod import FakePod


def test_a_running_training_is_shown_with_its_last_lines(pod: FakePod) -> None:
    pod.start_guard()
    script = "import time\nprint('one')\nprint('10%\\r20%\\r30%')\nprint('begun', flush=True)\ntime.sleep(1000)"
    answer = pod.launch(script, max_hours=2)
    pod.wait_for_log(b"begun\n")
    code, status = pod.run_program("status.py", {"lines": 3})
    assert code == 0
    assert status["last_lines"] == ["one", "30%", "begun"]
    assert status["guard"]["lease"]["run_id"] == answer["run_id"]
    assert 1.9 < status["guard"]["hours_left"] <= 2
    assert (status["run"]["run_id"], status["run"]["run_dir"]) == (answer["run_id"], answer["run_dir"])
    assert status["run"]["exit_code"] is None
    assert status["log_size"] == len(pod.log())
    assert status["log_modified"] == (pod.volume / "logs" / "current.log").stat().st_mtime


def test_a_fresh_pod_has_nothing_to_show(pod: FakePod) -> None:
    code, status = pod.run_program("status.py", {"lines": 5})
    assert code == 0
    assert status == {"guard": None, "run": None, "log_size": None, "log_modified": None, "last_lines": []}


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
