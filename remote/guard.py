#!/usr/bin/env python3
"""The guard: the process on the pod that stops it when nothing useful runs on it any more.

    python3 guard.py

It listens on the unix socket $PODTASKS_DIR/guard.sock for JSON lines; README.md beside this file has the
protocol. One select loop, no polling: each deadline is the loop's timeout, kept on the monotonic clock so
that a clock jump neither stops a pod nor keeps it. $PODTASKS_DIR/lease.json carries the state over a
restart of the guard. A second guard waits as a spare until the first one is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from pod_environ import container_directory, read_setting

VERSION = 1
LONGEST_REQUEST = 1 << 20
LEAST_GRACE_S = 30.0
FINISH_TIMEOUT_S = 60.0
NEVER = float("-inf")


class Connection:
    """One client: its socket, what it has sent of its next line, and what it is here for."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.role: str | None = None

    def send(self, message: dict[str, Any]) -> None:
        """Send one line; a client that does not read its lines loses its connection."""
        try:
            self.sock.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.hang_up()

    def hang_up(self) -> None:
        """End the connection; the loop then reads its end and forgets it."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)


class Guard:
    """The lease, the deadlines and the clients.

    `lease` is what holds the pod: None, or {"kind": "prepare"|"run", "who", "run_id", "since", "token"} and
    for a run also "run", "pid", "pgid" and "ending". `deadlines` maps the name of a deadline to its
    monotonic time; when it is over, the method `on_<name>` is called.
    """

    def __init__(self) -> None:
        self.directory = container_directory()
        self.selector = selectors.DefaultSelector()
        self.connections: dict[int, Connection] = {}
        self.holder: Connection | None = None
        self.lease: dict[str, Any] | None = None
        self.last_run_id: str | None = None
        self.stopping: dict[str, str] | None = None
        self.follower_lost_at = NEVER
        self.deadlines: dict[str, float] = {}
        self.children: dict[str, subprocess.Popen[bytes]] = {}

    # The loop

    def serve(self, listener: socket.socket) -> None:
        """Serve clients and deadlines for ever."""
        self.selector.register(listener, selectors.EVENT_READ, self.accept)
        self.restore()
        while True:
            for key, _ in self.selector.select(self.time_left_s()):
                key.data(key.fileobj)
            self.fire_deadlines()

    def time_left_s(self) -> float | None:
        """Return the seconds to the next deadline, None when there is none."""
        return max(0.0, min(self.deadlines.values()) - time.monotonic()) if self.deadlines else None

    def fire_deadlines(self) -> None:
        """Call `on_<name>` for each deadline that is over."""
        now = time.monotonic()
        for name in [name for name, at in self.deadlines.items() if at <= now]:
            if self.deadlines.pop(name, None) is not None:
                getattr(self, f"on_{name}")()

    def set_deadline(self, name: str, seconds: float) -> None:
        """Set the deadline `name` to `seconds` from now."""
        self.deadlines[name] = time.monotonic() + seconds

    def accept(self, listener: socket.socket) -> None:
        """Take on a new client."""
        sock, _ = listener.accept()
        sock.setblocking(False)
        self.connections[sock.fileno()] = Connection(sock)
        self.selector.register(sock, selectors.EVENT_READ, self.receive)

    def receive(self, sock: socket.socket) -> None:
        """Read from a client and answer each whole line."""
        connection = self.connections[sock.fileno()]
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.received += data
        *lines, connection.received = connection.received.split(b"\n")
        for line in lines:
            connection.send(self.answer(connection, line))
        if not data or len(connection.received) > LONGEST_REQUEST:
            self.drop(connection)

    def answer(self, connection: Connection, line: bytes) -> dict[str, Any]:
        """Return the reply to one request."""
        try:
            request = json.loads(line)
            operation = getattr(self, f"op_{request['op']}")
            reply: dict[str, Any] = operation(connection, request)
        except Exception as error:  # a client's mistake must not end the guard
            say(f"bad request: {type(error).__name__}: {error}")
            return {"ok": False, "error": f"bad request: {type(error).__name__}: {error}"}
        if request["op"] not in ("status", "follow"):
            self.save()
        return reply

    def drop(self, connection: Connection) -> None:
        """Forget a client whose connection is closed; give back what it held."""
        del self.connections[connection.sock.fileno()]
        self.selector.unregister(connection.sock)
        connection.sock.close()
        if connection.role == "follow":
            self.follower_lost_at = time.monotonic()
            self.follower_left()
        if connection is self.holder:
            self.holder_left()

    def holder_left(self) -> None:
        """React to the end of the connection that held the lease."""
        self.holder = None
        if self.lease is not None and self.lease["kind"] == "run":
            say(f"run {self.lease['run_id']}: its supervisor is gone without a word")
            self.kill_run("supervisor killed")
        else:
            self.lease = None
        self.save()

    # Requests

    def op_prepare(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Give the lease to a client that prepares a run; its grace time starts anew."""
        if self.lease is not None or self.stopping is not None:
            return self.refusal()
        token = request.get("token") or os.urandom(16).hex()
        self.take(connection, "prepare", {"who": str(request.get("who", "")), "run_id": None, "token": token})
        if "grace" in self.deadlines:
            self.deadlines["grace"] = max(self.deadlines["grace"], time.monotonic() + grace_s())
        return {"ok": True, "token": token}

    def op_run(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Give the lease to a supervisor: from the prepare lease, or again after a restart of the guard."""
        run = request["run"]
        again = bool(request.get("again"))
        if self.stopping is not None or not (self.may_run_again(run) if again else self.holds(request.get("token"))):
            return self.refusal()
        if self.holder is not None:
            # Who launched is about to follow: a run that ends at once must not be stopped unseen.
            self.holder.role = "follow"
        lease = {} if self.lease is None else self.lease
        who, pgid = lease.get("who") or str(run.get("who", "")), lease.get("pgid")
        self.take(
            connection,
            "run",
            {
                "who": who,
                "run_id": run["run_id"],
                "run": run,
                "pid": request["pid"],
                "pgid": pgid,
                "ending": lease.get("ending"),
            },
        )
        self.last_run_id = run["run_id"]
        for name in ("grace", "reconnect"):
            self.deadlines.pop(name, None)
        if not again or "hours" not in self.deadlines:
            self.start_hours(run)
        say(f"run {run['run_id']}: supervisor {request['pid']} holds the lease" + (" again" if again else ""))
        if lease.get("ending"):
            connection.send({"event": "end", "reason": lease["ending"]})
        return {"ok": True}

    def op_training(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Note the process group of the training, to be killed should the supervisor die."""
        if connection is not self.holder or self.lease is None:
            return self.refusal()
        self.lease["pgid"] = int(request["pgid"])
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
        return {"ok": True, "running": lease.get("run_id") == request.get("run_id") is not None}

    def op_end(self, _connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Ask the run to end, and kill it should it not."""
        if self.lease is None or self.lease["kind"] != "run":
            return {"ok": False}
        self.end_run(str(request.get("reason") or "user"))
        return {"ok": True, "run_id": self.lease["run_id"]}

    def op_extend(self, _connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Move the end of the grace time to at least so many minutes from now."""
        if "grace" in self.deadlines:
            wanted = time.monotonic() + float(request["minutes"]) * 60
            self.deadlines["grace"] = max(self.deadlines["grace"], wanted)
        return {"ok": True}

    def op_status(self, _connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        """Tell everything there is to know; with a "token", also whether it holds the prepare lease."""
        hours_left_s = self.left_s("hours")
        return {
            "ok": True,
            "version": VERSION,
            "grace_left_s": self.left_s("grace"),
            "lease": self.public_lease(),
            "hours_left": None if hours_left_s is None else hours_left_s / 3600,
            "followers": self.count_followers(),
            "stopping": None if self.stopping is None else self.stopping["reason"],
            "last_run_id": self.last_run_id,
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

    # The end of a run

    def start_hours(self, run: dict[str, Any]) -> None:
        """Start the clock of the hours allowed, which count from the launch."""
        self.deadlines.pop("hours", None)
        if run.get("max_hours") is not None:
            self.set_deadline("hours", float(run["max_hours"]) * 3600 - float(run.get("elapsed_s") or 0))

    def end_run(self, reason: str) -> None:
        """Ask the supervisor to end its run; set the time at which it is killed instead."""
        assert self.lease is not None
        self.lease["ending"] = self.lease.get("ending") or reason
        if "kill" not in self.deadlines:
            stop_grace_s = float(self.lease["run"].get("stop_grace_s") or 0)
            self.set_deadline("kill", max(seconds("PODTASKS_OVERTIME_S", 60), stop_grace_s + 15))
        if self.holder is not None:
            self.holder.send({"event": "end", "reason": reason})

    def kill_run(self, reason: str) -> None:
        """Kill what is left of the run and have its record finished; then act on `when_done`."""
        assert self.lease is not None
        lease, self.holder = self.lease, None
        lease["ending"], lease["killed"] = reason, True
        for name in ("kill", "reconnect"):
            self.deadlines.pop(name, None)
        for pid, kill in ((lease.get("pgid"), os.killpg), (supervisor_of(lease), os.kill)):
            send_kill(pid, kill)
        run = lease["run"]
        words = [
            sys.executable,
            os.path.join(str(run["kit"]), "run_record.py"),
            "finish",
            str(run["run_dir"]),
            "--exit-code",
            "137",
            "--reason",
            reason,
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
            self.run_over(137, str(self.lease["ending"]))

    def run_over(self, exit_code: int | None, reason: str) -> None:
        """Give back the lease of an ended run and start what its `when_done` says."""
        assert self.lease is not None
        run, self.lease = self.lease["run"], None
        say(f"run {run['run_id']}: ended with {exit_code} ({reason}); when_done is {run['when_done']}")
        self.deadlines.pop("kill", None)
        ended = {"event": "ended", "run_id": run["run_id"], "exit_code": exit_code, "reason": reason}
        for connection in list(self.connections.values()):
            if connection.role == "follow":
                connection.send(ended)
        if run["when_done"] != "keep":
            self.stop(f"run {run['run_id']} ended: {reason}", str(run["when_done"]))
        self.save()

    def follower_left(self) -> None:
        """Stop the pod without more ado once the last follower has gone."""
        if "followers" in self.deadlines and not self.count_followers():
            del self.deadlines["followers"]
            self.on_followers()

    def count_followers(self) -> int:
        """Return how many clients follow a log."""
        return sum(connection.role == "follow" for connection in self.connections.values())

    # Stopping the pod

    def stop(self, reason: str, action: str = "stop") -> None:
        """Decide that the pod stops ("stop") or terminates; followers get a moment to read the rest."""
        if self.stopping is not None:
            return
        say(f"the pod will {action}: {reason}")
        self.stopping = {"reason": reason, "action": action}
        self.deadlines.clear()
        # One whose link has just broken is on its way back for the end of the log.
        return_s = seconds("PODTASKS_RETURN_S", 5)
        returning = time.monotonic() < self.follower_lost_at + return_s
        wait_s = return_s if returning else seconds("PODTASKS_FOLLOWERS_S", 3)
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
        self.stop(f"no run was launched within the grace time ({grace_s() / 60:g} minutes)")

    def on_hours(self) -> None:
        """End the run whose hours are used up; stop a pod that was kept."""
        if self.lease is not None and self.lease["kind"] == "run":
            self.end_run("max_hours")
        else:
            self.stop("max_hours")

    def on_kill(self) -> None:
        """Kill a run that was asked to end and did not."""
        if self.lease is not None and self.lease["kind"] == "run":
            self.kill_run(str(self.lease.get("ending") or "did not end"))

    def on_reconnect(self) -> None:
        """Give up on a supervisor that did not come back after a restart of the guard."""
        if self.lease is not None:
            self.kill_run("supervisor killed")

    def start_child(self, name: str, words: list[str], then: Callable[[], None]) -> None:
        """Start a program; call `then` when it has ended (its end closes a pipe that wakes the loop)."""
        reader, writer = os.pipe()
        try:
            child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=sys.stdout, stderr=sys.stdout, pass_fds=(writer,)
            )
        except OSError as error:
            say(f"cannot start {words}: {error}")
            os.close(reader)
            then()
            return
        finally:
            os.close(writer)
        self.children[name] = child

        def ended(number: int) -> None:
            self.selector.unregister(number)
            os.close(number)
            child.wait()
            then()

        self.selector.register(reader, selectors.EVENT_READ, ended)

    # State over a restart

    def left_s(self, name: str) -> float | None:
        """Return the seconds left to a deadline, None when it is not set."""
        return max(0.0, self.deadlines[name] - time.monotonic()) if name in self.deadlines else None

    def save(self) -> None:
        """Write the state that must outlive this process."""
        state = {
            "boot": boot_identity(),
            "deadlines": {n: self.deadlines[n] for n in ("grace", "hours", "kill") if n in self.deadlines},
            "lease": self.lease if self.lease is not None and self.lease["kind"] == "run" else None,
            "last_run_id": self.last_run_id,
            "stopping": self.stopping,
        }
        path = os.path.join(self.directory, "lease.json")
        try:
            with open(f"{path}.new", "w", encoding="utf-8") as file:
                json.dump(state, file)
            os.replace(f"{path}.new", path)
        except OSError as error:
            say(f"cannot write {path}: {error}")

    def restore(self) -> None:
        """Take over from the guard that ran before on this start of the pod, if any did."""
        state = self.load()
        if state is None:
            self.set_deadline("grace", grace_s())
        elif state["stopping"] is not None:
            self.stop(state["stopping"]["reason"], state["stopping"]["action"])
        else:
            self.deadlines.update(state["deadlines"])
            self.lease, self.last_run_id = state["lease"], state["last_run_id"]
            if self.lease is not None:
                self.set_deadline("reconnect", seconds("PODTASKS_RECONNECT_S", 10))
            elif "grace" in self.deadlines:
                self.deadlines["grace"] = max(self.deadlines["grace"], time.monotonic() + LEAST_GRACE_S)
        say(f"guard {os.getpid()} started; grace {self.left_s('grace')} s, run {(self.lease or {}).get('run_id')}")
        self.save()

    def load(self) -> dict[str, Any] | None:
        """Return the saved state, None when there is none of this start of the pod."""
        try:
            with open(os.path.join(self.directory, "lease.json"), encoding="utf-8") as file:
                state: dict[str, Any] = json.load(file)
            return state if state["boot"] == boot_identity() else None
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"lease.json is of no use: {error}")
            return None


def boot_identity() -> str:
    """Return what differs from one start of the pod to the next: the machine's boot and process 1's start."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        boot_id = file.read().strip()
    with open("/proc/1/stat", encoding="utf-8", errors="replace") as file:
        started = file.read().rpartition(")")[2].split()[19]
    return f"{boot_id}:{started}"


def supervisor_of(lease: dict[str, Any]) -> int | None:
    """Return the process id of the run's supervisor if that is still what runs under it."""
    pid = lease.get("pid")
    try:
        with open(f"/proc/{int(pid or 0)}/cmdline", "rb") as file:
            return pid if b"supervise.py" in file.read() else None
    except (OSError, ValueError):
        return None


def send_kill(pid: int | None, kill: Callable[[int, int], None]) -> None:
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


def say(text: str) -> None:
    """Write one line with its time to the guard's log."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    with contextlib.suppress(OSError):  # a full disk must not end the guard
        print(f"{stamp} {text}", flush=True)


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
        Guard().serve(listen(directory))
    finally:
        os.close(lock)


if __name__ == "__main__":
    main()
