"""Streaming a run's log to the terminal over a connection of its own.

The contract:

1. The stream begins at the byte where the run began, and every byte of the log from there on is shown
   exactly once and in order, whatever happens to the link in between.
2. Bytes are passed on as they are: carriage returns of progress bars and bytes that are no UTF-8 included.
3. The stream ends when the run has ended *and* its last byte has been shown; the result is the run's
   exit code. The pod waits a moment for that before it stops.
4. A link that breaks, or is silent for longer than three heartbeats, is made anew from the last byte.
5. While the link is down the API is asked whether the pod still runs; a pod that is gone ends the stream
   with OutcomeUnknownError, which says where the log is. An API that does not answer either says nothing.
6. Ctrl+C ends the view and nothing else.
7. A copy of what was shown is kept on this machine, so that it can be read when the pod is stopped.
8. Only the log goes to standard output; what podtasks has to say goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podtasks.doors import ssh
from podtasks.doors.clock import Clock, growing_pauses
from podtasks.doors.console import Reporter
from podtasks.flows.cloud import Cloud
from podtasks.flows.pod_programs import PodPrograms
from podtasks.pure.errors import ApiUnreachableError, OutcomeUnknownError, TransportError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.reasons import UNTRAINED
from podtasks.pure.run import Run

# remote/follow_log.py sends a heartbeat every 5 s.
SILENCE_LIMIT_S = 16.0
RECONNECT_LIMIT_S = 300.0
# A pod whose run has ended waits 5 s for a follower whose link broke (remote/README.md), and stops.
REST_LIMIT_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended: its exit code (None when nobody could record it) and why it ended."""

    exit_code: int | None
    reason: str

    @property
    def code_text(self) -> str:
        """The exit code for people."""
        return "unknown" if self.exit_code is None else str(self.exit_code)

    @property
    def never_trained(self) -> bool:
        """Whether it is known to have ended before its training began."""
        return self.reason in UNTRAINED


@dataclass(frozen=True)
class RunEnd:
    """What the pod tells at the end: the outcome, and the byte of the log at which the run ends."""

    outcome: Outcome
    log_end: int | None


def parse_event(line: bytes) -> Mapping[str, Any]:
    """Given one line that remote/follow_log.py wrote to standard error, return its event; {} for other text."""
    try:
        event = json.loads(line)
    except ValueError:
        return {}
    return event if isinstance(event, dict) else {}


def parse_end(event: Mapping[str, Any]) -> RunEnd | None:
    """Return the run's end that an event tells, None for any other event."""
    if event.get("event") != "ended":
        return None
    return RunEnd(Outcome(event.get("exit_code"), str(event.get("reason") or "")), event.get("log_end"))


@dataclass(frozen=True)
class _Outage:
    """A time without a link: since when, in the clock's seconds, and the pauses between two tries."""

    since: float
    pauses: Iterator[float]


