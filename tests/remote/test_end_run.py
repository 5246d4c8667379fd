"""end_run.py: ask a run to end and wait for it."""

from __future__ import annotations

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
