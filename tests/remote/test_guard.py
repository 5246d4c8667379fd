"""The guard, asked over its real socket, with real processes and real signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.remote.fake_pod import FakePod, GuardClient, is_running, wait_until

PRETENDED_SUPERVISOR = "import sys, time; print('ready', flush=True); time.sleep(1000)  # supervise.py"


def a_run(pod: FakePod, **fields: object) -> dict[str, Any]:
    """Return a run as its supervisor describes it, with a record and a log on the volume."""
    run_dir = pod.volume / "runs" / "r-1"
    run_dir.mkdir(parents=True, exist_ok=True)
    log = pod.volume / "logs" / "current.log"
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"header\nno newline at the end")
    record = {"run_id": "r-1", "log": str(log), "log_start": 0, "ended_at": None, "exit_code": None}
    (run_dir / "run.json").write_text(json.dumps(record))
    return {
        "run_id": "r-1",
        "run_dir": str(run_dir),
        "kit": str(pod.kit),
        "when_done": "stop",
        "max_hours": None,
        "stop_grace_s": 0,
        **fields,
    }


def start_run(pod: FakePod, **fields: object) -> GuardClient:
    """Take the lease for a run, as a supervisor does; return its connection."""
    launcher, token = pod.prepare()
    client = pod.client()
    assert client.ask("run", token=token, pid=0, run=a_run(pod, **fields)) == {"ok": True}
    launcher.close()
    return client


# Its main thread ends as SIGKILL ends one, while another thread keeps all descriptors open, as one does that waits
# for a volume that hangs.
UNDEAD = """
import ctypes, json, os, socket, sys, threading, time
link = socket.socket(socket.AF_UNIX)
link.connect(sys.argv[1])
link.sendall(json.dumps({**json.loads(sys.argv[2]), "pid": os.getpid()}).encode() + b"\\n")
print(link.recv(1000).decode(), end="", flush=True)
threading.Thread(target=time.sleep, args=(1000,)).start()
ctypes.CDLL(None).pthread_exit(None)  # supervise.py
"""


def start_training(pod: FakePod) -> subprocess.Popen[bytes]:
    """Start a process group with a child that ignores SIGTERM."""
    script = "trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000"
    return pod.start(["sh", "-c", script])


def first_line(process: subprocess.Popen[bytes]) -> bytes:
    """Return what a process prints first."""
    assert process.stdout is not None
    return process.stdout.readline()


def test_a_supervisor_that_is_dead_but_for_a_thread_that_hangs_keeps_no_pod(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_LOOK_S="0.2")
    _, token = pod.prepare()
    request = json.dumps({"op": "run", "token": token, "run": a_run(pod)})
    supervisor = pod.start([sys.executable, "-c", UNDEAD, str(pod.directory / "guard.sock"), request])
    assert json.loads(first_line(supervisor)) == {"ok": True}
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert pod.record(str(pod.volume / "runs" / "r-1"))["reason"] == "supervisor killed"


def test_a_supervisor_that_lives_keeps_its_lease(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_LOOK_S="0.05")
    pod.launch("import time; print('begun'); time.sleep(1000)")
    pod.wait_for_log(b"begun\n")
    time.sleep(0.5)
    assert (pod.status()["stopping"], pod.status()["lease"]["ending"]) == (None, None)


def test_no_launch_within_the_grace_time_stops_the_pod(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="0.003")
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert "grace time" in pod.status()["stopping"]


def test_a_prepare_that_never_launches_does_not_keep_the_pod(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="0.02")
    pod.prepare()
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert pod.client().ask("prepare", who="late")["stopping"]


def test_prepare_is_exclusive_and_names_its_holder_until_its_connection_closes(pod: FakePod) -> None:
    pod.start_guard()
    first, second = pod.client(), pod.client()
    assert first.ask("prepare", who="ann's laptop")["ok"]
    refused = second.ask("prepare", who="bob")
    assert not refused["ok"]
    assert (refused["holder"]["kind"], refused["holder"]["who"]) == ("prepare", "ann's laptop")
    assert "token" not in refused["holder"]
    first.close()
    wait_until(lambda: second.ask("prepare", who="bob")["ok"], "the lease")


def test_a_run_needs_the_token_of_the_prepare_lease(pod: FakePod) -> None:
    pod.start_guard()
    _, token = pod.prepare()
    client = pod.client()
    assert not client.ask("run", token="guessed", pid=0, run=a_run(pod))["ok"]
    assert client.ask("run", token=token, pid=0, run=a_run(pod))["ok"]
    assert not pod.client().ask("run", token=token, pid=0, run=a_run(pod))["ok"]
    assert pod.client().ask("prepare")["holder"]["run_id"] == "r-1"


def test_a_run_ends_the_grace_time_and_outlives_its_prepare_connection(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert 0 < pod.status()["grace_left_s"] <= 600
    prepare, run = pod.client(), pod.client()
    token = prepare.ask("prepare")["token"]
    assert run.ask("run", token=token, pid=0, run=a_run(pod))["ok"]
    prepare.close()
    assert pod.status()["grace_left_s"] is None
    assert pod.status()["lease"]["kind"] == "run"


@pytest.mark.parametrize(("when_done", "told"), [("stop", "pod stop pod123"), ("terminate", "pod delete pod123")])
def test_an_ended_run_stops_or_terminates_the_pod(pod: FakePod, when_done: str, told: str) -> None:
    pod.start_guard()
    assert start_run(pod, when_done=when_done).ask("ended", exit_code=0, reason="finished")["ok"]
    assert pod.wait_for_stop() == [told]


def test_a_kept_pod_is_free_for_the_next_run_until_its_hours_are_over(pod: FakePod) -> None:
    pod.start_guard()
    hours_for_1_s = 1 / 3600
    start_run(pod, when_done="keep", max_hours=hours_for_1_s).ask("ended", exit_code=0, reason="finished")
    status = pod.status()
    assert (status["lease"], status["stopping"], status["grace_left_s"]) == (None, None, None)
    assert 0 < status["hours_left"] <= hours_for_1_s
    assert not pod.stops.exists()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_a_kept_pod_without_hours_stays(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="0.01")
    start_run(pod, when_done="keep").ask("ended", exit_code=1, reason="failed")
    assert (pod.status()["hours_left"], pod.status()["grace_left_s"]) == (None, None)
    assert pod.client().ask("prepare", who="next")["ok"]


def test_followers_are_told_of_the_end_and_waited_for(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_FOLLOWERS_S="30")
    run, follower = start_run(pod), pod.client()
    assert follower.ask("follow", run_id="r-1") == {"ok": True, "running": True, "end": None}
    assert pod.status()["followers"] == 1
    run.ask("ended", exit_code=3, reason="failed")
    assert follower.read() == {"event": "ended", "run_id": "r-1", "exit_code": 3, "reason": "failed"}
    assert not pod.stops.exists()
    follower.close()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_whoever_launched_counts_as_a_follower_until_it_closes_its_connection(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_FOLLOWERS_S="30")
    launcher, token = pod.prepare()
    run = pod.client()
    run.ask("run", token=token, pid=0, run=a_run(pod))
    run.ask("ended", exit_code=0, reason="finished")
    assert pod.status()["followers"] == 1
    assert not pod.stops.exists()
    launcher.close()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_whoever_launched_is_no_follower_any_more_once_it_hangs_up_while_the_run_goes_on(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_FOLLOWERS_S="30")
    launcher, token = pod.prepare()
    assert pod.status()["followers"] == 0
    run = pod.client()
    run.ask("run", token=token, pid=0, run=a_run(pod))
    assert pod.status()["followers"] == 1
    launcher.close()
    wait_until(lambda: pod.status()["followers"] == 0, "the launcher's leave")
    assert pod.status()["lease"]["run_id"] == "r-1"
    run.ask("ended", exit_code=0, reason="finished")
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_followers_and_whoever_launched_are_told_of_a_run_whose_supervisor_was_killed(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_FOLLOWERS_S="30")
    launcher, token = pod.prepare()
    run, follower = pod.client(), pod.client()
    run.ask("run", token=token, pid=0, run=a_run(pod))
    follower.ask("follow", run_id="r-1")
    run.close()
    ended = {"event": "ended", "run_id": "r-1", "exit_code": 137, "reason": "supervisor killed"}
    assert follower.read() == ended
    assert launcher.read() == ended
    assert pod.status()["stopping"]
    follower.close()
    assert not pod.stops.exists()
    launcher.close()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_a_follower_whose_link_broke_just_before_the_end_is_waited_for(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_RETURN_S="30")
    run, follower = start_run(pod), pod.client()
    follower.ask("follow", run_id="r-1")
    follower.close()
    wait_until(lambda: pod.status()["followers"] == 0, "the broken link")
    run.ask("ended", exit_code=0, reason="finished")
    again = pod.client()
    assert again.ask("follow", run_id="r-1")["running"] is False
    assert not pod.stops.exists()
    again.close()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_a_launcher_that_hangs_up_does_not_end_the_wait_for_a_follower_that_returns(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_RETURN_S="30")
    launcher, token = pod.prepare()
    run, follower = pod.client(), pod.client()
    run.ask("run", token=token, pid=0, run=a_run(pod))
    follower.ask("follow", run_id="r-1")
    follower.close()
    wait_until(lambda: pod.status()["followers"] == 1, "the broken link")
    run.ask("ended", exit_code=0, reason="finished")
    launcher.close()
    wait_until(lambda: pod.status()["followers"] == 0, "the launcher to be gone")
    assert pod.status()["followers_wait_s"] > 0
    again = pod.client()
    again.ask("follow", run_id="r-1")
    again.close()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_a_follower_that_hangs_does_not_keep_the_pod(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_FOLLOWERS_S="0.1")
    run, follower = start_run(pod), pod.client()
    follower.ask("follow", run_id="r-1")
    run.ask("ended", exit_code=0, reason="finished")
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_a_killed_supervisor_has_its_training_killed_its_record_finished_and_the_pod_stopped(pod: FakePod) -> None:
    pod.start_guard()
    training = start_training(pod)
    child = int(first_line(training))
    run = start_run(pod)
    run.ask("training", pgid=training.pid)
    run.close()
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert training.wait(timeout=10) == -signal.SIGKILL
    wait_until(lambda: not is_running(child), "the training's child to die")
    record = pod.record(str(pod.volume / "runs" / "r-1"))
    assert (record["exit_code"], record["reason"]) == (137, "supervisor killed")
    assert record["failure"]["kind"] == "supervisor_killed"
    assert pod.log().startswith(f"header\nno newline at the end\nWHY: {record['failure']['title']}\nTRY: ".encode())
    assert pod.log().endswith(b"\nENDED: supervisor killed\nEXIT_CODE=137\n")


def test_a_lost_kit_or_a_broken_record_does_not_keep_the_pod(pod: FakePod) -> None:
    pod.start_guard()
    start_run(pod, kit="/nowhere").close()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_end_is_pushed_to_the_run(pod: FakePod) -> None:
    pod.start_guard()
    assert pod.client().ask("end") == {"ok": False}
    run = start_run(pod)
    assert pod.client().ask("end", reason="user")["ok"]
    assert run.read() == {"event": "end", "reason": "user"}
    assert pod.status()["lease"]["ending"] == "user"


def test_a_run_over_its_hours_is_asked_to_end_and_then_killed(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_OVERTIME_S="0.2")
    training = start_training(pod)
    first_line(training)
    run = start_run(pod, max_hours=0.2 / 3600, stop_grace_s=-15)
    run.ask("training", pgid=training.pid)
    assert run.read() == {"event": "end", "reason": "max_hours"}
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert training.wait(timeout=10) == -signal.SIGKILL
    assert pod.record(str(pod.volume / "runs" / "r-1"))["reason"] == "max_hours"


def test_a_supervisor_that_hangs_is_killed_with_its_run(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_OVERTIME_S="0.1")
    supervisor = pod.start([sys.executable, "-c", PRETENDED_SUPERVISOR])
    first_line(supervisor)
    client, (launcher, token) = pod.client(), pod.prepare()
    client.ask("run", token=token, pid=supervisor.pid, run=a_run(pod, stop_grace_s=-15))
    launcher.close()
    pod.client().ask("end", reason="user")
    assert supervisor.wait(timeout=10) == -signal.SIGKILL
    pod.wait_for_stop()


@pytest.mark.parametrize("hangs", [True, False])
def test_a_run_that_has_ended_keeps_its_own_end_and_no_pod_if_its_supervisor_hangs_or_dies(
    pod: FakePod, hangs: bool
) -> None:
    pod.start_guard(PODTASKS_OVERTIME_S="0.1" if hangs else "1000")
    run, follower = start_run(pod), pod.client()
    follower.ask("follow", run_id="r-1")
    assert not follower.ask("finishing", exit_code=0, reason="finished")["ok"]
    assert run.ask("finishing", exit_code=7, reason="failed") == {"ok": True}
    if not hangs:
        run.close()
    assert follower.read() == {"event": "ended", "run_id": "r-1", "exit_code": 7, "reason": "failed"}
    assert pod.wait_for_stop() == ["pod stop pod123"]
    record = pod.record(str(pod.volume / "runs" / "r-1"))
    assert (record["exit_code"], record["reason"]) == (7, "failed")
    assert pod.log().endswith(b"\nEXIT_CODE=7\n")


def test_a_killed_guard_finds_its_run_again(pod: FakePod) -> None:
    guard = pod.start_guard()
    run = start_run(pod, max_hours=10)
    guard.kill()
    guard.wait()
    assert run.lines.readline() == b""
    pod.start_guard()
    assert pod.status()["lease"]["run_id"] == "r-1"
    assert not pod.client().ask("prepare")["ok"]
    again = pod.client()
    other = {**a_run(pod), "run_id": "other"}
    assert not pod.client().ask("run", again=True, pid=0, run=other)["ok"]
    assert again.ask("run", again=True, pid=0, run=a_run(pod, max_hours=10)) == {"ok": True}
    assert 9.9 < pod.status()["hours_left"] <= 10
    again.ask("ended", exit_code=0, reason="finished")
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_a_run_asked_to_end_is_asked_again_after_a_restart_of_the_guard(pod: FakePod) -> None:
    guard = pod.start_guard()
    start_run(pod)
    pod.client().ask("end", reason="user")
    guard.kill()
    guard.wait()
    pod.start_guard()
    again = pod.client()
    assert again.ask("run", again=True, pid=0, run=a_run(pod)) == {"event": "end", "reason": "user"}
    assert again.read() == {"ok": True}


def test_a_supervisor_that_does_not_come_back_to_the_next_guard_counts_as_killed(pod: FakePod) -> None:
    guard = pod.start_guard()
    training = start_training(pod)
    first_line(training)
    start_run(pod).ask("training", pgid=training.pid)
    guard.kill()
    guard.wait()
    pod.start_guard(PODTASKS_RECONNECT_S="0.1")
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert training.wait(timeout=10) == -signal.SIGKILL


def test_a_guard_killed_while_it_stops_the_pod_has_a_successor_that_stops_it(pod: FakePod) -> None:
    guard = pod.start_guard(PODTASKS_GRACE_MINUTES="0")
    pod.wait_for_stop()
    os.killpg(guard.pid, signal.SIGKILL)
    guard.wait()
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    wait_until(lambda: len(pod.stops.read_text().splitlines()) == 2, "the second stop")


def test_a_restarted_guard_keeps_the_grace_time_but_gives_at_least_30_s(pod: FakePod) -> None:
    guard = pod.start_guard(PODTASKS_GRACE_MINUTES="0.05")
    # Its socket listens before it has written its state; its answer comes after.
    pod.status()
    guard.kill()
    guard.wait()
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert 25 < pod.status()["grace_left_s"] <= 30


def restart_container(pod: FakePod, guard: subprocess.Popen[bytes]) -> None:
    """Do what a container does that ends and is started again on the same disk, as boot.sh sees it."""
    pod.status()
    guard.kill()
    guard.wait()
    (pod.directory / "lease.json").unlink()


@pytest.mark.parametrize(("age_s", "left_s"), [(0, 600), (400, 200), (590, 10)])
def test_the_grace_time_goes_on_in_a_restarted_container(pod: FakePod, age_s: float, left_s: float) -> None:
    restart_container(pod, pod.start_guard(PODTASKS_GRACE_MINUTES="10"))
    (pod.directory / "grace_began").write_text(f"{time.time() - age_s}\n")
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert left_s - 5 < pod.status()["grace_left_s"] <= left_s


def test_a_container_that_is_started_again_and_again_stops_its_pod(pod: FakePod) -> None:
    restart_container(pod, pod.start_guard(PODTASKS_GRACE_MINUTES="10"))
    (pod.directory / "grace_began").write_text(f"{time.time() - 601}\n")
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert pod.wait_for_stop() == ["pod stop pod123"]


@pytest.mark.parametrize("began", ["", "tomorrow", "nan", "0", "4102444800"])
def test_a_clock_that_jumped_gives_the_whole_grace_time_and_is_forgotten(pod: FakePod, began: str) -> None:
    file = pod.directory / "grace_began"
    file.write_text(began)
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert 590 < pod.status()["grace_left_s"] <= 600
    assert abs(float(file.read_text()) - time.time()) < 60


def test_prepare_and_run_are_new_beginnings_for_the_grace_time_of_a_restarted_container(pod: FakePod) -> None:
    guard = pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    file = pod.directory / "grace_began"
    file.write_text(f"{time.time() - 599}\n")
    pod.prepare()[0].close()
    assert abs(float(file.read_text()) - time.time()) < 60
    wait_until(lambda: pod.status()["lease"] is None, "the lease")
    start_run(pod, when_done="keep").ask("ended", exit_code=0, reason="finished")
    assert not file.exists()
    restart_container(pod, guard)
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert 590 < pod.status()["grace_left_s"] <= 600


@pytest.mark.parametrize("text", ["", "{", "[]", '{"boot": "another start", "stopping": {"reason": "old"}}'])
def test_a_state_of_no_use_is_a_fresh_start(pod: FakePod, text: str) -> None:
    (pod.directory / "lease.json").write_text(text)
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert 590 < pod.status()["grace_left_s"] <= 600


def test_a_second_guard_waits_as_a_spare(pod: FakePod) -> None:
    first = pod.start_guard()
    run = start_run(pod)
    spare = pod.start_guard()
    assert spare.poll() is None
    first.kill()
    first.wait()
    assert run.lines.readline() == b""
    wait_until(lambda: pod.answers() and pod.status()["lease"], "the spare")
    assert pod.status()["lease"]["run_id"] == "r-1"


def test_the_program_that_stops_the_pod_is_started_again_when_it_dies(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="0")
    pod.wait_for_stop()
    os.kill(child_with(pod, b"stop_pod.py"), signal.SIGKILL)
    wait_until(lambda: len(pod.stops.read_text().splitlines()) == 2, "the second stop")


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"op": "no_such"}', b'{"op": "run"}', b"\xff\xfe"])
def test_a_bad_request_is_answered_and_hurts_nobody(pod: FakePod, line: bytes) -> None:
    pod.start_guard()
    client = pod.client()
    client.sock.sendall(line + b"\n")
    assert client.read()["ok"] is False
    assert client.ask("status")["ok"]


def test_a_client_that_reads_nothing_does_not_stop_the_guard(pod: FakePod) -> None:
    pod.start_guard()
    deaf = pod.client()
    deaf.sock.settimeout(0.5)
    with pytest.raises(OSError):
        while True:
            deaf.sock.sendall(b'{"op": "status"}\n' * 1000)
    assert pod.status()["ok"]


def test_only_the_run_itself_can_end_itself(pod: FakePod) -> None:
    pod.start_guard()
    start_run(pod)
    assert not pod.client().ask("ended", exit_code=0, reason="finished")["ok"]
    assert not pod.client().ask("training", pgid=1)["ok"]
    assert pod.status()["lease"]["kind"] == "run"


def test_a_full_container_disk_does_not_end_the_guard(pod: FakePod) -> None:
    (pod.directory / "lease.json.new").mkdir()
    pod.start_guard()
    start_run(pod).ask("ended", exit_code=0, reason="finished")
    assert pod.wait_for_stop() == ["pod stop pod123"]


def child_with(pod: FakePod, program: bytes) -> int:
    """Return the process of this pod whose command names a program."""
    found = wait_until(lambda: [pid for pid in pod.pids() if program in commandline(pid)], str(program))
    return found[0]


def commandline(pid: int) -> bytes:
    """Return the command line of a process, nothing when it has gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# Holds


