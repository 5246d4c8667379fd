"""follow_log.py: one test for each rule of its contract."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.remote.fake_pod import FakePod, GuardClient, is_running, wait_until

OUTPUT = b"10%\r20%\r\n" + bytes(range(256)) + b"\xff\xfe" + b"x" * 200_000 + b"no newline"


class Followed:
    """A run on record, its log, and the programs that follow it."""

    def __init__(self, pod: FakePod) -> None:
        self.pod = pod
        self.run_dir = pod.volume / "runs" / "r-1"
        self.log = pod.volume / "logs" / "current.log"
        self.run_dir.mkdir(parents=True)
        self.log.parent.mkdir()
        self.record(ended_at=None, exit_code=None, reason=None, log_end=None)
        self.followings: list[Following] = []

    def record(self, **fields: object) -> None:
        """Write the run's record, as a whole."""
        new = self.run_dir / "new"
        new.write_text(json.dumps({"run_id": "r-1", "log": str(self.log), "log_start": 0, **fields}))
        new.replace(self.run_dir / "run.json")

    def end(self, exit_code: int = 0) -> None:
        """Complete the record with the log as it is now."""
        self.record(ended_at=1.0, exit_code=exit_code, reason="finished", log_end=self.log.stat().st_size)

    def append(self, data: bytes) -> None:
        """Append to the log."""
        with self.log.open("ab") as file:
            file.write(data)

    def run(self) -> GuardClient:
        """Take the lease for the run, as its supervisor does."""
        launcher, token = self.pod.prepare()
        client = self.pod.client()
        run = {
            "run_id": "r-1",
            "run_dir": str(self.run_dir),
            "kit": str(self.pod.kit),
            "when_done": "stop",
            "max_hours": None,
        }
        assert client.ask("run", token=token, pid=0, run=run)["ok"]
        launcher.close()
        return client

    def follow(self, offset: int = 0, **settings: str) -> Following:
        """Start to follow."""
        request = {"run_dir": str(self.run_dir), "log": str(self.log), "offset": offset}
        self.followings.append(Following(self.pod.start_program("follow_log.py", request, **settings)))
        return self.followings[-1]


