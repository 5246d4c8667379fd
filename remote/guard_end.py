"""How a run ends, and with it the pod: what the guard does when a deadline is over or a supervisor is gone."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import guard_state
from guard_loop import Connection, Loop, say
from pod_environ import container_directory, read_setting

LEAST_GRACE_S = 30.0
FINISH_TIMEOUT_S = 60.0
OVERTIME_S = 60.0
LOOK_S = 30.0
KILLED = 137
NEVER = float("-inf")
# Who hears of a run's end: followers of its log, and the launcher, who is about to become one.
LISTENERS = ("follow", "launch")


class Ends(Loop):
    """The lease and every way it ends.

    `lease` is what holds the pod: None, or {"kind": "prepare"|"run", "who", "run_id", "since", "token"} and
    for a run also "run", "pid", "pgid", "ending" (why it was asked to end) and "end" (how it did). `holder` is the
    connection it lives as long as.
    """

    def __init__(self) -> None:
        super().__init__()
        self.directory = container_directory()
        self.holder: Connection | None = None
        self.lease: dict[str, Any] | None = None
        self.last_run_id: str | None = None
        self.last_end: dict[str, Any] | None = None
        self.stopping: dict[str, str] | None = None
        self.follower_lost_at = NEVER

    # Connections that close

    def on_hang_up(self, connection: Connection) -> None:
        """Take back what a client held."""
        if connection.role == "follow" and self.stopping is None:
            self.follower_lost_at = time.monotonic()
        if connection.role in LISTENERS:
            self.listener_left()
        if connection is self.holder:
            self.holder_left()

    def holder_left(self) -> None:
        """React to the end of the connection that held the lease."""
        self.holder = None
        if self.lease is not None and self.lease["kind"] == "run":
            say(f"run {self.lease['run_id']}: its supervisor is gone without a word")
            self.kill_run(str(self.lease.get("ending") or "supervisor killed"))
        else:
            self.lease = None
        self.save()

    def watch_supervisor(self) -> None:
        """Look soon whether the supervisor still lives."""
        self.set_deadline("look", seconds("PODTASKS_LOOK_S", LOOK_S))

    def on_look(self) -> None:
        """Notice a supervisor that is dead, its connection open: a thread that a volume hangs cannot be killed."""
        if self.lease is None or self.lease["kind"] != "run" or self.holder is None:
            return
        if _is_dead(self.lease.get("pid")):
            self.holder_left()
        else:
            self.watch_supervisor()

    # The end of a run

    def end_run(self, reason: str) -> None:
        """Ask the supervisor to end its run; set the time at which it is killed instead."""
        assert self.lease is not None
        self.lease["ending"] = self.lease.get("ending") or reason
        if "kill" not in self.deadlines:
            stop_grace_s = float(self.lease["run"].get("stop_grace_s") or 0)
            self.set_deadline("kill", max(seconds("PODTASKS_OVERTIME_S", OVERTIME_S), stop_grace_s + 15))
        self.save()
        if self.holder is not None:
            self.holder.send({"event": "end", "reason": reason})

    def expect_end(self, exit_code: int, reason: str) -> None:
        """Give the supervisor of a run that has ended a minute for its last words."""
        assert self.lease is not None
        # Its process group is gone; the number may become another's.
        self.lease.update(end={"exit_code": exit_code, "reason": reason}, pgid=None)
        self.set_deadline("kill", seconds("PODTASKS_OVERTIME_S", OVERTIME_S))
        self.save()

    def kill_run(self, reason: str) -> None:
        """Kill what is left of the run and have its record finished; then act on `when_done`."""
        assert self.lease is not None
        lease, self.holder = self.lease, None
        lease["end"] = lease.get("end") or {"exit_code": KILLED, "reason": reason}
        lease["killed"] = True
        for name in ("kill", "reconnect"):
            self.deadlines.pop(name, None)
        for pid, kill in ((lease.get("pgid"), os.killpg), (_supervisor_of(lease), os.kill)):
            _send_kill(pid, kill)
        run = lease["run"]
        words = [
            sys.executable,
            os.path.join(str(run["kit"]), "run_record.py"),
            "finish",
            str(run["run_dir"]),
            "--exit-code",
            str(lease["end"]["exit_code"]),
            "--reason",
            lease["end"]["reason"],
        ]
        if lease.get("pgid"):
            words += ["--group", str(lease["pgid"])]
        self.set_deadline("finish", FINISH_TIMEOUT_S)
        self.start_child("finish", words, self.on_finish)

    def on_finish(self) -> None:
        """Go on: the record is finished, or its time is over (a hung volume must not keep the pod)."""
        self.deadlines.pop("finish", None)
        child = self.children.pop("finish", None)
        code = None if child is None else child.poll()
        if child is not None and code is None:
            child.kill()
        if self.lease is not None and self.lease.get("killed"):
            say(f"run {self.lease['run_id']}: the program that finishes its record ended with {code}")
            self.run_over(**self.lease["end"])

    def run_over(self, exit_code: int | None, reason: str) -> None:
        """Give back the lease of an ended run and start what its `when_done` says."""
        assert self.lease is not None
        run, was_asked, self.lease = self.lease["run"], bool(self.lease.get("ending")), None
        say(f"run {run['run_id']}: ended with {exit_code} ({reason}); when_done is {run['when_done']}")
        self.deadlines.pop("kill", None)
        self.last_end = {"run_id": run["run_id"], "exit_code": exit_code, "reason": reason}
        for connection in list(self.connections.values()):
            if connection.role in LISTENERS:
                connection.send({"event": "ended", **self.last_end})
        if not self.may_keep(run, exit_code, reason, was_asked) and run["when_done"] != "keep":
            self.stop(f"run {run['run_id']} ended: {reason}", str(run["when_done"]))
        self.save()

    def may_keep(self, run: dict[str, Any], exit_code: int | None, reason: str, was_asked: bool) -> bool:
        """Say whether the pod stays for a while although its run has ended."""
        del run, exit_code, reason, was_asked
        return False

    def listener_left(self) -> None:
        """Stop the pod without more ado once the last listener has gone and none is on its way back."""
        if "followers" in self.deadlines and not self.count_followers() and not self.is_follower_returning():
            del self.deadlines["followers"]
            self.on_followers()

    def count_followers(self) -> int:
        """Return how many clients follow a log."""
        return sum(connection.role in LISTENERS for connection in self.connections.values())

    def is_follower_returning(self) -> bool:
        """Say whether a follower's link has just broken: then it is on its way back for the end of the log."""
        return time.monotonic() < self.follower_lost_at + seconds("PODTASKS_RETURN_S", 5)

    # Stopping the pod

    def stop(self, reason: str, action: str = "stop") -> None:
        """Decide that the pod stops ("stop") or terminates; followers get a moment to read the rest."""
        if self.stopping is not None:
            return
        say(f"the pod will {action}: {reason}")
        self.stopping = {"reason": reason, "action": action}
        self.deadlines.clear()
        returning = self.is_follower_returning()
        wait_s = seconds("PODTASKS_RETURN_S", 5) if returning else seconds("PODTASKS_FOLLOWERS_S", 3)
        self.set_deadline("followers", wait_s if returning or self.count_followers() else 0)
        self.save()

    def on_followers(self) -> None:
        """Start the program that stops the pod; start it again should it die."""
        assert self.stopping is not None
        self.deadlines.pop("followers", None)
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stop_pod.py")
        words = [sys.executable, program, self.stopping["action"]]
        self.start_child("stop", words, lambda: self.set_deadline("followers", 1))

    def on_grace(self) -> None:
        """Stop the pod: nothing was launched in time."""
        self.stop(f"no run was launched within the grace time ({grace_s() / 60:g} minutes)", grace_action())

    def on_kill(self) -> None:
        """Kill a run that was asked to end and did not."""
        if self.lease is not None and self.lease["kind"] == "run":
            self.kill_run(str(self.lease.get("ending") or "did not end"))

    def on_reconnect(self) -> None:
        """Give up on a supervisor that did not come back after a restart of the guard."""
        if self.lease is not None:
            self.kill_run(str(self.lease.get("ending") or "supervisor killed"))

    # State over a restart

    def save(self) -> None:
        """Write the state that must outlive this process."""
        guard_state.save(self.directory, self.state())

    def state(self) -> dict[str, Any]:
        """Return what must outlive this process."""
        deadlines = {n: self.deadlines[n] for n in ("grace", "hours", "kill") if n in self.deadlines}
        if "hold" in self.deadlines:
            # Whoever held this guard must hold the next one anew.
            deadlines["grace"] = time.monotonic() + grace_s()
        return {
            "deadlines": deadlines,
            "lease": self.lease if self.lease is not None and self.lease["kind"] == "run" else None,
            "last_run_id": self.last_run_id,
            "last_end": self.last_end,
            "stopping": self.stopping,
        }

    def restore(self) -> None:
        """Take over from the guard that ran before on this start of the pod, if any did."""
        state = guard_state.load(self.directory)
        self.last_end = None if state is None else state.get("last_end")
        if state is None:
            self.set_deadline("grace", guard_state.continue_grace(self.directory, grace_s()))
        elif state["stopping"] is not None:
            self.stop(state["stopping"]["reason"], state["stopping"]["action"])
        else:
            self.take_state(state)
        say(f"guard {os.getpid()} started; grace {self.left_s('grace')} s, run {(self.lease or {}).get('run_id')}")
        self.save()

    def take_state(self, state: dict[str, Any]) -> None:
        """Go on from what the guard before left."""
        self.deadlines.update(state["deadlines"])
        self.lease, self.last_run_id = state["lease"], state["last_run_id"]
        if self.lease is not None:
            self.set_deadline("reconnect", seconds("PODTASKS_RECONNECT_S", 10))
        elif "grace" in self.deadlines:
            self.deadlines["grace"] = max(self.deadlines["grace"], time.monotonic() + LEAST_GRACE_S)


