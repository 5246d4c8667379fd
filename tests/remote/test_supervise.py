"""The whole chain on the pod: launch, supervise, guard, stop; and every way a run can end."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.remote.fake_pod import API_KEY, FakePod, is_running, wait_until

SLOW = "import time; print('begun'); time.sleep(1000)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun'); time.sleep(1000)"
POLITE = """
import signal, sys, time
def save(*_):
    print('saving')
    sys.exit(3)
signal.signal(signal.SIGTERM, save)
print('begun')
time.sleep(1000)
"""
CHILDREN = """
import subprocess, sys
child = subprocess.Popen(['sleep', '1000'])
stubborn = subprocess.Popen(['sh', '-c', "trap '' TERM; sleep 1000"])
print('children', child.pid, stubborn.pid)
"""
ENVIRONMENT = """
class EnvironmentFailure(Exception):
    def __init__(self, message, exit_code):
        super().__init__(message)
        self.exit_code = exit_code

def prepare_environment(clone, requirements, venv, python, volume, container, log_write):
    import subprocess, sys
    log_write("installing " + requirements + "\\n")
"""


def use_environment(pod: FakePod, body: str) -> None:
    """Give the kit an environment.py whose last lines are `body`."""
    kit = pod.copy_kit()
    (kit / "environment.py").write_text(ENVIRONMENT + "".join(f"    {line}\n" for line in body.splitlines()))


def supervisor(pod: FakePod) -> int:
    """Return the process id of the supervisor."""
    return int((pod.directory / "supervisor.pid").read_text())


def test_a_training_that_succeeds_has_header_output_footer_and_stops_the_pod(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch("print('hello')")
    record = pod.wait_for_end(answer["run_dir"])
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert (record["exit_code"], record["reason"]) == (0, "finished")
    assert record["started_at"] <= record["training_started_at"] <= record["ended_at"]
    lines = pod.log().decode().splitlines()
    assert lines[0] == ""
    assert lines[1].startswith("====== 20")
    assert lines[2:] == [
        "CONFIG: configs/digits.yaml",
        "STARTING FRESH",
        "RUN: digits-20261123-120000-3f2a1b9",
        "POD: pod123 (NVIDIA GeForce RTX 4090, $0.69/h)",
        "COMMIT: 3f2a1b9c0d8e7f6a5b4c3d2e1f0a9b8c7d6e5f40 (main)",
        "hello",
        "EXIT_CODE=0",
    ]
    assert (Path(answer["run_dir"]) / "output.log").read_bytes() == pod.log()
    assert API_KEY not in (pod.directory / "guard.log").read_text()
    wait_until(lambda: pod.tmux("has-session", "-t", "train").returncode != 0, "the session to close")
    assert not (pod.directory / "supervisor.pid").exists()


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"checkpoint": {"path": "/x/checkpoint-200", "step": 200}}, "RESUMING FROM: /x/checkpoint-200"),
        ({"force_restart": True}, "FORCE RESTART: checkpoints ignored"),
        ({"config": "a\nEXIT_CODE=0"}, "CONFIG: a\\nEXIT_CODE=0"),
        ({"pod": {"id": "p", "gpu": None, "usd_per_hour": None}}, "POD: p"),
    ],
)
def test_the_header_tells_what_runs(pod: FakePod, fields: dict[str, object], line: str) -> None:
    pod.start_guard()
    pod.wait_for_end(pod.launch("pass", **fields)["run_dir"])
    lines = pod.log().decode().splitlines()
    assert line in lines
    starts = ("RESUMING FROM", "STARTING FRESH", "FORCE RESTART")
    assert sum(text.startswith(starts) for text in lines) == 1


@pytest.mark.parametrize(
    ("script", "exit_code", "reason", "footer"),
    [
        ("raise SystemExit(7)", 7, "failed", b"EXIT_CODE=7\n"),
        (
            "1 / 0",
            1,
            "failed",
            # Python 3.8 shows the script's path as it was given.
            b'train.py", line 1, in <module>\n  | 1 / 0\n  | ZeroDivisionError: division by zero\n'
            b"TRY: The last lines of the traceback show where; commit the correction and run inv train again.\n"
            b"EXIT_CODE=1\n",
        ),
        (
            "import os; os.kill(os.getpid(), 9)",
            137,
            "killed by SIGKILL, perhaps for want of memory",
            b"ENDED: killed by SIGKILL, perhaps for want of memory\nEXIT_CODE=137\n",
        ),
        ("import os; os.kill(os.getpid(), 11)", 139, "killed by SIGSEGV", b"ENDED: killed by SIGSEGV\nEXIT_CODE=139\n"),
    ],
)
def test_a_training_that_fails_stops_the_pod_with_its_own_exit_code(
    pod: FakePod, script: str, exit_code: int, reason: str, footer: bytes
) -> None:
    pod.start_guard()
    record = pod.wait_for_end(pod.launch(script)["run_dir"])
    assert (record["exit_code"], record["reason"]) == (exit_code, reason)
    assert pod.log().endswith(footer)
    assert pod.wait_for_stop() == ["pod stop pod123"]


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [
        (["/no/such/python", "x"], 127),
        ([sys.executable, "no such script.py"], 2),
        (["/etc/passwd"], 126),
    ],
)
def test_a_training_that_cannot_start_ends_the_run(pod: FakePod, command: list[str], exit_code: int) -> None:
    pod.start_guard()
    record = pod.wait_for_end(pod.launch("pass", command=command)["run_dir"])
    assert record["exit_code"] == exit_code
    assert command[-1].encode() in pod.log()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_every_byte_the_training_prints_is_in_the_log_once(pod: FakePod) -> None:
    pod.start_guard()
    script = """
