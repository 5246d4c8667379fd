"""A training that does nothing any more is noticed, told once, and ended if so set."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol
from unittest.mock import Mock

import pytest

from tests.remote.fake_pod import REMOTE, FakePod, is_running, wait_until

SILENT = "import time; print('begun'); time.sleep(1000)"
TELL = 'cat >"$HOME/json-$PODTASKS_EVENT"; printf "%s\\n" "$PODTASKS_EVENT" >>"$HOME/told"'
IDLE = "echo '0, NVIDIA GeForce RTX 4090, 0, 20100, 24564'"
STALL_S = 0.3


@pytest.fixture
def pod(pod: FakePod) -> FakePod:
    """A pod with a guard, on which nothing takes long."""
    pod.environ.update(PODTASKS_HEARTBEAT_S="0.02", PODTASKS_STALL_CHECK_S="0.05")
    pod.start_guard()
    return pod


def told(pod: FakePod) -> list[str]:
    """Return the events that were told."""
    path = pod.root / "told"
    return path.read_text().split() if path.exists() else []


def message(pod: FakePod) -> dict[str, Any]:
    """Return what was told of the stall."""
    found: dict[str, Any] = json.loads((pod.root / "json-stalled").read_text())
    return found


def test_a_stall_is_noted_and_told_once_and_the_run_goes_on(pod: FakePod) -> None:
    pod.add_program("nvidia-smi", IDLE)
    answer = pod.launch(SILENT, stall_minutes=STALL_S / 60, notify=TELL, script_env={"HF_TOKEN": "hf_secret"})
    wait_until(lambda: pod.record(answer["run_dir"])["stalled_at"], "the stall")
    wait_until(lambda: told(pod), "the notification")
    time.sleep(1)  # three times as long again
    assert told(pod) == ["stalled"]
    text = "no byte of log and no GPU use for 0.005 minutes. It goes on; inv stop ends it."
    assert message(pod)["text"] == f"Run {answer['run_id']} has stalled: {text}"
    assert "hf_secret" not in json.dumps(message(pod))
    _, status = pod.run_program("status.py", {"lines": 0})
    assert abs(status["run"]["stalled_at"] - time.time()) < 60
    assert status["run"]["ended_at"] is None
    pod.client().ask("end", reason="user")
    record = pod.wait_for_end(answer["run_dir"])
    pod.wait_for_stop()
    assert [entry["event"] for entry in pod.record(answer["run_dir"])["notified"]] == ["stalled", "ended"]
    assert record["reason"] == "user"


def test_a_training_that_writes_again_has_not_stalled_any_more_and_may_stall_again(pod: FakePod) -> None:
    pod.add_program("nvidia-smi", IDLE)
    script = (
        "import os, sys, time\nfor name in 'abc':\n    sys.stdout.write(name + '\\r')\n    sys.stdout.flush()\n"
        f"    while not os.path.exists({str(pod.root)!r} + '/' + name): time.sleep(0.01)\n"
    )
    answer = pod.launch(script, stall_minutes=STALL_S / 60, notify=TELL)
    for number, name in enumerate("abc", 1):
        wait_until(lambda: pod.record(answer["run_dir"])["stalled_at"], "the stall")
        wait_until(lambda n=number: len(told(pod)) == n, "the notification")  # type: ignore[misc]
        (pod.root / name).touch()
        if name != "c":
            wait_until(lambda: pod.record(answer["run_dir"])["stalled_at"] is None, "the end of the stall")
    assert pod.wait_for_end(answer["run_dir"])["reason"] == "finished"
    pod.wait_for_stop()
    assert told(pod) == ["stalled", "stalled", "stalled", "ended"]


def test_on_stall_stop_ends_the_run_and_says_why(pod: FakePod) -> None:
    pod.add_program("nvidia-smi", IDLE)
    limits = {"stall_minutes": STALL_S / 60, "on_stall": "stop", "keep_failed_s": 1000}
    answer = pod.launch(SILENT, notify=TELL, **limits)
    record = pod.wait_for_end(answer["run_dir"])
    assert (record["reason"], record["exit_code"], record["failure"]["kind"]) == ("stalled", 143, "stalled")
    assert b"WHY: The training stalled: no byte of log and no GPU use for 0.005 minutes.\nTRY: " in pod.log()
    assert pod.log().endswith(b"ENDED: stalled\nEXIT_CODE=143\n")
    assert pod.wait_for_stop() == ["pod stop pod123"], "a stalled pod is not kept"
    assert sorted(told(pod)) == ["failed", "stalled"]
    assert message(pod)["text"].endswith("It is ended now.")


def test_the_guard_knows_of_a_stop_so_that_it_ends_what_no_signal_ends(pod: FakePod) -> None:
    pod.add_program("nvidia-smi", IDLE)
    script = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SILENT}"
    pod.launch(script, stall_minutes=STALL_S / 60, on_stall="stop", stop_grace_s=1000)
    wait_until(lambda: pod.status()["lease"]["ending"] == "stalled", "the guard to know")


def test_a_training_that_uses_its_gpu_has_not_stalled(pod: FakePod) -> None:
    calls = pod.root / "calls"
    pod.add_program("nvidia-smi", f"echo >>'{calls}'; echo '0, A, 0, 1, 2'; echo '1, B, 50, 1, 2'")
    answer = pod.launch(SILENT, stall_minutes=STALL_S / 60, on_stall="stop")
    wait_until(lambda: calls.exists() and len(calls.read_text()) > 15, "some looks at the GPU")
    assert pod.record(answer["run_dir"])["stalled_at"] is None
    pod.add_program("nvidia-smi", IDLE)
    assert pod.wait_for_end(answer["run_dir"])["reason"] == "stalled"


@pytest.mark.parametrize("script", [None, "exit 9", "echo '0, NVIDIA A100, [N/A], [N/A], [N/A]'", "exec sleep 1000"])
def test_where_the_gpu_does_not_tell_the_log_alone_counts_and_that_is_said(pod: FakePod, script: str | None) -> None:
    pod.environ["PODTASKS_STALL_QUERY_S"] = "0.2"
    if script is not None:
        pod.add_program("nvidia-smi", script)
    answer = pod.launch(SILENT, stall_minutes=STALL_S / 60, notify=TELL)
    wait_until(lambda: told(pod), "the notification")
    assert "no byte of log for 0.005 minutes; whether it used its GPU is not known" in message(pod)["text"]
    assert pod.record(answer["run_dir"])["stall_gpu_known"] is False


def test_the_gpu_is_asked_only_while_the_log_is_silent(pod: FakePod) -> None:
    calls = pod.root / "calls"
    pod.add_program("nvidia-smi", f"echo >>'{calls}'; {IDLE}")
    script = "import time\nfor i in range(100):\n    print(i, flush=True)\n    time.sleep(0.01)\ntime.sleep(0.5)"
    pod.environ.update(PODTASKS_STALL_CHECK_S="0.2")
    answer = pod.launch(script, stall_minutes=1)
    assert pod.wait_for_end(answer["run_dir"])["reason"] == "finished"
    assert len(calls.read_text()) <= 3


@pytest.mark.parametrize("minutes", [0, None])
def test_without_the_setting_nothing_stalls(pod: FakePod, minutes: float | None) -> None:
    answer = pod.launch("import time; time.sleep(0.6)", stall_minutes=minutes, on_stall="stop", notify=TELL)
    assert pod.wait_for_end(answer["run_dir"])["reason"] == "finished"
    pod.wait_for_stop()
    assert told(pod) == ["ended"]


def test_an_installation_stalls_as_well(pod: FakePod) -> None:
    kit = pod.copy_kit()
    (kit / "environment.py").write_text(
        "class EnvironmentFailure(Exception):\n    pass\n\n"
        "def prepare_environment(*_):\n    import time\n    time.sleep(1000)\n"
    )
    answer = pod.launch("pass", requirements="requirements.txt", stall_minutes=STALL_S / 60, on_stall="stop")
    assert pod.wait_for_end(answer["run_dir"])["reason"] == "stalled"


# By itself


class FakeHeartbeat:
    """A log whose size the test sets."""

    def __init__(self) -> None:
        self.log_size: int | None = 0
        self.alive = True

    def is_alive(self) -> bool:
        """Say whether somebody looks at the log."""
        return self.alive


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, with the real time between two looks."""
    monkeypatch.syspath_prepend(str(REMOTE))
    monkeypatch.delenv("PODTASKS_STALL_CHECK_S", raising=False)
    return importlib.import_module("silence")