def hold(pod: FakePod, who: str = "a transfer") -> GuardClient:
    """Hold the pod; return the connection that does."""
    client = pod.client()
    assert client.ask("hold", who=who) == {"ok": True}
    return client


def test_a_hold_keeps_the_grace_time_from_running_out_until_the_last_one_ends(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="0.005")
    first, second = hold(pod, "ann"), hold(pod, "bob")
    status = pod.status()
    assert (status["holds"], sorted(status["holders"]), status["grace_left_s"]) == (2, ["ann", "bob"], None)
    first.close()
    wait_until(lambda: pod.status()["holds"] == 1, "the first hold's end")
    time.sleep(0.6)  # twice the grace time
    assert pod.status()["stopping"] is None
    assert pod.status()["grace_left_s"] is None
    second.close()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_the_end_of_a_hold_gives_the_whole_grace_time_anew(pod: FakePod) -> None:
    (pod.directory / "grace_began").write_text(f"{time.time() - 500}\n")
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert pod.status()["grace_left_s"] < 110
    hold(pod).close()
    wait_until(lambda: (pod.status()["grace_left_s"] or 0) > 590, "the whole grace time")
    assert abs(float((pod.directory / "grace_began").read_text()) - time.time()) < 10


def test_a_hold_ends_after_its_longest_time(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_HOLD_S="0.2")
    hold(pod)
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert "held" in pod.status()["stopping"]


