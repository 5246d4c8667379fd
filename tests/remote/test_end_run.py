"""end_run.py: ask a run to end and wait for it."""

from __future__ import annotations

import os
import signal
import time

from tests.remote.fake_pod import FakePod, wait_until

WAITING = "import time; print('begun'); time.sleep(1000)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun'); time.sleep(1000)"


def test_it_ends_the_run_for_the_reason_given_and_waits(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch(WAITING)
    pod.wait_for_log(b"begun\n")
    code, ended = pod.run_program("end_run.py", {"reason": "ended by ann", "timeout_s": 20})
    assert (code, ended) == (0, {"ok": True, "run_id": answer["run_id"], "ended": True, "noted": True})
    record = pod.record(answer["run_dir"])
    assert (record["exit_code"], record["reason"]) == (143, "ended by ann")
    assert pod.log().endswith(b"ENDED: ended by ann\nEXIT_CODE=143\n")
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_it_does_not_wait_longer_than_asked(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch(STUBBORN)
    pod.wait_for_log(b"begun\n")
    code, ended = pod.run_program("end_run.py", {"reason": "user", "timeout_s": 0.2})
    assert (code, ended) == (0, {"ok": True, "run_id": answer["run_id"], "ended": False, "noted": True})
    assert pod.status()["lease"]["ending"] == "user"


def test_without_a_run_or_a_guard_it_refuses(pod: FakePod) -> None:
    request = {"reason": "user", "timeout_s": 5}
    code, answer = pod.run_program("end_run.py", request)
    assert (code, answer["error"], answer["ended"]) == (20, "The pod has no guard.", False)
    pod.start_guard()
    code, answer = pod.run_program("end_run.py", request)
    assert (code, answer["error"], answer["ended"]) == (20, "No run holds the pod.", False)


def test_it_goes_on_waiting_over_a_restart_of_the_guard(pod: FakePod) -> None:
    guard = pod.start_guard()
    pod.launch(STUBBORN, stop_grace_s=1)
    pod.wait_for_log(b"begun\n")
    ending = pod.start_program("end_run.py", {"reason": "user", "timeout_s": 20})
    wait_until(lambda: pod.status()["followers"] == 1, "end_run.py to wait")
    guard.kill()
    guard.wait()
    pod.start_guard()
    out, _ = ending.communicate(timeout=20)
    assert b'"ended": true' in out


def test_with_no_time_to_wait_it_marks_the_run_as_ended_and_returns_at_once(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch(STUBBORN)
    pod.wait_for_log(b"begun\n")
    began = time.monotonic()
    code, ended = pod.run_program("end_run.py", {"reason": "user", "timeout_s": 0})
    assert time.monotonic() - began < 5
    assert (code, ended) == (0, {"ok": True, "run_id": answer["run_id"], "ended": False, "noted": True})
    record = pod.record(answer["run_dir"])
    assert (record["ending"], record["ended_at"]) == ("user", None)


def test_a_run_that_was_to_end_and_lost_its_pod_has_ended_for_that_reason(pod: FakePod) -> None:
    guard = pod.start_guard()
    answer = pod.launch(STUBBORN)
    pod.wait_for_log(b"begun\n")
    pod.run_program("end_run.py", {"reason": "user", "timeout_s": 0})
    supervisor = int((pod.directory / "supervisor.pid").read_text())
    guard.kill()
    guard.wait()
    os.kill(supervisor, signal.SIGKILL)
    (pod.directory / "lease.json").unlink()
    pod.run_program("prepare.py", {"clone": str(pod.clone), "who": "the next"})
    record = pod.record(answer["run_dir"])
    assert (record["reason"], record["exit_code"], record["failure"]["kind"]) == ("user", None, "asked_to_end")


def test_a_run_that_was_to_end_and_whose_supervisor_is_killed_has_ended_for_that_reason(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch(STUBBORN, keep_failed_s=1000)
    pod.wait_for_log(b"begun\n")
    pod.run_program("end_run.py", {"reason": "user", "timeout_s": 0})
    os.kill(int((pod.directory / "supervisor.pid").read_text()), signal.SIGKILL)
    assert pod.wait_for_stop() == ["pod stop pod123"]
    record = pod.record(answer["run_dir"])
    assert (record["reason"], record["exit_code"]) == ("user", 137)


def test_a_supervisor_that_does_not_answer_is_not_waited_for(pod: FakePod) -> None:
    pod.start_guard()
    pod.launch(WAITING)
    pod.wait_for_log(b"begun\n")
    os.kill(int((pod.directory / "supervisor.pid").read_text()), signal.SIGSTOP)
    code, ended = pod.run_program("end_run.py", {"reason": "user", "timeout_s": 0})
    assert (code, ended["ok"]) == (0, True)
    # tmux wakes a supervisor that is stopped, so that the run may be over by now.
    lease = pod.status()["lease"]
    assert lease is None or lease["ending"] == "user"
