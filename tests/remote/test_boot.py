"""boot.sh as process 1 of a real PID namespace, with a real sshd."""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.fake_pod import FakePod, is_running, wait_until


class Booted:
    """A pod that boots in a sandbox: its process ids are counted from 1, /etc/ssh and /root are its own."""

    def __init__(self, pod: FakePod) -> None:
        self.pod = pod
        self.ssh = pod.root / "etc ssh"
        self.home = pod.root / "home"
        self.start_script = pod.root / "start.sh"
        self.port = free_port()
        self.ssh.mkdir()
        self.home.mkdir()
        (self.ssh / "ssh_host_rsa_key").write_text("an image's own key")
        (self.ssh / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nUsePAM no\nStrictModes no\n"
            "PermitRootLogin prohibit-password\nPidFile none\n"
        )
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(pod.root / "key")], check=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(pod.root / "host")], check=True)
        self.environ = {
            **pod.environ,
            **pod.pod_environ,
            "HOME": "/root",
            "PODTASKS_START_SCRIPT": str(self.start_script),
            "PODTASKS_HOST_KEY": base64.b64encode((pod.root / "host").read_bytes()).decode(),
            "PODTASKS_HOST_PUBLIC_KEY": (pod.root / "host.pub").read_text().strip(),
            "PUBLIC_KEY": (pod.root / "key.pub").read_text().strip(),
            "PODTASKS_ENVIRON_FILE": "/proc/1/environ",
        }

    def boot(self, **settings: str) -> subprocess.Popen[bytes]:
        """Start boot.sh as process 1."""
        words = [
            "bwrap",
            "--unshare-pid",
            "--as-pid-1",
            "--dev-bind",
            "/",
            "/",
            "--proc",
            "/proc",
            "--bind",
            str(self.ssh),
            "/etc/ssh",
            "--bind",
            str(self.home),
            "/root",
            "--tmpfs",
            "/run",
            "bash",
            str(self.pod.directory / "boot.sh"),
        ]
        with (self.pod.root / "boot.log").open("wb") as log:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.environ, **settings},
                start_new_session=True,
            )
        self.pod.processes.append(process)
        return process

    def said(self) -> str:
        """Return what boot.sh has printed."""
        return (self.pod.root / "boot.log").read_text()

    def inner_pid_1(self) -> int:
        """Return process 1 of the sandbox as this machine numbers it."""
        return wait_until(lambda: sandboxed(b"boot.sh", self.pod), "boot.sh")[0]

    def guard_pids(self) -> list[int]:
        """Return the guards that run, as this machine numbers them."""
        return sandboxed(b"guard.py", self.pod)

    def run_over_ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the pod as the client does: the host key is known beforehand."""
        known = self.pod.root / "known_hosts"
        known.write_text(f"[127.0.0.1]:{self.port} {(self.pod.root / 'host.pub').read_text()}")
        words = [
            "ssh",
            "-F",
            "none",
            "-p",
            str(self.port),
            "-i",
            str(self.pod.root / "key"),
            "-o",
            f"UserKnownHostsFile={known}",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "BatchMode=yes",
            "root@127.0.0.1",
            command,
        ]
        return subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)


@pytest.fixture
def booted(pod: FakePod) -> Booted:
    """A pod that has yet to boot."""
    return Booted(pod)


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def sandboxed(program: bytes, pod: FakePod) -> list[int]:
    """Return the processes inside the sandbox whose command names `program` in the pod's folder."""
    path = os.fsencode(pod.directory) + b"/" + program
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if entry.name.isdigit() and words[0] != b"bwrap" and path in words and is_running(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(found)


def test_an_image_without_start_script_gets_sshd_with_the_key_made_for_it(booted: Booted) -> None:
    booted.boot()
    wait_until(lambda: booted.run_over_ssh("true").returncode == 0, "ssh")
    assert booted.run_over_ssh("ls /etc/ssh").stdout.split() == [
        "ssh_host_ed25519_key",
        "ssh_host_ed25519_key.pub",
        "sshd_config",
    ]
    assert booted.run_over_ssh("stat -c %a /etc/ssh/ssh_host_ed25519_key").stdout == "600\n"
    assert "starting sshd" in booted.said()


def test_the_host_key_is_in_no_environment(booted: Booted) -> None:
    booted.boot()
    wait_until(lambda: booted.run_over_ssh("true").returncode == 0, "ssh")
    answer = booted.run_over_ssh("cat /proc/*/environ | tr '\\0' '\\n'").stdout
    assert "RUNPOD_POD_ID=pod123" in answer
    assert "PODTASKS_HOST_KEY=" not in answer


def test_the_guard_is_started_again_each_time_it_dies(booted: Booted) -> None:
    booted.start_script.write_text("exec sleep 1000\n")
    booted.boot()
    killed: set[int] = set()
    for _ in range(3):
        guard = wait_until(lambda: [pid for pid in booted.guard_pids() if pid not in killed], "a new guard")[0]
        wait_until(booted.pod.answers, "the guard's answer")
        os.kill(guard, signal.SIGKILL)
        killed.add(guard)
    wait_until(lambda: set(booted.guard_pids()) - killed, "the guard after the last")


def test_a_pod_on_which_nothing_is_launched_stops_itself(booted: Booted) -> None:
    booted.start_script.write_text("exec sleep 1000\n")
    booted.boot(PODTASKS_GRACE_MINUTES="0.005")
    assert booted.pod.wait_for_stop() == ["pod stop pod123"]


def test_start_script_runs_with_the_pods_environment(booted: Booted) -> None:
    booted.start_script.write_text('echo "pod $RUNPOD_POD_ID key ${PODTASKS_HOST_KEY:-none}"; exec sleep 1000\n')
    booted.boot()
    wait_until(lambda: "pod pod123 key none" in booted.said(), "the start script")


@pytest.mark.parametrize("exit_code", [0, 7])
def test_a_start_script_that_ends_leaves_the_pod_with_its_guard_and_gets_sshd(booted: Booted, exit_code: int) -> None:
    booted.start_script.write_text(f"exit {exit_code}\n")
    process = booted.boot()
    wait_until(lambda: booted.run_over_ssh("true").returncode == 0, "ssh")
    assert f"{booted.start_script} has ended with {exit_code}" in booted.said()
    killed = booted.guard_pids()[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: set(booted.guard_pids()) - {killed}, "the next guard")
    assert process.poll() is None


def test_a_start_script_that_ends_does_not_keep_the_pod_from_stopping_itself(booted: Booted) -> None:
    booted.start_script.write_text("exit 1\n")
    booted.boot(PODTASKS_GRACE_MINUTES="0.02")
    assert booted.pod.wait_for_stop() == ["pod stop pod123"]


def test_the_sshd_a_start_script_left_behind_stays_the_only_one(booted: Booted) -> None:
    booted.start_script.write_text("mkdir -p /run/sshd; /usr/sbin/sshd -o AuthorizedKeysFile=/root/keys\n")
    (booted.home / "keys").write_text(booted.environ["PUBLIC_KEY"])
    booted.boot()
    wait_until(lambda: "has ended with 0" in booted.said(), "the end of the start script")
    wait_until(lambda: booted.run_over_ssh("true").returncode == 0, "ssh")
    assert "sshd did not start" not in booted.said()
    assert not (booted.home / ".ssh").exists()


def test_the_grace_time_goes_on_over_a_restart_of_the_container(booted: Booted) -> None:
    booted.start_script.write_text("exec sleep 1000\n")
    first = booted.boot(PODTASKS_GRACE_MINUTES="10")
    file = booted.pod.directory / "grace_began"
    wait_until(file.exists, "the beginning of the grace time")
    file.write_text(str(float(file.read_text()) - 300))
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    wait_until(lambda: not booted.guard_pids(), "the end of the container")
    booted.boot(PODTASKS_GRACE_MINUTES="10")

    def grace_left_s() -> float:
        # The kernel may still be taking down the guard of before, and its connections with it.
        with contextlib.suppress(OSError, AssertionError):
            return float(booted.pod.status()["grace_left_s"])
        return 0.0

    wait_until(lambda: 290 < grace_left_s() <= 300, "the next guard to go on with what was left")


def test_sigterm_ends_the_run_before_the_pod_goes(booted: Booted) -> None:
    booted.start_script.write_text("exec sleep 1000\n")
    process = booted.boot()
    pid_1 = booted.inner_pid_1()
    wait_until(booted.pod.answers, "the guard")
    ended = booted.pod.root / "ended"
    supervisor = booted.pod.root / "supervise.sh"
    supervisor.write_text(
        f"trap 'sleep 0.3; touch {ended}; exit' TERM\n"
        f'echo $$ >"$PODTASKS_DIR/supervisor.pid"\nwhile :; do sleep 0.05; done\n'
    )
    start_inside(pid_1, ["bash", str(supervisor)], booted)
    wait_until((booted.pod.directory / "supervisor.pid").exists, "the supervisor")
    os.kill(pid_1, signal.SIGTERM)
    assert process.wait(timeout=20) == 143
    assert ended.exists()


def test_leftovers_of_an_earlier_start_are_forgotten(booted: Booted) -> None:
    booted.start_script.write_text("exec sleep 1000\n")
    (booted.pod.directory / "lease.json").write_text('{"boot": "other", "stopping": {"reason": "old"}}')
    (booted.pod.directory / "supervisor.pid").write_text("1\n")
    for name in ("secrets-r-1.json", "secrets-r-1.json.new", "notify.json"):
        (booted.pod.directory / name).write_text("secret")
    booted.boot()
    wait_until(booted.pod.answers, "the guard")
    assert booted.pod.status()["stopping"] is None
    assert not (booted.pod.directory / "supervisor.pid").exists()
    assert not [path for path in booted.pod.directory.iterdir() if path.name.startswith(("secrets-", "notify"))]


def test_an_image_without_python_stops_its_pod(booted: Booted) -> None:
    booted.start_script.write_text("exec sleep 1000\n")
    programs = booted.pod.root / "few programs"
    programs.mkdir()
    for name in ("bash", "env", "date", "mkdir", "rm", "base64", "sleep", "sh", "cat"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    shutil.copy(booted.pod.programs / "runpodctl", programs / "runpodctl")
    (programs / "apt-get").write_text('#!/bin/sh\necho "apt-get $*"\nexit 100\n')
    (programs / "apt-get").chmod(0o755)
    booted.environ["PATH"] = str(programs)
    bwrap = shutil.which("bwrap")
    assert bwrap is not None
    (programs / "bwrap").symlink_to(bwrap)
    booted.boot()
    assert booted.pod.wait_for_stop() == ["pod stop pod123"]
    assert "python3 could not be installed" in booted.said()


def start_inside(pid_1: int, words: list[str], booted: Booted) -> None:
    """Start a program in the sandbox of process 1."""
    entered = subprocess.Popen(
        ["nsenter", "-t", str(pid_1), "-p", "-m", *words],
        stdin=subprocess.DEVNULL,
        env={**booted.environ},
        start_new_session=True,
        stdout=sys.stderr,
    )
    booted.pod.processes.append(entered)