class Following:
    """A running follow_log.py: what it has written so far, and the events it has told."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.output = bytearray()
        self.events: queue.Queue[tuple[dict[str, Any], int]] = queue.Queue()
        self.threads = [threading.Thread(target=read, daemon=True) for read in (self.read_output, self.read_events)]
        for thread in self.threads:
            thread.start()

    def read_output(self) -> None:
        """Collect the log's bytes."""
        assert self.process.stdout is not None
        while data := os.read(self.process.stdout.fileno(), 65536):
            self.output += data

    def read_events(self) -> None:
        """Collect the events."""
        assert self.process.stderr is not None
        for line in iter(self.process.stderr.readline, b""):
            self.events.put((json.loads(line), len(self.output)))

    def wait_for(self, event: str) -> dict[str, Any]:
        """Return the next event of a kind."""
        while True:
            told, _ = self.events.get(timeout=15)
            if told["event"] == event:
                return told

    def wait_for_bytes(self, count: int) -> None:
        """Wait until so many bytes came."""
        wait_until(lambda: len(self.output) >= count, f"{count} bytes")

    def acknowledge(self) -> int:
        """Say that everything came; return the program's exit code."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"thanks\n")
        self.process.stdin.flush()
        code = self.process.wait(timeout=10)
        self.join()
        return code

    def join(self) -> None:
        """Wait until all it wrote is read."""
        for thread in self.threads:
            thread.join()


@pytest.fixture
def followed(pod: FakePod) -> Iterator[Followed]:
    """A run that has neither ended nor printed anything."""
    followed = Followed(pod)
    yield followed
    for following in followed.followings:
        following.process.kill()
        following.join()


@pytest.mark.parametrize("offset", [0, 5, 200])
def test_rule_1_bytes_come_once_in_order_and_unchanged(followed: Followed, offset: int) -> None:
    followed.append(OUTPUT[:100_000])
    followed.pod.start_guard()
    followed.run()
    following = followed.follow(offset)
    following.wait_for_bytes(100_000 - offset)
    for start in range(100_000, len(OUTPUT), 7000):
        followed.append(OUTPUT[start : start + 7000])
    following.wait_for_bytes(len(OUTPUT) - offset)
    followed.end()
    followed.pod.client().ask("status")
    assert bytes(following.output) == OUTPUT[offset:]


def test_rule_2_new_bytes_come_at_once(followed: Followed) -> None:
    followed.append(b"0")
    followed.pod.start_guard()
    followed.run()
    following = followed.follow()
    following.wait_for_bytes(1)
    delays_s = []
    for count in range(2, 12):
        followed.append(b"x")
        appended = time.monotonic()
        following.wait_for_bytes(count)
        delays_s.append(time.monotonic() - appended)
    assert sorted(delays_s)[5] < 0.06, delays_s


def test_rule_3_nothing_of_a_later_run_is_written(followed: Followed) -> None:
    followed.append(b"mine\n")
    followed.end()
    followed.append(b"\n====== another run\n")
    following = followed.follow()
    assert following.wait_for("ended")["log_end"] == 5
    following.acknowledge()
    assert bytes(following.output) == b"mine\n"


def test_rule_3_an_offset_at_or_beyond_the_end_gives_nothing(followed: Followed) -> None:
    followed.append(b"mine\n")
    followed.end()
    followed.append(b"another\n")
    for offset in (5, 9):
        following = followed.follow(offset)
        following.wait_for("ended")
        following.acknowledge()
        assert bytes(following.output) == b""


def test_rule_4_the_end_is_told_after_the_last_byte(followed: Followed) -> None:
    followed.append(b"begun\n")
    followed.pod.start_guard()
    run = followed.run()
    following = followed.follow()
    following.wait_for_bytes(6)
    followed.append(OUTPUT)
    followed.end(exit_code=7)
    run.ask("ended", exit_code=7, reason="finished")
    ended = following.wait_for("ended")
    size = len(OUTPUT) + 6
    assert ended == {"event": "ended", "exit_code": 7, "reason": "finished", "log_end": size}
    assert following.acknowledge() == 0
    assert len(following.output) == size


def test_rule_4_a_record_that_a_full_volume_refused_does_not_hide_the_end(followed: Followed) -> None:
    followed.append(b"begun\n")
    followed.pod.start_guard()
    run = followed.run()
    following = followed.follow()
    following.wait_for_bytes(6)
    run.ask("ended", exit_code=5, reason="failed")
    assert following.wait_for("ended") == {"event": "ended", "exit_code": 5, "reason": "failed", "log_end": 6}


def test_rule_4_an_end_before_the_follower_came_is_told_though_the_record_has_none(followed: Followed) -> None:
    followed.append(b"begun\n")
    guard = followed.pod.start_guard(PODTASKS_FOLLOWERS_S="60")
    run = followed.run()
    run.ask("ended", exit_code=1, reason="supervisor failed: OSError: [Errno 28] No space left on device")
    told = {
        "event": "ended",
        "exit_code": 1,
        "reason": "supervisor failed: OSError: [Errno 28] No space left on device",
        "log_end": 6,
    }
    assert followed.follow().wait_for("ended") == told
    guard.kill()
    guard.wait()
    followed.pod.start_guard(PODTASKS_FOLLOWERS_S="60")
    assert followed.follow().wait_for("ended") == told


def test_rule_5_it_waits_for_the_acknowledgement_but_not_for_ever(followed: Followed) -> None:
    followed.append(b"mine\n")
    followed.end()
    following = followed.follow()
    following.wait_for("ended")
    ended = time.monotonic()
    assert following.process.wait(timeout=10) == 0
    assert 1.5 < time.monotonic() - ended < 5


def test_rule_5_the_end_of_stdin_ends_only_that_wait(followed: Followed) -> None:
    followed.append(b"begun\n")
    followed.pod.start_guard()
    run = followed.run()
    following = followed.follow()
    following.wait_for_bytes(6)
    assert following.process.stdin is not None
    following.process.stdin.close()
    followed.append(b"more\n")
    following.wait_for_bytes(11)
    followed.end()
    ended = time.monotonic()
    run.ask("ended", exit_code=0, reason="finished")
    assert following.process.wait(timeout=10) == 0
    assert time.monotonic() - ended < 1.5


def test_rule_6_it_says_that_it_lives(followed: Followed) -> None:
    followed.pod.start_guard()
    followed.run()
    following = followed.follow(PODTASKS_ALIVE_S="0.05")
    for _ in range(3):
        following.wait_for("alive")


def test_rule_7_the_guard_counts_it_also_after_a_restart(followed: Followed) -> None:
    guard = followed.pod.start_guard()
    run = followed.run()
    following = followed.follow()
    wait_until(lambda: followed.pod.status()["followers"] == 1, "the follower")
    guard.kill()
    guard.wait()
    run.close()
    followed.pod.start_guard(PODTASKS_RECONNECT_S="60")
    wait_until(lambda: followed.pod.status()["followers"] == 1, "the follower's return")
    following.process.kill()
    wait_until(lambda: followed.pod.status()["followers"] == 0, "the follower's end")


def test_rule_8_a_run_lost_with_its_pod_is_delivered_and_said_to_be_lost(followed: Followed) -> None:
    followed.append(b"half a li")
    followed.pod.start_guard()
    following = followed.follow()
    ended = following.wait_for("ended")
    assert ended == {"event": "ended", "exit_code": None, "reason": "pod lost", "log_end": 9}
    following.acknowledge()
    assert bytes(following.output) == b"half a li"


def test_rule_9_a_log_that_is_not_there_yet_is_waited_for(followed: Followed) -> None:
    followed.pod.start_guard()
    followed.run()
    following = followed.follow()
    following.wait_for("alive")
    followed.append(b"late\n")
    following.wait_for_bytes(5)


def test_rule_9_a_truncated_log_is_followed_from_its_new_start(followed: Followed) -> None:
    followed.append(b"old text\n")
    followed.pod.start_guard()
    followed.run()
    following = followed.follow()
    following.wait_for_bytes(9)
    followed.log.write_bytes(b"new\n")
    following.wait_for_bytes(13)
    assert following.wait_for("truncated")["size"] in (0, 4)
    assert bytes(following.output) == b"old text\nnew\n"


def test_rule_10_it_ends_quietly_when_its_reader_has_gone(followed: Followed) -> None:
    followed.append(b"begun\n")
    before = followed.log.read_bytes(), (followed.run_dir / "run.json").read_bytes()
    followed.pod.start_guard()
    followed.run()
    request = {"run_dir": str(followed.run_dir), "log": str(followed.log), "offset": 0}
    process = followed.pod.start_program("follow_log.py", request, PODTASKS_ALIVE_S="0.05")
    for stream in (process.stdout, process.stderr, process.stdin):
        assert stream is not None
        stream.close()
    assert process.wait(timeout=10) == 0
    assert (followed.log.read_bytes(), (followed.run_dir / "run.json").read_bytes()) == before


def test_the_footer_is_delivered_before_the_pod_is_stopped(pod: FakePod) -> None:
    pod.start_guard()
    pod.add_program("runpodctl", f'touch {pod.stops}; cp "{pod.root}/received" "{pod.root}/received at the stop"')
    answer = pod.launch("import time; print('begun'); time.sleep(0.3); print('end' * 100_000)")
    request = {"run_dir": answer["run_dir"], "log": answer["log"], "offset": answer["log_start"]}
    with (pod.root / "received").open("wb") as received:
        follower = subprocess.Popen(
            [sys.executable, str(pod.kit / "follow_log.py")],
            stdin=subprocess.PIPE,
            stdout=received,
            stderr=subprocess.PIPE,
            env=pod.environ,
            start_new_session=True,
        )
    pod.processes.append(follower)
    assert follower.stdin is not None
    follower.stdin.write(json.dumps(request).encode() + b"\n")
    follower.stdin.flush()
    copy = Path(pod.root) / "received at the stop"
    wait_until(copy.exists, "the stop")
    assert follower.wait(timeout=10) == 0
    assert copy.read_bytes() == pod.log()
    assert pod.log().endswith(b"end\nEXIT_CODE=0\n")
    assert not is_running(follower.pid)


def test_a_request_that_is_none_is_refused(pod: FakePod) -> None:
    process = pod.start(["python3", str(pod.kit / "follow_log.py")])
    out, err = process.communicate(b"nonsense\n", timeout=20)
    assert (process.returncode, out) == (20, b"")
    assert json.loads(err)["event"] == "refused"