import os, sys
os.write(1, bytes(range(256)) * 500)
os.write(2, b'stderr\\r50%\\r100%')
sys.stdout.write('x' * 300_000)
"""
    answer = pod.launch(script)
    record = pod.wait_for_end(answer["run_dir"])
    expected = bytes(range(256)) * 500 + b"stderr\r50%\r100%" + b"x" * 300_000 + b"\nEXIT_CODE=0\n"
    assert pod.log().endswith(b"(main)\n" + expected)
    assert pod.log()[record["log_start"] : record["log_end"]] == (Path(answer["run_dir"]) / "output.log").read_bytes()


def test_a_second_run_appends_and_has_its_own_part(pod: FakePod) -> None:
    pod.start_guard()
    first = pod.launch("print('one')", when_done="keep", run_id="r-1")
    end = pod.wait_for_end(first["run_dir"])["log_end"]
    wait_until(lambda: pod.status()["lease"] is None, "the lease")
    second = pod.launch("print('two')", when_done="keep", run_id="r-2")
    assert second["log_start"] == end
    pod.wait_for_end(second["run_dir"])
    own = (Path(second["run_dir"]) / "output.log").read_bytes()
    assert own.startswith(b"\n====== ")
    assert b"two\nEXIT_CODE=0\n" in own
    assert b"one" not in own
    assert not pod.stops.exists()


def test_the_training_has_the_pods_environment_and_the_scripts_on_top(pod: FakePod) -> None:
    pod.pod_environ["SHADOWED"] = "pod"
    pod.write_environ()
    pod.start_guard()
    script = """
