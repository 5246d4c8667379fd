"""The sign of life of a running supervisor: runs/<run_id>/heartbeat on the volume, rewritten every few seconds.

Who watches from elsewhere compares two readings on his own clock: a heartbeat that changes is that of a live pod.
A network volume may hang for minutes, and a call that waits for it hears no signal. So whatever touches the volume
while a training runs is done here, in a thread of its own: the heartbeat, the size of the log, the notes on the
record.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

from pod_environ import read_setting
from run_notes import RunNotes

BEAT_S = 5.0
FILE = "heartbeat"
WIDTH = 63


class Heartbeat:
    """The thread, and what it found."""

    def __init__(self, run_dir: str, log: str, notes: RunNotes) -> None:
        self.log_size: int | None = None
        self._path = os.path.join(run_dir, FILE)
        self._log = log
        self._notes = notes
        self._beat_s = beat_s()
        self._beat = 0
        self._wake = threading.Event()
        self._is_over = False
        self._problems: dict[Callable[[], None], str] = {}
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        try:
            self._thread.start()
        except RuntimeError as error:  # no process may be started any more; the training may still run
            print(f"no heartbeat: {error}", file=sys.stderr, flush=True)

    def is_alive(self) -> bool:
        """Say whether anybody looks at the log."""
        return self._thread.is_alive()

    def hurry(self) -> None:
        """Have what is to be noted written now, not with the next beat."""
        self._wake.set()

    def stop(self) -> None:
        """Let the last beat have been the last; wait for nothing."""
        self._is_over = True
        self._wake.set()

    def _run(self) -> None:
        # Signals are for the main thread: only there do they end a call that hangs.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._is_over:
            for part in (self._measure_log, self._notes.write_if_due, self._write):
                self._try(part)
            self._wake.wait(self._beat_s)
            self._wake.clear()

    def _try(self, part: Callable[[], None]) -> None:
        """Do one part of a beat; what fails is said once, and tried again with the next one."""
        try:
            part()
        except Exception as error:  # whatever it is, the next beat must come
            if self._problems.get(part) != str(error):
                self._problems[part] = str(error)
                traceback.print_exc()

    def _measure_log(self) -> None:
        self.log_size = os.stat(self._log).st_size

    def _write(self) -> None:
        """Write the next beat: whole, or over the last one where the volume takes no new file."""
        self._beat += 1
        line = json.dumps({"at": round(time.time(), 3), "beat": self._beat}).encode().ljust(WIDTH) + b"\n"
        new = f"{self._path}.new"
        try:
            with open(new, "wb") as file:
                file.write(line)
            os.replace(new, self._path)
        except OSError:
            descriptor = os.open(self._path, os.O_WRONLY)
            try:
                os.pwrite(descriptor, line, 0)
            finally:
                os.close(descriptor)


def age_s(run_dir: str) -> float | None:
    """Return how long ago the last beat was, None where there is none. By this pod's clock: ask on the pod only."""
    try:
        # Not blocking: what stands there may be a pipe.
        with open(os.open(os.path.join(run_dir, FILE), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            at = float(json.loads(file.read(1 << 12))["at"])
        return max(0.0, time.time() - at) if math.isfinite(at) else None
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def beat_s() -> float:
    """Return how many seconds lie between two beats."""
    try:
        return max(0.01, float(read_setting("PODTASKS_HEARTBEAT_S", str(BEAT_S))))
    except ValueError:
        return BEAT_S
