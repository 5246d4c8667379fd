#!/usr/bin/env python3
"""The guard: the process on the pod that stops it when nothing useful runs on it any more.

    python3 guard.py

It listens on the unix socket $PODTASKS_DIR/guard.sock for JSON lines; README.md beside this file has the
protocol. Here is what clients may ask for, with guard_holds.py; guard_limits.py has how long a run and its pod
may go on, guard_end.py what ends them, guard_loop.py the loop under it, guard_state.py what outlives this process.
A second guard waits as a spare until the first one is gone.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from typing import Any

import guard_state
from guard_end import NEVER, grace_s
from guard_holds import Holds
from guard_loop import Connection, say
from pod_environ import container_directory

VERSION = 2


class Guard(Holds):
    """The requests of clients, and who may have the lease."""

    # Requests

    def op_prepare(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Give the lease to a client that prepares a run; its grace time starts anew."""
        if self.lease is not None or self.stopping is not None:
            return self.refusal()
        token = request.get("token") or os.urandom(16).hex()
        self.take(connection, "prepare", {"who": str(request.get("who", "")), "run_id": None, "token": token})
        if "grace" in self.deadlines:
            self.deadlines["grace"] = max(self.deadlines["grace"], time.monotonic() + grace_s())
            guard_state.begin_grace(self.directory)
        self.wait_for_launch()
        self.save()
        return {"ok": True, "token": token}

    def op_run(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Give the lease to a supervisor: from the prepare lease, or again after a restart of the guard."""
        run = request["run"]
        again = bool(request.get("again"))
        if self.stopping is not None or not (self.may_run_again(run) if again else self.holds(request.get("token"))):
            return self.refusal()
        if self.holder is not None:
            # Who launched is about to follow: a run that ends at once must not be stopped unseen.
            self.holder.role = "launch"
        lease = self.lease or {}
        self.take_run(connection, request, lease)
        self.start_limits(run, again)
        self.save()
        say(f"run {run['run_id']}: supervisor {request['pid']} holds the lease" + (" again" if again else ""))
        if lease.get("ending"):
            connection.send({"event": "end", "reason": lease["ending"]})
        return {"ok": True}

    def take_run(self, connection: Connection, request: dict[str, Any], before: dict[str, Any]) -> None:
        """Make a supervisor's connection the holder; a lease it had `before` goes on. The grace time is over."""
        run = request["run"]
        fields = {"who": before.get("who") or str(run.get("who", "")), "run_id": run["run_id"], "run": run}
        kept = {name: before.get(name) for name in ("pgid", "ending", "end")}
        self.take(connection, "run", {**fields, "pid": request["pid"], **kept})
        self.last_run_id = run["run_id"]
        for name in ("grace", "hold", "reconnect"):
            self.deadlines.pop(name, None)
        self.watch_supervisor()
        self.forget_kept()
        guard_state.end_grace(self.directory)

    def op_training(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Note the process group of the training, to be killed should the supervisor die."""
        if connection is not self.holder or self.lease is None:
            return self.refusal()
        self.lease["pgid"] = int(request["pgid"])
        self.save()
        return {"ok": True}

    def op_finishing(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Note how the run ended before it is written down and told: what hangs there must not keep the pod."""
        if connection is not self.holder or self.lease is None:
            return self.refusal()
        self.expect_end(int(request["exit_code"]), str(request["reason"]))
        return {"ok": True}

    def op_ended(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Take the news that the run has ended and act on its `when_done`."""
        if connection is not self.holder:
            return self.refusal()
        self.holder, connection.role = None, None
        self.run_over(request["exit_code"], str(request["reason"]))
        return {"ok": True}

    def op_follow(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Count a client that follows the log of a run; it is told when the run has ended."""
        connection.role = "follow"
        self.follower_lost_at = NEVER
        lease = self.lease or {}
        run_id = request.get("run_id")
        # A volume that takes nothing more keeps no record of an end that came before this follower.
        end = self.last_end if self.last_end is not None and self.last_end["run_id"] == run_id else None
        return {"ok": True, "running": lease.get("run_id") == run_id is not None, "end": end}

    def op_end(self, _connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the run to end, and kill it should it not."""
        if self.lease is None or self.lease["kind"] != "run":
            return {"ok": False}
        self.end_run(str(request.get("reason") or "user"))
        return {"ok": True, "run_id": self.lease["run_id"]}

    def op_status(self, _connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Tell everything there is to know; with a "token", also whether it holds the prepare lease."""
        hours_left_s = self.left_s("hours")
        return {
            "ok": True,
            "version": VERSION,
            "grace_left_s": self.left_s("grace"),
            "lease": self.public_lease(),
            "hours_left": None if hours_left_s is None else hours_left_s / 3600,
            "usd_left": self.usd_left(),
            "kept_left_s": self.left_s("kept"),
            "followers": self.count_followers(),
            "followers_wait_s": self.left_s("followers"),
            "stopping": None if self.stopping is None else self.stopping["reason"],
            "last_run_id": self.last_run_id,
            "holds": len(self.hold_names()),
            "holders": self.hold_names(),
            "token_holds": self.holds(request.get("token")),
        }

    def refusal(self) -> dict[str, Any]:
        """Return the reply to a client that cannot have the lease."""
        stopping = None if self.stopping is None else self.stopping["reason"]
        return {"ok": False, "holder": self.public_lease(), "stopping": stopping}

    def public_lease(self) -> dict[str, Any] | None:
        """Return what others may know of the lease: all but its token."""
        names = ("kind", "who", "run_id", "since", "pid", "pgid", "ending")
        return None if self.lease is None else {name: self.lease.get(name) for name in names}

    def holds(self, token: object) -> bool:
        """Say whether `token` is the one of the prepare lease now held."""
        return self.lease is not None and self.lease["kind"] == "prepare" and token == self.lease["token"]

    def may_run_again(self, run: dict[str, Any]) -> bool:
        """Say whether a supervisor that lost its guard may have the lease back."""
        if self.lease is None:
            return True
        lost = self.holder is None and not self.lease.get("killed")
        return lost and self.lease["run_id"] == run["run_id"]

    def take(self, connection: Connection, kind: str, fields: dict[str, Any]) -> None:
        """Make `connection` the holder of the lease."""
        self.holder = connection
        connection.role = kind
        self.lease = {"kind": kind, "since": time.time(), **fields}


def become_the_guard(directory: str) -> int:
    """Wait until no other guard runs; return the lock's descriptor, to be kept open."""
    os.makedirs(directory, exist_ok=True)
    lock = os.open(os.path.join(directory, "guard.lock"), os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def listen(directory: str) -> socket.socket:
    """Return the listening socket; whoever finds its path can connect to it."""
    path = os.path.join(directory, "guard.sock")
    if os.path.lexists(f"{path}.new"):
        os.unlink(f"{path}.new")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(f"{path}.new")
    os.chmod(f"{path}.new", 0o600)
    listener.listen(64)
    os.replace(f"{path}.new", path)
    return listener


def main() -> None:
    """Run the guard."""
    directory = container_directory()
    lock = become_the_guard(directory)
    try:
        guard = Guard()
        listener = listen(directory)
        guard.restore()
        guard.serve(listener)
    finally:
        os.close(lock)


if __name__ == "__main__":
    main()
