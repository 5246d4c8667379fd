"""Whether a run was asked to end: by a signal, or by the guard."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from pod_environ import read_setting

PLATFORM_GRACE_S = 4.0  # RunPod facts, section 4: SIGKILL follows the platform's SIGTERM after 5 s
END_SIGNALS = {
    signal.SIGTERM: "SIGTERM: the pod is ending",
    signal.SIGHUP: "the tmux session was ended",
    signal.SIGINT: "interrupted in tmux",
}


class EndRequest:
    """Why the run is to end, None while it is not, and when what is left of it is killed."""

    def __init__(self, stop_grace_s: float) -> None:
        self.reason: str | None = None
        self.kill_at: float | None = None
        self.stop_grace_s = stop_grace_s
        # Who is to hear of the reason as soon as there is one.
        self.listener: Callable[[str], None] | None = None

    def ask(self, reason: str, grace_s: float | None = None) -> bool:
        """Ask for the end; return whether that is new. A later request can only shorten the time."""
        kill_at = time.monotonic() + (self.stop_grace_s if grace_s is None else grace_s)
        is_new = self.reason is None
        if is_new:
            self.reason, self.kill_at = reason, kill_at
            if self.listener is not None:
                self.listener(reason)
        elif self.kill_at is not None:
            self.kill_at = min(self.kill_at, kill_at)
        return is_new

    def heed_signals(self, wakeup: int) -> bool:
        """Ask for the end for each signal that asks for it; return whether that is new."""
        numbers = [number for number in os.read(wakeup, 4096) if number in END_SIGNALS]
        return any([self.ask(END_SIGNALS[signal.Signals(number)], self._grace_s(number)) for number in numbers])

    def _grace_s(self, number: int) -> float:
        return platform_grace_s() if number == signal.SIGTERM else self.stop_grace_s


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


def platform_grace_s() -> float:
    """Return how long the training may take once the platform ends the pod."""
    return float(read_setting("PODTASKS_PLATFORM_GRACE_S", str(PLATFORM_GRACE_S)))