class LogView:
    """One run's log, shown on this terminal.

    Args:
        on_begin: called once the pod knows that its log is followed.
        show: takes log bytes as they come.
        copy_path: the file that gets the same bytes, None for no copy.
        first_byte: of the log, where the view begins; None: where the run does. An earlier one also shows what the
            runs before it still owe, since all runs are in one log; the copy has this run only.
        patience_s: for how long a pod that runs by the API's word may be out of reach.
    """

    def __init__(
        self,
        cloud: Cloud,
        pod: Pod,
        login: ssh.SshLogin,
        run: Run,
        *,
        on_begin: Callable[[], None],
        show: Callable[[bytes], None],
        copy_path: Path | None,
        report: Reporter,
        clock: Clock,
        first_byte: int | None = None,
        patience_s: float = RECONNECT_LIMIT_S,
    ) -> None:
        self._patience_s = patience_s
        self._cloud = cloud
        self._pod = pod
        self._login = login
        self._run = run
        self._on_begin = on_begin
        self._show = show
        self._copy_path = copy_path
        self._report = report
        self._clock = clock
        self._offset = run.log_start if first_byte is None else min(first_byte, run.log_start)
        self._outcome: Outcome | None = None
        self._outage: _Outage | None = None

    def follow(self) -> Outcome:
        """Show the log until the run has ended, and return how it ended.

        Raises OutcomeUnknownError when the pod is gone, or out of reach for too long, before that was seen; it may
        be called again then, and goes on with the next byte.
        """
        self._outage = None
        while True:
            try:
                return self._follow_once()
            except TransportError as error:
                if self._outcome is None:
                    self._wait(error)
                elif not self._can_wait_for_rest(error):
                    self._report.note("the link broke before the log's last bytes came; the volume has them")
                    return self._outcome

    def _can_wait_for_rest(self, error: TransportError) -> bool:
        """Wait before the next connection; say whether there is any use in one after the run's end."""
        try:
            self._wait(error)
        except OutcomeUnknownError:
            return False
        return self._outage is not None and self._clock.now() - self._outage.since < REST_LIMIT_S

    @property
    def pod(self) -> Pod:
        """The newest reading of the pod, with the address it answered at last."""
        return self._pod

    @property
    def next_byte(self) -> int:
        """The first byte of the log that was not shown yet."""
        return self._offset

    def _wait(self, error: TransportError) -> None:
        """Wait before the next connection. Raises OutcomeUnknownError when there is no use in one."""
        if self._outage is None:
            self._outage = _Outage(self._clock.now(), growing_pauses(0.2, 1.6, 5.0))
            goes_on = "the training goes on" if self._outcome is None else "the run has ended"
            self._report.note(f"{error.what} Reconnecting; {goes_on}.")
        self._read_pod()
        if self._clock.now() - self._outage.since > self._patience_s:
            raise self._lost_link()
        self._clock.sleep(next(self._outage.pauses))

    def _follow_once(self) -> Outcome:
        endpoint = self._pod.ssh
        if endpoint is None:
            raise TransportError("The pod publishes no SSH port.", next_step="wait")
        with ssh.PodShell(endpoint, self._login) as shell:
            programs = PodPrograms(shell, self._pod)
            process = programs.start(
                "follow_log.py",
                {"run_dir": self._run.run_dir, "log": self._run.log, "offset": self._offset},
            )
            return self._pump(process)

    def _pump(self, process: ssh.RemoteProcess) -> Outcome:
        text = b""
        heartbeats = 0
        while True:
            log, more_text = self._read(process)
            self._take(log)
            *lines, text = (text + more_text).split(b"\n")
            events = [parse_event(line) for line in lines]
            heartbeats += sum(event.get("event") == "alive" for event in events)
            self._note_contact(log, heartbeats)
            for end in filter(None, map(parse_end, events)):
                self._outcome = end.outcome
                self._drain(process, end.log_end)
                return end.outcome

    def _note_contact(self, log: bytes, heartbeats: int) -> None:
        """Note that the pod follows the log: it says its first heartbeat when it does, log or not."""
        if log or heartbeats:
            self._on_begin()
        if log or heartbeats > 1:
            # A quiet training says nothing for hours; a second heartbeat tells a link that holds.
            self._outage = None

    def _drain(self, process: ssh.RemoteProcess, log_end: int | None) -> None:
        """Take the bytes that standard output still owes, then let the pod stop."""
        while log_end is not None and self._offset < log_end:
            self._take(self._read(process)[0])
        with contextlib.suppress(TransportError):
            process.send(b"\n")

    def _read(self, process: ssh.RemoteProcess) -> tuple[bytes, bytes]:
        pieces = process.read(SILENCE_LIMIT_S)
        if pieces is None:
            raise TransportError("The log stream broke off.", next_step="wait")
        return pieces

    def _take(self, log: bytes) -> None:
        if log:
            self._show(log)
            self._copy(log)
            self._offset += len(log)

    def _copy(self, log: bytes) -> None:
        """Write to the copy, each byte at its place, so that two views of one run make one copy."""
        if self._copy_path is None:
            return
        try:
            with open(self._copy_path, "r+b") as copy:
                place = self._offset - self._run.log_start
                copy.seek(max(place, 0))
                copy.write(log[max(-place, 0) :])
        except OSError as error:
            self._report.note(f"no copy of the log is kept here: {error}")
            self._copy_path = None

    def _read_pod(self) -> None:
        """Read the pod anew: its port may have changed. Raises OutcomeUnknownError when it is gone.

        A machine that is offline hears nothing from the API either; that says nothing of the pod.
        """
        try:
            pod = self._cloud.api.find_pod(self._pod.id)
        except ApiUnreachableError:
            return
        if pod is None or pod.status is not PodStatus.RUNNING:
            raise self._gone(pod)
        self._pod = pod

    def _gone(self, pod: Pod | None) -> OutcomeUnknownError:
        state = f"is stopped ({pod.status_change})" if pod else "is no longer there"
        return OutcomeUnknownError(
            f"Pod {self._pod.id} {state}, and the end of run {self._run.run_id} was not seen.",
            means=f"It is not billed any more. The whole log is on the volume: {self._run.log}",
            next_step="the same inv train command goes on from the newest complete checkpoint",
        )

    def _lost_link(self) -> OutcomeUnknownError:
        return OutcomeUnknownError(
            f"Pod {self._pod.id} runs, but has not answered on SSH for {self._patience_s:.0f} s.",
            means="It is billed, and stops itself when its run ends.",
            next_step="inv logs tries again; inv stop --now stops the pod",
        )