def _supervisor_of(lease: dict[str, Any]) -> int | None:
    """Return the process id of the run's supervisor if that is still what runs under it."""
    pid = lease.get("pid")
    try:
        with open(f"/proc/{int(pid or 0)}/cmdline", "rb") as file:
            return pid if b"supervise.py" in file.read() else None
    except (OSError, ValueError):
        return None


def _is_dead(pid: int | None) -> bool:
    """Say whether a process has ended, all but for threads that may be left of it."""
    try:
        with open(f"/proc/{int(pid or 1)}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False


def _send_kill(pid: int | None, kill: Callable[[int, int], None]) -> None:
    """Send SIGKILL with `kill` if there is something to send it to."""
    if pid is None or pid <= 1:
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        kill(pid, signal.SIGKILL)


def seconds(name: str, default: float) -> float:
    """Return a number of seconds from the setting `name`; `default` when it is no number."""
    try:
        return float(read_setting(name, str(default)))
    except ValueError:
        return default


def grace_s() -> float:
    """Return how long a pod may live before a run is launched on it."""
    return seconds("PODTASKS_GRACE_MINUTES", 15) * 60


def grace_action() -> str:
    """Return what becomes of a pod whose grace time is over: "stop", or "terminate" for one that is not kept."""
    return "terminate" if read_setting("PODTASKS_GRACE_ACTION", "stop") == "terminate" else "stop"