import json
import os
names = 'POD_VARIABLE', 'RUNPOD_POD_ID', 'SHADOWED', 'OWN', 'PYTHONUNBUFFERED', 'PODTASKS_DIR', 'TMUX'
print({name: os.environ.get(name) for name in names})
print(open('/proc/self/oom_score_adj').read().strip())
print(os.getcwd() == os.path.realpath(os.path.dirname(os.path.abspath('train.py'))), os.getsid(0) == os.getpid())
"""
    pod.wait_for_end(pod.launch(script, script_env={"SHADOWED": "script", "OWN": "a 'b' $(c)"})["run_dir"])
    expected = {
        "POD_VARIABLE": "two\nlines",
        "RUNPOD_POD_ID": "pod123",
        "SHADOWED": "script",
        "OWN": "a 'b' $(c)",
        "PYTHONUNBUFFERED": "1",
        "PODTASKS_DIR": None,
        "TMUX": None,
    }
    assert f"{expected}\n500\nTrue True\n" in pod.log().decode()


# Ends from outside


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGTERM, "SIGTERM: the pod is ending"),
        (signal.SIGHUP, "the tmux session was ended"),
        (signal.SIGINT, "interrupted in tmux"),
    ],
)
def test_a_signal_ends_the_training_gently(pod: FakePod, number: int, reason: str) -> None:
    pod.start_guard()
    answer = pod.launch(POLITE)
    pod.wait_for_log(b"begun\n")
    os.kill(supervisor(pod), number)
    record = pod.wait_for_end(answer["run_dir"])
    assert (record["exit_code"], record["reason"]) == (3, reason)
    kind = "preempted" if number == signal.SIGTERM else "asked_to_end"
    assert record["failure"]["kind"] == kind
    assert f"begun\nsaving\nWHY: {record['failure']['title']}\nTRY: " in pod.log().decode()
    assert pod.log().endswith(f"\nENDED: {reason}\nEXIT_CODE=3\n".encode())
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_kill_session_ends_the_run_and_stops_the_pod(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch(POLITE)
    pod.wait_for_log(b"begun\n")
    assert pod.tmux("kill-session", "-t", "train").returncode == 0
    assert pod.wait_for_end(answer["run_dir"])["exit_code"] == 3
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_kill_of_the_tmux_server_ends_the_run_and_stops_the_pod(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch(POLITE)
    pod.wait_for_log(b"begun\n")
    os.kill(int(pod.tmux("display-message", "-p", "#{pid}").stdout), signal.SIGKILL)
    record = pod.wait_for_end(answer["run_dir"])
    assert (record["exit_code"], record["reason"]) == (3, "the tmux session was ended")
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_kill_of_the_supervisor_loses_no_line_and_stops_the_pod(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch("import os, time; print('training', os.getpid(), 'begun'); time.sleep(1000)")
    pod.wait_for_log(b"begun\n")
    training = int(pod.log().split(b"training ")[1].split()[0])
    os.kill(supervisor(pod), signal.SIGKILL)
    assert pod.wait_for_stop() == ["pod stop pod123"]
    record = pod.record(answer["run_dir"])
    assert (record["exit_code"], record["reason"]) == (137, "supervisor killed")
    assert pod.log().endswith(b"\nENDED: supervisor killed\nEXIT_CODE=137\n")
    assert not is_running(training)


def test_kill_of_the_guard_does_not_hurt_the_run(pod: FakePod) -> None:
    guard = pod.start_guard()
    go_on = pod.root / "go on"
    answer = pod.launch(f"import os, time\nprint('begun')\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)")
    pod.wait_for_log(b"begun\n")
    guard.kill()
    guard.wait()
    pod.start_guard()
    wait_until(lambda: b"holds the lease again" in (pod.directory / "guard.log").read_bytes(), "its return")
    go_on.touch()
    assert pod.wait_for_end(answer["run_dir"])["exit_code"] == 0
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_each_guard_knows_of_an_end_that_a_signal_asked_for_and_ends_what_does_not_end(pod: FakePod) -> None:
    guard = pod.start_guard()
    pod.launch(STUBBORN, stop_grace_s=1000)
    pod.wait_for_log(b"begun\n")
    guard.kill()
    guard.wait()
    os.kill(supervisor(pod), signal.SIGHUP)
    pod.start_guard()
    wait_until(lambda: (pod.status()["lease"] or {}).get("ending") == "the tmux session was ended", "the guard to know")
    assert 1000 < json.loads((pod.directory / "lease.json").read_text())["deadlines"]["kill"] - time.monotonic() < 1016


def test_without_any_guard_the_supervisor_stops_the_pod_itself(pod: FakePod) -> None:
    pod.environ["PODTASKS_RECONNECT_S"] = "0.3"
    guard = pod.start_guard()
    answer = pod.launch(SLOW, stop_grace_s=0.1)
    pod.wait_for_log(b"begun\n")
    guard.kill()
    guard.wait()
    os.kill(supervisor(pod), signal.SIGHUP)
    assert pod.wait_for_end(answer["run_dir"])["exit_code"] == 143
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert "the supervisor stops the pod itself" in (pod.directory / "supervisor.log").read_text()


def test_where_nothing_restarts_the_guard_the_supervisor_does(pod: FakePod) -> None:
    guard = pod.start_guard()
    pod.launch(SLOW)
    pod.wait_for_log(b"begun\n")
    guard.kill()
    guard.wait()
    wait_until(lambda: b"holds the lease again" in (pod.directory / "guard.log").read_bytes(), "another guard")
    os.kill(supervisor(pod), signal.SIGKILL)
    assert pod.wait_for_stop() == ["pod stop pod123"]


@pytest.mark.parametrize(
    ("number", "settings"),
    [
        (signal.SIGHUP, {}),
        (signal.SIGTERM, {"PODTASKS_PLATFORM_GRACE_S": "0.2"}),
    ],
)
def test_a_training_that_ignores_sigterm_is_killed(pod: FakePod, number: int, settings: dict[str, str]) -> None:
    pod.environ.update(settings)
    pod.start_guard()
    answer = pod.launch(STUBBORN, stop_grace_s=0.2 if number == signal.SIGHUP else 1000)
    pod.wait_for_log(b"begun\n")
    os.kill(supervisor(pod), number)
    record = pod.wait_for_end(answer["run_dir"])
    assert record["exit_code"] == 137
    assert pod.log().endswith(f"ENDED: {record['reason']}\nEXIT_CODE=137\n".encode())


def test_sigterm_from_the_platform_shortens_a_long_grace(pod: FakePod) -> None:
    pod.environ["PODTASKS_PLATFORM_GRACE_S"] = "0.1"
    pod.start_guard()
    answer = pod.launch(STUBBORN, stop_grace_s=1000)
    pod.wait_for_log(b"begun\n")
    pod.client().ask("end", reason="user")
    wait_until(lambda: pod.status()["lease"]["ending"], "the request to end")
    os.kill(supervisor(pod), signal.SIGTERM)
    record = pod.wait_for_end(answer["run_dir"])
    assert (record["exit_code"], record["reason"]) == (137, "user")


def test_what_a_training_leaves_running_is_ended_with_it(pod: FakePod) -> None:
    pod.environ["PODTASKS_LEFTOVER_GRACE_S"] = "0.3"
    pod.start_guard()
    pod.wait_for_end(pod.launch(CHILDREN)["run_dir"])
    children = pod.log().split(b"children ")[1].split(b"\n")[0].split()
    assert [is_running(int(pid)) for pid in children] == [False, False]
    assert pod.log().endswith(b"\nEXIT_CODE=0\n")


def test_hours_that_are_over_end_the_run(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch(POLITE, max_hours=0.7 / 3600)
    record = pod.wait_for_end(answer["run_dir"])
    assert record["reason"] == "max_hours"
    assert pod.wait_for_stop() == ["pod stop pod123"]


# The terminal


def test_the_pane_shows_the_trainings_output(pod: FakePod) -> None:
    pod.start_guard()
    pod.launch(SLOW)
    wait_until(lambda: b"begun" in pod.tmux("capture-pane", "-p", "-t", "train").stdout, "the output in the pane")
    assert b"CONFIG: configs/digits.yaml" in pod.tmux("capture-pane", "-p", "-t", "train").stdout


# Before the training


def test_requirements_are_prepared_first_and_their_python_is_used(pod: FakePod) -> None:
    venv = pod.root / "venv"
    use_environment(pod, f"return {str(venv / 'bin' / 'python')!r}")
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text("")
    script = f'#!/bin/sh\necho "ours $1 $VIRTUAL_ENV ${{PATH%%:*}}"\nexec {sys.executable} "$@"\n'
    (venv / "bin" / "python").write_text(script)
    (venv / "bin" / "python").chmod(0o755)
    pod.start_guard()
    record = pod.wait_for_end(pod.launch("print('trained')", requirements="requirements.txt")["run_dir"])
    assert record["exit_code"] == 0
    expected = f"(main)\ninstalling requirements.txt\nours train.py {venv} {venv}/bin\ntrained\nEXIT_CODE=0\n"
    assert pod.log().decode().endswith(expected)


def test_the_end_of_the_installation_does_not_limit_the_training(pod: FakePod) -> None:
    pod.environ["PODTASKS_LEFTOVER_GRACE_S"] = "0.1"
    use_environment(pod, "subprocess.Popen(['sleep', '1000'])\nreturn sys.executable")
    pod.start_guard()
    answer = pod.launch("import time; time.sleep(0.5); print('trained')", requirements="requirements.txt")
    assert pod.wait_for_end(answer["run_dir"])["exit_code"] == 0
    assert pod.log().endswith(b"trained\nEXIT_CODE=0\n")


def test_requirements_that_fail_end_the_run_with_their_exit_code(pod: FakePod) -> None:
    use_environment(pod, "raise EnvironmentFailure('no such package: torhc', 9)")
    pod.start_guard()
    record = pod.wait_for_end(pod.launch("print('trained')", requirements="requirements.txt")["run_dir"])
    assert (record["exit_code"], record["training_started_at"]) == (9, None)
    assert record["failure"]["kind"] == "pip"
    assert b"podtasks: no such package: torhc\nWHY: The packages could not be installed.\n" in pod.log()
    assert pod.log().endswith(b"\nENDED: environment failed\nEXIT_CODE=9\n")
    assert pod.wait_for_stop() == ["pod stop pod123"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_installation_ends_it(pod: FakePod, number: int) -> None:
    use_environment(pod, "subprocess.run(['sleep', '1000'])")
    pod.start_guard()
    answer = pod.launch("print('trained')", requirements="requirements.txt")
    pod.wait_for_log(b"installing")
    os.kill(supervisor(pod), number)
    record = pod.wait_for_end(answer["run_dir"])
    assert (record["exit_code"], record["training_started_at"]) == (143, None)
    assert b"trained" not in pod.log()
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_an_installation_that_ends_well_when_asked_to_end_is_no_success(pod: FakePod) -> None:
    use_environment(
        pod,
        "import signal\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n"
        "log_write('waiting\\n')\nsubprocess.run(['sleep', '1000'])",
    )
    pod.start_guard()
    answer = pod.launch("print('trained')", requirements="requirements.txt")
    pod.wait_for_log(b"waiting")
    assert pod.client().ask("end", reason="user")["ok"]
    record = pod.wait_for_end(answer["run_dir"])
    assert (record["exit_code"], record["reason"], record["training_started_at"]) == (143, "user", None)
    assert pod.log().endswith(b"ENDED: user\nEXIT_CODE=143\n")


def test_a_log_that_cannot_be_written_still_stops_the_pod(pod: FakePod) -> None:
    pod.start_guard()
    use_full_log(pod)
    pod.launch("print('x')")
    assert pod.wait_for_stop() == ["pod stop pod123"]


def use_full_log(pod: FakePod) -> None:
    """Make the log a device that is always full."""
    (pod.volume / "logs").mkdir()
    (pod.volume / "logs" / "current.log").symlink_to("/dev/full")


def test_a_volume_that_fills_up_ends_the_run_and_stops_the_pod(pod: FakePod) -> None:
    pod.start_guard()
    client, token = pod.prepare()
    script = "import sys\nfor _ in range(100_000):\n    sys.stdout.write('x' * 99 + '\\n')"
    request = {**pod.request("pass"), "token": token, "command": [sys.executable, "-c", script], "clone": "/"}
    # Launched where the volume has room for a few pages only; what it starts stays there.
    small_volume = ["bwrap", "--dev-bind", "/", "/", "--size", "200000", "--tmpfs", str(pod.volume)]
    process = pod.start([*small_volume, sys.executable, str(pod.kit / "launch.py")])
    out, err = process.communicate(json.dumps(request).encode() + b"\n", timeout=60)
    assert json.loads(out).get("run_id"), (out, err)
    client.close()
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert "No space left on device" in (pod.directory / "supervisor.log").read_text()


# Limits


def test_the_money_of_a_run_is_kept_by_its_guard_and_said_in_its_log(pod: FakePod) -> None:
    pod.start_guard()
    price = {"id": "pod123", "gpu": None, "usd_per_hour": 3600}
    answer = pod.launch(SLOW, pod=price, max_cost_usd=2, keep_failed_s=1000)
    record = pod.wait_for_end(answer["run_dir"])
    assert (record["reason"], record["exit_code"], record["failure"]["kind"]) == ("max_cost_usd", 143, "money_used_up")
    assert b"WHY: The money allowed for a run (max_cost_usd) was used up: $2.00 for this run, 0.00 h at" in pod.log()
    assert pod.log().endswith(b"ENDED: max_cost_usd\nEXIT_CODE=143\n")
    assert pod.wait_for_stop() == ["pod stop pod123"]


def test_a_frozen_supervisor_is_killed_when_the_money_is_used_up(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_OVERTIME_S="0.1")
    price = {"id": "pod123", "gpu": None, "usd_per_hour": 3600}
    answer = pod.launch(SLOW, pod=price, max_cost_usd=3, stop_grace_s=0)
    frozen = supervisor(pod)
    # tmux wakes what was stopped in it: the freezer does not end before the guard's patience does.
    words = [
        sys.executable,
        "-c",
        "import os, sys, time\nwhile True:\n    os.kill(int(sys.argv[1]), 19)\n    time.sleep(0.001)",
    ]
    freezer = pod.start([*words, str(frozen)])
    assert pod.wait_for_stop() == ["pod stop pod123"]
    assert freezer.wait(timeout=20) != 0
    assert not is_running(frozen)
    assert pod.record(answer["run_dir"])["reason"] == "max_cost_usd"


def test_a_training_that_fails_keeps_its_pod_for_its_time_and_says_so(pod: FakePod) -> None:
    pod.start_guard()
    told = pod.root / "told"
    answer = pod.launch("raise SystemExit(7)", keep_failed_s=1.5, notify=f"cat >'{told}'")
    record = pod.wait_for_end(answer["run_dir"])
    wait_until(lambda: pod.status()["kept_left_s"], "the failed pod being kept")
    assert not pod.stops.exists()
    assert json.loads(told.read_text())["text"].endswith(" The pod stays up for 2 s; inv stop stops it now.")
    assert (record["exit_code"], record["last_step"]) == (7, None)
    assert pod.wait_for_stop() == ["pod stop pod123"]