def test_a_hold_blocks_no_launch_and_keeps_no_pod_whose_run_has_ended(pod: FakePod) -> None:
    pod.start_guard()
    holder = hold(pod)
    run = start_run(pod)
    assert pod.status()["holds"] == 1
    run.ask("ended", exit_code=0, reason="finished")
    assert pod.wait_for_stop() == ["pod stop pod123"]
    holder.close()


def test_a_hold_during_a_run_leaves_no_grace_time_behind(pod: FakePod) -> None:
    pod.start_guard()
    run = start_run(pod)
    holder = hold(pod)
    assert pod.status()["grace_left_s"] is None
    holder.close()
    wait_until(lambda: pod.status()["holds"] == 0, "the hold's end")
    assert pod.status()["grace_left_s"] is None
    run.close()


def test_a_pod_that_is_being_stopped_is_not_held(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="0.003")
    pod.wait_for_stop()
    assert "grace time" in pod.client().ask("hold", who="late")["stopping"]


def test_a_restarted_guard_forgets_holds_and_counts_the_grace_time(pod: FakePod) -> None:
    guard = pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    hold(pod)
    wait_until(lambda: b'"grace"' in (pod.directory / "lease.json").read_bytes(), "the state")
    guard.kill()
    guard.wait()
    pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    status = pod.status()
    assert status["holds"] == 0
    assert 500 < status["grace_left_s"] <= 600


@pytest.mark.parametrize(
    ("action", "told"), [("terminate", "pod delete pod123"), ("stop", "pod stop pod123"), ("x", "pod stop pod123")]
)
def test_what_becomes_of_a_pod_whose_grace_time_is_over_is_in_its_environment(
    pod: FakePod, action: str, told: str
) -> None:
    pod.pod_environ["PODTASKS_GRACE_ACTION"] = action
    pod.write_environ()
    pod.start_guard(PODTASKS_GRACE_MINUTES="0.003")
    assert pod.wait_for_stop() == [told]
