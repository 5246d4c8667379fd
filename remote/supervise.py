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
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from typing import Any

import memory_events
import notifications
import run_header
import run_record
import stop_pod
import training_environ
import training_secrets
from answer import EXIT_REFUSED
from end_request import EndRequest, listen_to_signals
from heartbeat import Heartbeat
from pod_environ import container_directory
from run_notes import RunNotes
from stall import Stall
from supervisor_link import SupervisorLink
from training_process import TrainingProcess

ENDED_EARLY = 143  # asked to end before the training began: as if SIGTERM had ended it


class Supervisor:
    """One run from its header to its footer."""

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self.record = run_record.read(run_dir)
        self.link = SupervisorLink(run_dir, self.record)
        self.notes = RunNotes(run_dir, self.record)
        self.heartbeat = Heartbeat(run_dir, self.record["log"], self.notes)
        self.stall = Stall(run_dir, self.record, self.heartbeat, self.note_soon)
        self.end_request = EndRequest(stop_grace_s(self.record))
        self.end_request.listener = lambda reason: self.note_soon(ending=reason)
        self.process = TrainingProcess(self.record["log"], self.link, self.end_request, listen_to_signals(), self.stall)
        self.recovery: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Run the training and return the exit code of this program."""
        if not self.link.take_lease():
            return EXIT_REFUSED
        tail = None
        try:
            self.record.pop("token", None)
            self.heartbeat.start()
            kills = memory_events.count_kills()
            self.notes.write_now(started_at=time.time(), supervisor_pid=os.getpid(), memory_kills_before=kills)
            run_header.write(self.record)
            tail = show_log(self.record)
            exit_code, reason = self.train()
        except Exception as error:  # a bug or a full volume must still end the run and stop the pod
            traceback.print_exc()
            exit_code, reason = 1, f"supervisor failed: {type(error).__name__}: {error}"
        self.end(exit_code, reason, tail)
        return 0

    def train(self) -> tuple[int, str]:
        """Prepare the environment, run the training; return its exit code and the reason of its end."""
        command = list(self.record["command"])
        environ = training_environ.build(self.record.get("script_env") or {})
        environ.update(training_secrets.read(str(self.record["run_id"]), self.record.get("secret_names") or []))
        if self.record.get("requirements"):
            result = os.path.join(container_directory(), "environment.result")
            exit_code = self.process.run(environment_command(self.run_dir, result), environ, "/")
            if exit_code != 0 or self.end_request.reason is not None:
                return exit_code or ENDED_EARLY, self.end_request.reason or "environment failed"
            command[0] = read_text(result)
            training_environ.put_first(environ, command[0])
        if self.end_request.reason is not None:
            return ENDED_EARLY, self.end_request.reason
        self.notes.write_now(training_started_at=time.time())
        self.tell_recovery()
        exit_code = self.process.run(command, environ, self.record["clone"])
        return exit_code, self.end_request.reason or own_reason(exit_code)

    def tell_recovery(self) -> None:
        """Start telling whoever is to be notified that the training goes on, if a run before it was lost."""
        try:
            if self.record.get("checkpoint"):
                self.recovery = notifications.start("recovered", self.run_dir)
        except Exception:  # whatever it is, the training must begin
            traceback.print_exc()

    def note_told(self) -> None:
        """Note what came of that, and of what was told of stalls; by now it has had the whole training's time."""
        try:
            recovered = None if self.recovery is None else notifications.finish("recovered", self.recovery, 1)
            for told in filter(None, [recovered, *self.stall.take_told()]):
                run_record.note_told(self.run_dir, told)
        except Exception:  # whatever it is, the run must end
            traceback.print_exc()

    def note_soon(self, **fields: object) -> None:
        """Have fields written to the record by the thread that a hanging volume may hang."""
        self.notes.write_soon(**fields)
        self.heartbeat.hurry()

    def end(self, exit_code: int, reason: str, tail: subprocess.Popen[bytes] | None) -> None:
        """Write footer and record, tell the guard; stop the pod here when there is no guard."""
        self.link.tell_finishing(exit_code, reason)
        self.notes.close()
        self.note_told()
        try:
            run_record.finish_and_tell(self.run_dir, exit_code, reason)
        except Exception:  # whatever it is, the pod must stop
            traceback.print_exc()
        self.heartbeat.stop()
        if tail is not None:
            tail.kill()
        if not self.link.tell_end(exit_code, reason):
            print("no guard: the supervisor stops the pod itself", file=sys.stderr, flush=True)
            stop_pod.stop(str(self.record.get("when_done") or "stop"), say_to_stderr)


def stop_grace_s(record: dict[str, Any]) -> float:
    """Return how long the training may take to end."""
    grace_s = record.get("stop_grace_s")
    return 30.0 if grace_s is None else float(grace_s)


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


def own_reason(exit_code: int) -> str:
    """Return the reason of an end nobody asked for."""
    if exit_code <= 128:
        return "failed" if exit_code else "finished"
    try:
        name = signal.Signals(exit_code - 128).name
    except ValueError:
        return "failed"
    return f"killed by {name}" + (", perhaps for want of memory" if name == "SIGKILL" else "")


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