class Watch(Protocol):
    """What silence.Silence has for its caller."""

    def next_check_at(self) -> float | None:
        """Return when to look again."""

    def look_if_due(self) -> str | None:
        """Look when it is time to."""


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, silence: ModuleType) -> None:
        self.now = 1000.0
        monkeypatch.setattr(silence.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(silence.gpu, "start_query", lambda: None)

    def run(self, watch: Watch, seconds: float) -> list[str]:
        """Let time pass as the supervisor does, from look to look; return what is new."""
        until, news = self.now + seconds, []
        while (at := watch.next_check_at()) is not None and at <= until:
            self.now = max(self.now, at)
            news.append(watch.look_if_due())
        self.now = until
        return [item for item in news if item]


@pytest.mark.parametrize(("stall_minutes", "check_s"), [(0.1, 5), (1, 6), (1.5, 9), (10, 10), (30, 10), (10_000, 10)])
def test_it_looks_every_tenth_of_the_time_but_from_5_s_to_10_s(
    silence: ModuleType, stall_minutes: float, check_s: float
) -> None:
    assert silence.check_s(stall_minutes * 60) == pytest.approx(check_s)


def test_half_an_hour_of_silence_is_a_stall_and_not_a_minute_less(
    silence: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, beat = Clock(monkeypatch, silence), FakeHeartbeat()
    watch = silence.Silence({"stall_minutes": 30}, beat)
    assert clock.run(watch, 29 * 60) == []
    beat.log_size = 1
    assert clock.run(watch, 29 * 60) == []
    assert clock.run(watch, 3 * 60) == ["stalled"]
    assert clock.run(watch, 300 * 60) == []
    beat.log_size = 2
    assert clock.run(watch, 60) == ["moved"]
    assert clock.run(watch, 31 * 60) == ["stalled"]


def test_a_machine_that_stood_still_is_no_stall(silence: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, beat = Clock(monkeypatch, silence), FakeHeartbeat()
    watch = silence.Silence({"stall_minutes": 30}, beat)
    assert clock.run(watch, 600) == []
    clock.now += 24 * 3600
    assert watch.look_if_due() is None
    assert clock.run(watch, 60) == []
    assert clock.run(watch, 1200) == ["stalled"]


def test_a_training_that_uses_its_gpu_for_moments_only_is_seen(
    silence: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that waits for its data: a moment of each minute at the GPU, and no word for hours."""
    clock = Clock(monkeypatch, silence)
    monkeypatch.setattr(silence.gpu, "start_query", lambda: Mock(poll=Mock(return_value=0), asked_at=clock.now))
    use = [{"util_percent": 0}, {"util_percent": 80}]
    monkeypatch.setattr(silence.gpu, "read_answer", lambda query, _: [use[query.asked_at % 59 < 2]])
    watch = silence.Silence({"stall_minutes": 30}, FakeHeartbeat())
    assert clock.run(watch, 10 * 3600) == []


def test_each_program_has_its_own_time(silence: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, silence)
    watch = silence.Silence({"stall_minutes": 30}, FakeHeartbeat())
    watch.begin()
    assert clock.run(watch, 29 * 60) == []
    watch.begin()
    assert clock.run(watch, 29 * 60) == []
    assert clock.run(watch, 60) == ["stalled"]


def test_where_nobody_looks_at_the_log_nothing_is_said(silence: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, beat = Clock(monkeypatch, silence), FakeHeartbeat()
    watch = silence.Silence({"stall_minutes": 30}, beat)
    beat.alive = False
    assert (watch.next_check_at(), clock.run(watch, 3600)) == (None, [])


@pytest.mark.parametrize("minutes", [0, -1, None, float("nan"), float("inf"), "x", True, 10**400])
def test_a_setting_of_no_use_is_none(silence: ModuleType, minutes: object) -> None:
    assert silence.Silence({"stall_minutes": minutes}, FakeHeartbeat()).next_check_at() is None


def test_a_question_that_hangs_is_killed_and_no_second_one_waits_beside_it(
    silence: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, asked = Clock(monkeypatch, silence), []

    def ask() -> subprocess.Popen[bytes]:
        asked.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]))
        return asked[-1]

    monkeypatch.setattr(silence.gpu, "start_query", ask)
    watch = silence.Silence({"stall_minutes": 1}, FakeHeartbeat())
    watch.begin()
    assert clock.run(watch, 12) == []
    assert is_running(asked[0].pid)
    assert clock.run(watch, 6) == []
    assert asked[0].wait(timeout=10) == -9
    assert len(asked) == 1
    for process in asked:
        process.kill()
        process.wait()


def test_no_file_but_the_heartbeats_touches_the_volume_while_a_training_runs() -> None:
    for name in ("silence.py", "stall.py", "training_process.py"):
        assert "os.stat(" not in (Path(REMOTE) / name).read_text(), name
