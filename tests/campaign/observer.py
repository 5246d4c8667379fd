"""What is seen from outside while a seed is played: processes, argument lists, and the user's identity file."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.campaign.observed import Lived, Moment

PERIOD_S = 0.05
# A process may still become another program for so long after it was first seen.
EXEC_S = 1.0
SCRIPT = b"scripts/train.py"


@dataclass
class Observer:
    """What is seen of one world since `begin`.

    Args:
        project: the value of PODTASKS_PROJECT in its pods.
        identity: the path of its .runpod.env.
        secrets: name and value of each secret that must be nowhere.
        trainings_own: the names of those that trainings have in their environment by right.
    """

    project: str
    identity: Path
    secrets: Mapping[str, bytes]
    trainings_own: frozenset[str] = frozenset()
    trainings: dict[int, Lived] = field(default_factory=dict)
    ended: list[Lived] = field(default_factory=list)
    doubles: list[Moment] = field(default_factory=list)
    leaks: list[Moment] = field(default_factory=list)
    identity_problems: list[Moment] = field(default_factory=list)
    lag_s: float = 0.0
    _watch: IdentityWatch | None = None

    def begin(self) -> None:
        """Forget what was seen, and begin anew; the identity file is as it shall stay, but for POD_ID."""
        for seen in (self.ended, self.doubles, self.leaks, self.identity_problems):
            seen.clear()
        self.lag_s = 0.0
        self._watch = IdentityWatch(self.identity)

    def end(self) -> None:
        """Look no more."""
        self._watch = None

    def is_training(self) -> bool:
        """Return whether a training of this world was alive a moment ago."""
        return bool(self.trainings)

    def sample(self, now: float, lag_s: float) -> None:
        """Note what is to be seen at this moment."""
        self.lag_s = max(self.lag_s, lag_s)
        for pid, training in list(self.trainings.items()):
            if not is_alive(pid):
                self.ended.append(self.trainings.pop(pid))
            else:
                training.end = now
        text = f"trainings {sorted(self.trainings)} on one output directory"
        if len(self.trainings) > 1 and text not in [moment.what for moment in self.doubles]:
            self.doubles.append(Moment(now, text))
        watch = self._watch
        if watch is not None:
            self.identity_problems += [Moment(now, text) for text in watch.look()]

    def take_process(self, now: float, pid: int, words: bytes) -> bool:
        """Look at a process; return whether it need not be looked at again."""
        for name, value in self.secrets.items():
            if value in words:
                self.leaks.append(Moment(now, f"{name} in the argument list of process {pid}"))
        if not is_training(words):
            return False
        environment = read_environment(pid)
        if environment.get(b"PODTASKS_PROJECT") != self.project.encode():
            return False
        pod = environment.get(b"RUNPOD_POD_ID", b"").decode()
        self.trainings[pid] = Lived(pid, pod, now, now)
        for name, value in self.secrets.items():
            if name not in self.trainings_own and any(value in text for text in environment.values()):
                self.leaks.append(Moment(now, f"{name} in the environment of training {pid}"))
        return True

    def lived(self) -> tuple[Lived, ...]:
        """Return all trainings seen since `begin`."""
        return (*self.ended, *self.trainings.values())


class IdentityWatch:
    """Sees whether a file ever is other than whole: the open file shows what is written into it in place.

    A reader of the file holds the inode, so that it is never given to another file; what was replaced by a rename
    stays as it was, and what was written in place has another size or time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = self._lines(path.read_text())
        self._file = os.open(path, os.O_RDONLY)
        self._stamp = self._read_stamp()

    def __del__(self) -> None:
        os.close(self._file)

    def look(self) -> list[str]:
        """Return what is wrong with the file at this moment."""
        problems = []
        stamp = self._read_stamp()
        if stamp != self._stamp:
            problems.append(".runpod.env was written in place: half of it could be read, or stay")
            self._stamp = stamp
        try:
            if os.stat(self._path).st_ino == os.fstat(self._file).st_ino:
                return problems
            newer = os.open(self._path, os.O_RDONLY)
        except FileNotFoundError:
            return [*problems, ".runpod.env is not there"]
        os.close(self._file)
        self._file = newer
        self._stamp = self._read_stamp()
        if self._lines(os.pread(newer, 1 << 16, 0).decode(errors="replace")) != self._kept:
            problems.append(".runpod.env has lost or changed more than POD_ID")
        return problems

    def _read_stamp(self) -> tuple[int, int]:
        told = os.fstat(self._file)
        return told.st_size, told.st_mtime_ns

    def _lines(self, text: str) -> list[str]:
        """Return the lines but for the value of POD_ID."""
        return ["POD_ID=" if line.startswith("POD_ID=") else line for line in text.splitlines()]


class Scanner:
    """Reads the process table for all observers of this process, many times a second."""

    def __init__(self) -> None:
        self._observers: list[Observer] = []
        self._known: dict[int, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, observer: Observer) -> None:
        """Let an observer see, from now on."""
        with self._lock:
            self._observers.append(observer)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def remove(self, observer: Observer) -> None:
        """Let it see no more."""
        with self._lock:
            self._observers.remove(observer)

    def _run(self) -> None:
        last = time.monotonic()
        while True:
            time.sleep(PERIOD_S)
            began = time.monotonic()
            with self._lock:
                self._scan(time.time())
                for observer in self._observers:
                    observer.sample(time.time(), time.monotonic() - last - PERIOD_S)
            last = began

    def _scan(self, now: float) -> None:
        pids = {int(name) for name in os.listdir("/proc") if name.isdigit()}
        for gone in self._known.keys() - pids:
            del self._known[gone]
        for pid in pids:
            settled = self._known.setdefault(pid, now + EXEC_S)
            if now <= settled:
                self._look_at(now, pid)

    def _look_at(self, now: float, pid: int) -> None:
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
            if any([observer.take_process(now, pid, words) for observer in self._observers]):
                self._known[pid] = 0.0


SCANNER = Scanner()


def is_training(words: bytes) -> bool:
    """Return whether an argument list is that of the campaign's pipeline."""
    first, _, rest = words.partition(b"\0")
    return rest.startswith(SCRIPT + b"\0") and os.path.basename(first).startswith(b"python")


def is_alive(pid: int) -> bool:
    """Return whether a process runs, zombies not counted."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (OSError, IndexError):
        return False


def read_environment(pid: int) -> dict[bytes, bytes]:
    """Return a process's environment."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair)
