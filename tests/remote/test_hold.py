"""hold.py: a pod is kept for as long as its client is there."""

from __future__ import annotations

import os
import signal
import subprocess

from tests.remote.fake_pod import FakePod, as_object, wait_until


def start_hold(pod: FakePod, who: str = "ann") -> subprocess.Popen[bytes]:
    """Start hold.py and return it once it has answered that it holds the pod."""
    process = pod.start_program("hold.py", {"who": who})
    answer = read_answer(process)
    assert (answer["ok"], answer["held"]) == (True, True)
    return process


def read_answer(process: subprocess.Popen[bytes]) -> dict[str, object]:
    assert process.stdout is not None
    return as_object(process.stdout.readline())


def test_it_holds_until_its_input_closes(pod: FakePod) -> None:
    pod.start_guard()
    process = start_hold(pod)
    assert pod.status()["holders"] == ["ann"]
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=10) == 0
    assert pod.status()["holds"] == 0


def test_a_killed_holder_holds_no_longer(pod: FakePod) -> None:
    pod.start_guard()
    process = start_hold(pod)
    os.kill(process.pid, signal.SIGKILL)
    wait_until(lambda: pod.status()["holds"] == 0, "the hold's end")
    assert pod.status()["grace_left_s"] > 0


def test_its_answer_counts_who_holds_the_pod(pod: FakePod) -> None:
    pod.start_guard()
    start_hold(pod)
    code, answer = pod.run_program("hold.py", {"who": "a question"})
    assert (code, answer["guard"]["holds"]) == (0, 2)


def test_the_next_guard_is_held_anew(pod: FakePod) -> None:
    guard = pod.start_guard()
    start_hold(pod)
    guard.kill()
    guard.wait()
    pod.start_guard()
    wait_until(lambda: pod.status()["holders"] == ["ann"], "the hold of the next guard")


def test_a_guard_of_an_earlier_version_is_replaced_and_held(pod: FakePod) -> None:
    forget_holds(pod)
    pod.start_guard()
    start_hold(pod)
    assert pod.status()["holds"] == 1


def test_a_guard_of_an_earlier_version_that_has_a_run_is_left_alone_and_that_is_said(pod: FakePod) -> None:
    forget_holds(pod)
    pod.start_guard()
    pod.prepare()
    process = pod.start_program("hold.py", {"who": "ann"})
    answer = read_answer(process)
    assert (answer["ok"], answer["held"]) == (True, False)
    assert process.poll() is None, "it stays, as if it held"
    _, said = process.communicate(timeout=10)
    assert b"earlier version" in said


def test_a_pod_that_is_being_stopped_is_refused(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="0.003")
    pod.wait_for_stop()
    code, answer = pod.run_program("hold.py", {"who": "late"})
    assert (code, answer["error"]) == (20, "The pod is being stopped.")


def forget_holds(pod: FakePod) -> None:
    """Give the pod a guard that knows no holds."""
    path = pod.directory / "guard_holds.py"
    path.write_text(path.read_text().replace("op_hold", "op_unknown"))
