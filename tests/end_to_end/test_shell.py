"""`inv start`, `inv ssh`, `inv attach`, and CPU pods: a person on the pod, and what is left behind."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import time
from typing import Any

import pytest

from tests.end_to_end.project import TIMEOUT_S, TrainingProject

CTRL_B, CTRL_C = b"\x02", b"\x03"


class Terminal:
    """`inv` on a terminal of its own."""

    def __init__(self, project: TrainingProject, *words: str, **extra: str) -> None:
        self.shown = b""
        self.code: int | None = None
        self._words = project._words(words)
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(project.path)
                os.execvpe(self._words[0], self._words, project.environment(**extra))
            finally:
                os._exit(99)

    def type(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def wait_for(self, text: bytes, timeout_s: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.shown:
            assert time.monotonic() < deadline, f"no {text!r} on the terminal: {self.shown.decode(errors='replace')}"
            self._read(0.1)

    def leave(self) -> int:
        """Detach from tmux, which takes keys that come together for a paste; return the exit code."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.code is None:
            assert time.monotonic() < deadline, self.shown.decode(errors="replace")
            for key in (CTRL_B, b"d"):
                self._write_slowly(key)
            self._reap()
        return self.code

    def end(self) -> int:
        """Wait for the program's own end; return its exit code."""
        deadline = time.monotonic() + TIMEOUT_S
        while self.code is None:
            assert time.monotonic() < deadline, self.shown.decode(errors="replace")
            self._read(0.05)
            self._reap()
        return self.code

    def hang_up(self) -> None:
        """Close the terminal, as its window would be."""
        os.close(self._fd)
        os.waitpid(self.pid, 0)
        self.code = -1

    def _write_slowly(self, key: bytes) -> None:
        try:
            self.type(key)
        except OSError:
            return
        self._read(0.05)

    def _read(self, timeout_s: float) -> None:
        if select.select([self._fd], [], [], timeout_s)[0]:
            try:
                self.shown += os.read(self._fd, 65536)
            except OSError:
                self._reap()

    def _reap(self) -> None:
        pid, status = os.waitpid(self.pid, os.WNOHANG) if self.code is None else (0, 0)
        if pid:
            self.code = os.waitstatus_to_exitcode(status)


