"""The setting `secrets` on the pod: only the training and the installation see them, and only while the run lasts."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
from pathlib import Path

import pytest

from tests.remote.fake_pod import FakePod, wait_until
from tests.remote.test_supervise import supervisor, use_environment

SENTINEL = "s3ntinel-7f1c"
HARD = {
    "QUOTES": f"'\"`$({SENTINEL}) \\ ; {SENTINEL}",
    "LINES": f"{SENTINEL}\nsecond\r\n\tthird {SENTINEL}\n",
    "LETTERS": f"\u00fc\u4e2d\U0001f600\udcff {SENTINEL}",
    "LONG": (SENTINEL * 6000)[: 64 * 1024],
}
# The training proves what it got by digests: it must not print a secret itself.
DIGESTS = """
import hashlib, os
for name in ("QUOTES", "LINES", "LETTERS", "LONG"):
    print(name, hashlib.sha256(os.environb[name.encode()]).hexdigest())
"""
WAITING = "import time; print('begun'); time.sleep(1000)"


def kept(pod: FakePod) -> list[Path]:
    return sorted(pod.directory.glob("secrets-*"))


def files_with_sentinel(folder: Path) -> list[Path]:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if SENTINEL.encode() in path.read_bytes()]


def test_every_value_reaches_the_training_as_it_was(pod: FakePod) -> None:
    pod.start_guard()
    record = pod.wait_for_end(pod.launch(DIGESTS, secrets=HARD)["run_dir"])
    assert record["exit_code"] == 0
    lines = pod.log().decode().splitlines()
    for name, value in HARD.items():
        assert f"{name} {hashlib.sha256(os.fsencode(value)).hexdigest()}" in lines
    assert record["secret_names"] == list(HARD)
    assert "secrets" not in record


def test_values_lie_in_one_private_file_off_the_volume_until_the_run_ends(pod: FakePod) -> None:
    pod.start_guard()
    run_dir = pod.launch(WAITING, secrets=HARD)["run_dir"]
    pod.wait_for_log(b"begun\n")
    [path] = kept(pod)
    assert path.name == f"secrets-{Path(run_dir).name}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert files_with_sentinel(pod.root) == [path]
    words = [(Path("/proc") / str(pid) / "cmdline").read_bytes() for pid in pod.pids()]
    assert words
    assert not [line for line in words if SENTINEL.encode() in line]
    os.kill(supervisor(pod), signal.SIGTERM)
    pod.wait_for_end(run_dir)
    assert kept(pod) == []
    assert files_with_sentinel(pod.root) == []


def test_the_installation_sees_them(pod: FakePod) -> None:
    use_environment(pod, "import os; log_write('token ' + os.environ['TOKEN'][::-1] + '\\n'); return sys.executable")
    (pod.clone / "requirements.txt").write_text("")
    pod.start_guard()
    pod.wait_for_end(pod.launch("pass", requirements="requirements.txt", secrets={"TOKEN": "abc"})["run_dir"])
    assert b"token cba\n" in pod.log()


def test_a_killed_supervisor_leaves_none(pod: FakePod) -> None:
    pod.start_guard()
    run_dir = pod.launch(WAITING, secrets={"TOKEN": SENTINEL})["run_dir"]
    pod.wait_for_log(b"begun\n")
    os.kill(supervisor(pod), signal.SIGKILL)
    assert pod.wait_for_end(run_dir)["reason"] == "supervisor killed"
    assert kept(pod) == []


def test_those_of_an_earlier_run_are_gone_when_the_next_is_launched(pod: FakePod) -> None:
    (pod.directory / "secrets-old.json").write_text(SENTINEL)
    (pod.directory / "secrets-old.json.new").write_text(SENTINEL)
    pod.start_guard()
    pod.wait_for_end(pod.launch("pass")["run_dir"])
    assert kept(pod) == []


def test_a_disk_that_does_not_take_them_refuses_the_launch_before_anything_is_touched(pod: FakePod) -> None:
    (pod.directory / "secrets-x.json.new").mkdir()
    pod.start_guard()
    client, token = pod.prepare()
    request = pod.request("pass", links={"out": "out"}, secrets={"TOKEN": SENTINEL}, token=token)
    code, answer = pod.run_program("launch.py", request)
    client.close()
    assert (code, answer["error"]) == (20, "The pod's container disk does not take the secrets of this training.")
    assert SENTINEL not in json.dumps(answer)
    assert not (pod.clone / "out").exists()
    assert not (pod.volume / "runs").exists()
    assert files_with_sentinel(pod.root) == []


def test_a_launch_that_is_refused_later_leaves_none(pod: FakePod) -> None:
    pod.add_program("tmux", 'case "$*" in *new-session*) echo "no terminals left" >&2;; esac; exit 1')
    pod.start_guard()
    client, token = pod.prepare()
    code, answer = pod.run_program("launch.py", pod.request("pass", secrets={"TOKEN": SENTINEL}, token=token))
    client.close()
    assert (code, answer["detail"]) == (20, "no terminals left")
    assert kept(pod) == []
    assert files_with_sentinel(pod.root) == []


def test_a_run_whose_secrets_are_lost_fails_and_says_which(pod: FakePod) -> None:
    kit = pod.copy_kit()
    program = (kit / "supervise.py").read_text()
    lose = "import glob\nfor path in glob.glob(container_directory() + '/secrets-*'): os.unlink(path)\n"
    (kit / "supervise.py").write_text(program.replace("ENDED_EARLY =", f"{lose}ENDED_EARLY =", 1))
    pod.start_guard()
    record = pod.wait_for_end(pod.launch("print('trained')", secrets={"TOKEN": SENTINEL})["run_dir"])
    assert record["exit_code"] == 1
    assert "the secrets TOKEN are not on the pod" in record["reason"]
    assert b"trained" not in pod.log()
    wait_until(pod.wait_for_stop, "the pod to stop")


@pytest.mark.parametrize("target", ["touch {}/told; env >{}/told"])
def test_a_command_that_is_notified_does_not_see_them(pod: FakePod, target: str) -> None:
    pod.start_guard()
    command = target.format(*([f"'{pod.root}'"] * 2))
    pod.wait_for_end(pod.launch("pass", secrets={"TOKEN": SENTINEL}, notify=command)["run_dir"])
    path = pod.root / "told"
    told = wait_until(lambda: path.read_text() if path.exists() else "", "the notification")
    assert "PODTASKS_EVENT" in told
    assert SENTINEL not in told
