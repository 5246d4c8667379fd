#!/usr/bin/env python3
"""Run one training from its header to its footer, inside the tmux session `train`.

    python3 supervise.py RUN_DIR

Takes the lease from the guard, writes the header, prepares the environment, runs the training in a session
of its own with the log file itself as its output, writes footer and record, tells the guard. Its own
standard error is $PODTASKS_DIR/supervisor.log; the terminal only shows a `tail` of the log, so that a
terminal that dies hurts nobody.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import guard_link
import run_header
import run_record
import stop_pod
import training_environ
from answer import EXIT_REFUSED
from guard_link import GuardGone, GuardLink
from pod_environ import container_directory, read_setting

PLATFORM_GRACE_S = 4.0  # RunPod facts, section 4: SIGKILL follows the platform's SIGTERM after 5 s
START_GUARD_AFTER_S = 3.0
ENDED_EARLY = 143  # asked to end before the training began: as if SIGTERM had ended it
END_SIGNALS = {
    signal.SIGTERM: "SIGTERM: the pod is ending",
    signal.SIGHUP: "the tmux session was ended",
    signal.SIGINT: "interrupted in tmux",
}


class Supervisor:
    """One run: its record, the link to the guard, and whether it was asked to end."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.record = run_record.read(run_dir)
        self.link: GuardLink | None = None
        self.link_lost_at: float | None = None
        self.next_try_at = 0.0
        self.guard_started = False
        self.end_reason: str | None = None
        self.kill_at: float | None = None
        self.pgid: int | None = None
        self.launched_at = time.monotonic()
        self.wakeup = listen_to_signals()

    def run(self) -> int:
        """Run the training and return the exit code of this program."""
        if not self.take_lease():
            return EXIT_REFUSED
        tail = None
        try:
            self.record.pop("token", None)
            self.note(started_at=time.time(), supervisor_pid=os.getpid())
            run_header.write(self.record)
            tail = show_log(self.record)
            exit_code, reason = self.train()
        except Exception as error:  # a bug or a full volume must still end the run and stop the pod
            traceback.print_exc()
            exit_code, reason = 1, f"supervisor failed: {type(error).__name__}: {error}"
        self.end(exit_code, reason, tail)
        return 0

    # The guard

    def take_lease(self) -> bool:
        """Take the lease over from the launch; say on standard error why not."""
        try:
            self.link = guard_link.connect()
            reply = self.link.request("run", **self.lease_request())
        except GuardGone as error:
            reply = {"ok": False, "holder": None, "error": str(error)}
        if not reply["ok"]:
            print(f"the guard refused the run: {reply}", file=sys.stderr, flush=True)
        return bool(reply["ok"])

    def lease_request(self) -> dict[str, Any]:
        """Return what the guard needs to know of this run."""
        names = ("run_id", "when_done", "max_hours", "stop_grace_s")
        run = {name: self.record.get(name) for name in names}
        run.update(run_dir=self.run_dir, kit=os.path.dirname(os.path.abspath(__file__)))
        run.update(elapsed_s=time.monotonic() - self.launched_at)
        return {"token": self.record.get("token"), "pid": os.getpid(), "run": run}

    def tell_guard(self, op: str, **fields: object) -> bool:
        """Send a request; a guard that is gone is looked for later."""
        if self.link is None:
            return False
        try:
            return bool(self.link.request(op, **fields)["ok"])
        except GuardGone:
            self.lose_guard()
            return False

    def lose_guard(self) -> None:
        """Note that the guard is gone; look for its successor at once."""
        if self.link is not None:
            self.link.close()
        self.link, self.link_lost_at, self.next_try_at = None, time.monotonic(), 0.0

    def look_for_guard(self) -> None:
        """Try once to hold the lease again: often in the first seconds, then each second.

        boot.sh starts the guard again at once. Where there is no boot.sh, the kit's guard is started.
        """
        now = time.monotonic()
        assert self.link_lost_at is not None
        lost_for_s = now - self.link_lost_at
        self.next_try_at = now + (0.05 if lost_for_s < reconnect_s() else 1.0)
        if lost_for_s > START_GUARD_AFTER_S and not self.guard_started:
            self.guard_started = True
            guard_link.start_guard()
        try:
            link = guard_link.connect()
            if link.request("run", again=True, **self.lease_request())["ok"]:
                self.link = link
                self.tell_guard("training", pgid=self.pgid or 0)
            else:
                link.close()
                self.next_try_at = now + 1.0
        except GuardGone:
            pass

    def wait_for_guard(self) -> None:
        """Look for the guard until it answers or 10 s have passed since it was lost."""
        while self.link is None and self.link_lost_at is not None:
            self.look_for_guard()
            if self.link is None:
                if time.monotonic() - self.link_lost_at > reconnect_s():
                    return
                time.sleep(0.05)

    # The training

    def train(self) -> tuple[int, str]:
        """Prepare the environment, run the training; return its exit code and the reason of its end."""
        command = list(self.record["command"])
        environ = training_environ.build(self.record.get("script_env") or {})
        if self.record.get("requirements"):
            result = os.path.join(container_directory(), "environment.result")
            exit_code = self.run_step(environment_command(self.run_dir, result), environ, "/")
            if exit_code != 0 or self.end_reason is not None:
                return exit_code or ENDED_EARLY, self.end_reason or "environment failed"
            command[0] = read_text(result)
            training_environ.put_first(environ, command[0])
        if self.end_reason is not None:
            return ENDED_EARLY, self.end_reason
        self.note(training_started_at=time.time())
        exit_code = self.run_step(command, environ, self.record["clone"])
        return exit_code, self.end_reason or own_reason(exit_code)

    def run_step(self, command: list[str], environ: dict[str, str], directory: str) -> int:
        """Run a program with its output to the log; return its exit code."""
        log = os.open(self.record["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            process = subprocess.Popen(
                command,
                cwd=directory,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        except OSError as error:
            run_record.append(self.record["log"], os.fsencode(f"podtasks: cannot start {command}: {error}\n"))
            return 126 if isinstance(error, PermissionError) else 127
        finally:
            os.close(log)
        self.pgid = process.pid
        prefer_when_memory_ends(process.pid)
        self.tell_guard("training", pgid=process.pid)
        try:
            return self.watch(process)
        finally:
            run_record.kill_group(process.pid)

    def watch(self, process: subprocess.Popen[bytes]) -> int:
        """Wait until the program has ended and return its exit code, 128 + signal when one killed it."""
        if self.end_reason is not None:
            send(os.killpg, process.pid, signal.SIGTERM)
        while process.poll() is None:
            self.wait_for_news(process.pid)
        self.let_group_end(process.pid)
        return process.returncode if process.returncode >= 0 else 128 - process.returncode

    def let_group_end(self, pgid: int) -> None:
        """Give what the program left behind a moment to end by itself: the rest of an asked end's time."""
        if self.kill_at is None:
            for pid in run_record.group_members(pgid):
                send(os.kill, pid, signal.SIGTERM)
            self.kill_at = time.monotonic() + leftover_grace_s()
        while run_record.group_members(pgid) and time.monotonic() < self.kill_at:
            self.wait_for_news(pgid, 0.02)
        if self.end_reason is None:
            self.kill_at = None

    def wait_for_news(self, pgid: int, at_most_s: float | None = None) -> None:
        """Wait for a signal, for the guard or for a deadline, and act on it."""
        waiting_for = [self.wakeup] if self.link is None else [self.wakeup, self.link.fileno()]
        ready, _, _ = select.select(waiting_for, [], [], self.time_left_s(at_most_s))
        if self.wakeup in ready:
            for number in os.read(self.wakeup, 4096):
                self.heed_signal(number, pgid)
        if self.link is not None and self.link.fileno() in ready:
            self.heed_guard(pgid)
        if self.link is None and time.monotonic() >= self.next_try_at:
            self.look_for_guard()
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            send(os.killpg, pgid, signal.SIGKILL)
            self.kill_at = time.monotonic() + 1.0

    def time_left_s(self, at_most_s: float | None) -> float | None:
        """Return the seconds to the next deadline, None when there is none."""
        times = [self.kill_at, self.next_try_at if self.link is None else None]
        left = [max(0.0, at - time.monotonic()) for at in times if at is not None]
        return min([*left, *([] if at_most_s is None else [at_most_s])], default=None)

    def heed_signal(self, number: int, pgid: int) -> None:
        """End the run on a signal that asks for it."""
        if number in END_SIGNALS:
            grace_s = platform_grace_s() if number == signal.SIGTERM else self.stop_grace_s()
            self.ask_to_end(END_SIGNALS[signal.Signals(number)], grace_s, pgid)

    def heed_guard(self, pgid: int) -> None:
        """End the run when the guard says so; note a guard that is gone."""
        assert self.link is not None
        try:
            for event in self.link.take_events():
                if event["event"] == "end":
                    self.ask_to_end(str(event["reason"]), self.stop_grace_s(), pgid)
        except GuardGone:
            self.lose_guard()

    def ask_to_end(self, reason: str, grace_s: float, pgid: int) -> None:
        """Send SIGTERM to the training the first time; a later request can only shorten its time."""
        kill_at = time.monotonic() + grace_s
        if self.end_reason is None:
            self.end_reason, self.kill_at = reason, kill_at
            send(os.killpg, pgid, signal.SIGTERM)
        elif self.kill_at is not None:
            self.kill_at = min(self.kill_at, kill_at)

    def stop_grace_s(self) -> float:
        """Return how long the training may take to end."""
        grace_s = self.record.get("stop_grace_s")
        return 30.0 if grace_s is None else float(grace_s)

    # The end

    def note(self, **fields: object) -> None:
        """Write fields to the record; a volume that refuses costs the record, not the run."""
        self.record.update(fields)
        try:
            run_record.write(self.run_dir, self.record)
        except OSError as error:
            print(f"run.json could not be written: {error}", file=sys.stderr, flush=True)

    def end(self, exit_code: int, reason: str, tail: subprocess.Popen[bytes] | None) -> None:
        """Write footer and record, tell the guard; stop the pod here when there is no guard."""
        try:
            run_record.finish(self.run_dir, exit_code, reason)
        except Exception:  # whatever it is, the pod must stop
            traceback.print_exc()
        if tail is not None:
            tail.kill()
        if self.link is not None and self.tell_guard("ended", exit_code=exit_code, reason=reason):
            return
        self.wait_for_guard()
        if not self.tell_guard("ended", exit_code=exit_code, reason=reason):
            print("no guard: the supervisor stops the pod itself", file=sys.stderr, flush=True)
            stop_pod.stop(str(self.record.get("when_done") or "stop"), say_to_stderr)


def listen_to_signals() -> int:
    """Return a descriptor that tells of each signal by a byte; none interrupts what runs."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in (*END_SIGNALS, signal.SIGCHLD):
        signal.signal(number, lambda _number, _frame: None)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    return reader


def show_log(record: dict[str, Any]) -> subprocess.Popen[bytes] | None:
    """Show this run's part of the log on the terminal, for whoever attaches to the session."""
    words = ["tail", "-c", f"+{int(record.get('log_start') or 0) + 1}", "-f", record["log"]]
    try:
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError as error:
        print(f"no view of the log: {error}", file=sys.stderr, flush=True)
        return None


def environment_command(run_dir: str, result: str) -> list[str]:
    """Return the command that prepares the environment and writes the Python to run to `result`."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(result)
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "environment_step.py")
    return [sys.executable, program, run_dir, result]


def prefer_when_memory_ends(pid: int) -> None:
    """Have the kernel kill the training rather than what watches it. Linux: proc_pid_oom_score_adj(5)."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
        file.write("500")


def own_reason(exit_code: int) -> str:
    """Return the reason of an end nobody asked for."""
    if exit_code <= 128:
        return "failed" if exit_code else "finished"
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return "failed"
    return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")


def send(kill: Callable[[int, int], None], pid: int, number: int) -> None:
    """Send a signal to a process or, with os.killpg, to a group, if there still is one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        kill(pid, number)


def platform_grace_s() -> float:
    """Return how long the training may take once the platform ends the pod."""
    return float(read_setting("PODTASKS_PLATFORM_GRACE_S", str(PLATFORM_GRACE_S)))


def leftover_grace_s() -> float:
    """Return how long what a training leaves running may take to end."""
    return float(read_setting("PODTASKS_LEFTOVER_GRACE_S", "2"))


def reconnect_s() -> float:
    """Return how long a guard that is gone is waited for."""
    return float(read_setting("PODTASKS_RECONNECT_S", "10"))


def read_text(path: str) -> str:
    """Return the content of a small text file."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()


def say_to_stderr(line: str) -> None:
    """Write one line to supervisor.log."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def pid_file(path: str) -> Iterator[None]:
    """Keep this process's id in a file, written as a whole, while the block runs."""
    try:
        with open(f"{path}.new", "w", encoding="ascii") as file:
            file.write(f"{os.getpid()}\n")
        os.replace(f"{path}.new", path)
    except OSError as error:
        print(f"no {path}: {error}", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)


def main() -> int:
    """Run the supervisor."""
    with pid_file(os.path.join(container_directory(), "supervisor.pid")):
        return Supervisor(os.path.abspath(sys.argv[1])).run()


if __name__ == "__main__":
    sys.exit(main())