def ssh(project: TrainingProject, *words: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run `inv ssh` with this standard input."""
    return subprocess.run(
        project._words(("ssh", *words)),
        cwd=project.path,
        env=project.environment(),
        input=given,
        capture_output=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def helpers(project: TrainingProject) -> list[dict[str, Any]]:
    """Return the account's CPU pods."""
    pods = project.graphql("{ myself { pods { id desiredStatus gpuCount env } } }")["myself"]["pods"]
    return [pod for pod in pods if any(line.startswith("PODTASKS_HELPER=") for line in pod["env"])]


def test_a_started_pod_is_entered_with_the_environment_of_a_training(project: TrainingProject) -> None:
    project.set(env="{GREETING: \"it's $(me)\"}")
    started = project.inv("start")
    assert (started.code, len(project.running_pods())) == (0, 1), started.stderr
    assert f"pod    {project.running_pods()[0]}" in started.stdout
    assert "stops itself in 15 minutes" in started.stderr

    line = ssh(project, 'echo "$GREETING|$PYTHONUNBUFFERED|$RUNPOD_POD_ID|$PWD"; exit 7')
    assert line.stdout.decode().strip() == f"it's $(me)|1|{project.running_pods()[0]}|/workspace"
    assert line.returncode == 7
    assert b"its guard stops it in 15 min" in line.stderr
    words = ssh(project, "printf", "%s|", "a b", "$(x)", "q'q", "--cloud", "new\nline")
    assert words.stdout.decode() == "a b|$(x)|q'q|--cloud|new\nline|"
    assert ssh(project, "--", "printf", "%s", "--", "x").stdout == b"--x"
    assert ssh(project, "cat", given=bytes(range(256))).stdout == bytes(range(256))
    assert ssh(project, "yes | head -n 1").stderr.count(b"\n") == 2, "the notes, and no broken pipe"
    assert ssh(project, given=b"echo $((6 * 7))\nexit 3\n").stdout == b"42\n"

    assert project.inv("start").code == 0
    assert len(project.running_pods()) == 1, "the pod that runs is used"


def test_a_terminal_is_told_what_there_is_and_its_shell_takes_ctrl_c(project: TrainingProject) -> None:
    project.start_cloud()
    for words in (("ssh", "true"), ("attach",)):
        nobody = Terminal(project, *words)
        assert nobody.end() == 101
        assert b"inv start starts a pod" in nobody.shown
    assert project.inv("start").code == 0
    idle = Terminal(project, "attach")
    assert idle.end() == 101
    assert b"Nothing was launched on it yet" in b" ".join(idle.shown.split())

    terminal = Terminal(project, "ssh", TERM="a-terminal-nobody-knows")
    terminal.wait_for(b"# ")
    terminal.type(b"sh -c 'trap \"echo caught; exit\" INT; echo at $PWD on $TERM; while :; do sleep 1; done'\n")
    terminal.wait_for(b"at /workspace on xterm-256color\r\n")
    terminal.type(CTRL_C)
    terminal.wait_for(b"caught\r\n")
    terminal.type(b"exit 5\n")
    assert terminal.end() == 5


def test_attaching_shows_the_training_and_leaving_it_ends_nothing(project: TrainingProject) -> None:
    project.hold_at(2)
    assert project.train("--no-follow").code == 0
    project.wait_for_step(2)
    terminal = Terminal(project, "attach", TERM="a-terminal-nobody-knows")
    terminal.wait_for(b"step 2")
    assert b"Ctrl+B, then D, leaves it" in terminal.shown
    assert terminal.leave() == 0
    closed = Terminal(project, "attach")
    closed.wait_for(b"step 2")
    closed.hang_up()

    assert ssh(project, "pwd").stdout == b"/workspace/my-project\n"
    assert "is on this pod" in project.inv("start").stderr
    assert "needs a terminal" in project.inv("attach").stderr
    project.release()
    project.wait_for(project.is_idle, "the pod to stop itself")
    assert "trained" in project.log


def test_a_cpu_pod_is_deleted_after_a_transfer_and_by_itself_after_a_killed_one(project: TrainingProject) -> None:
    (project.path / "data").mkdir()
    (project.path / "data/big").write_bytes(os.urandom(1 << 20))
    project.set(data="{data/big: data/big}", grace_minutes="0.05")
    project.start_cloud()
    process = project.start("sync-data", "--via", "ssh")
    project.wait_for(lambda: [pod for pod in helpers(project) if pod["desiredStatus"] == "RUNNING"], "a CPU pod")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    # Nobody has to do anything: its guard deletes it.
    project.wait_for(lambda: not helpers(project), "the CPU pod to delete itself")

    done = project.inv("sync-data", "--via", "ssh")
    assert done.code == 0, done.stderr
    assert "is deleted; nothing of it is billed any more" in done.stderr
    assert helpers(project) == []
    assert (project.volume / "data/big").read_bytes() == (project.path / "data/big").read_bytes()


@pytest.mark.parametrize("words", [("stop",), ("terminate", "--yes")])
def test_stopping_and_terminating_end_a_cpu_pod_too(project: TrainingProject, words: tuple[str, ...]) -> None:
    project.start_cloud()
    project.graphql(
        'mutation { deployCpuPod(input: {name: "x", instanceId: "cpu3c-2-4", templateId: "runpod-ubuntu", '
        'cloudType: SECURE, imageName: "runpod/base:1.0.2-ubuntu2204", containerDiskInGb: 10, '
        f'env: [{{key: "PODTASKS_HELPER", value: "{project.path.name.replace(" ", "-")}"}}]}}) {{ id }} }}'
    )
    assert len(helpers(project)) == 1
    done = project.inv(*words)
    assert (done.code, helpers(project)) == (0, []), done.stderr
    assert "which copied files, is deleted" in done.stderr
