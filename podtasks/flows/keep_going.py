"""Keeping a training going until it is done: follow its run, judge its end, start it again, within its bounds.

All that a watcher must know it reads from the API and the volume, so it may be killed at any time, and several may
watch the same training: the pod's guard takes one launch at a time, and a launch after a run that is not the newest
any more is refused there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from podtasks.doors.clock import growing_pauses
from podtasks.flows.follow import LogView, Outcome
from podtasks.flows.judge import Judge
from podtasks.flows.launch import PodHeldError
from podtasks.flows.launched import Launched
from podtasks.flows.own_pods import find_pod
from podtasks.flows.relaunch import Ground, relaunch
from podtasks.flows.sight import LOOK_S
from podtasks.flows.train import NotNeededError, make_view, note_end
from podtasks.flows.watch_notes import WatchNotes
from podtasks.flows.watched import Watched, from_launched
from podtasks.pure.chain import Chain
from podtasks.pure.errors import (
    ApiUnreachableError,
    AuthenticationError,
    CapacityError,
    OutcomeUnknownError,
    OvertakenError,
    PodFailedError,
    PodtasksError,
    PodTimeoutError,
    SshRefusedError,
    TransportError,
)
from podtasks.pure.pod import PodStatus
from podtasks.pure.recovery import Decision, Done, GiveUp, Relaunch, Wait, describe_use
from podtasks.pure.run import Run

FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 300.0
# Before a log is followed anew.
FOLLOW_PAUSE_S = 2.0
# A view that cannot be made again for so long lets others look whether the run lives.
RECONNECT_PATIENCE_S = 60.0
# Between two looks at a run that lives but cannot be followed.
UNFOLLOWED_PAUSE_S = 10.0
# What is waited for is told once, and then this seldom.
TELL_AGAIN_S = 1800.0
# Launches that fail one after the other and leave no run: of a pod that does not come up, of anything else.
POD_TRIES = 3
LAUNCH_TRIES = 2
# An API key that is refused for so long is no slip of RunPod's.
REFUSED_PATIENCE_S = 600.0
FASTER = (NotNeededError, OvertakenError, PodHeldError)
PATIENT = (CapacityError, ApiUnreachableError, AuthenticationError)
POD_TROUBLE = (PodTimeoutError, PodFailedError, TransportError)


@dataclass(frozen=True)
class Finish:
    """How a training that was kept going ended: its last run, the decision, and what the log stream told of the end."""

    watched: Watched
    decision: Done | GiveUp
    outcome: Outcome | None


class Keeper:
    """Keeps one training going.

    Args:
        bounds: for a run that has no chain of its own; None: such a run is left alone.
        show: takes the log's bytes.
        on_give_up: hears of an end that nobody on a pod could tell of.
    """

    def __init__(
        self,
        ground: Ground,
        bounds: Chain | None,
        show: Callable[[bytes], None],
        on_give_up: Callable[[Watched, GiveUp], None],
    ) -> None:
        self._ground = ground
        self._clock = ground.clock
        self._show = show
        self._on_give_up = on_give_up
        self._notes = WatchNotes(ground.files, ground.cloud.name)
        self._judge = Judge(ground, self._notes, bounds)
        self._view: tuple[Run, LogView] | None = None
        self._noted = ""
        self.restarts: list[str] = []

    def take(self, launched: Launched, chain: Chain) -> Watched:
        """Return a run that was just launched here as one to watch."""
        watched = from_launched(launched, chain, self._ground.wall())
        self._notes.note_record(watched.record)
        return watched

    def keep(self, watched: Watched) -> Finish:
        """Stay with the training until it is done or given up, and return how that came."""
        while True:
            outcome = self._follow(watched)
            if outcome is None:
                watched, decision = self._wait_for_sight(watched)
            else:
                watched, decision = self._judge.judge_end(watched, outcome)
                self._note_end(watched, decision, outcome)
            if isinstance(decision, Relaunch):
                watched, decision = self._restart(watched, decision)
            if isinstance(decision, Wait) and outcome is None:
                self._clock.sleep(FOLLOW_PAUSE_S)
            if isinstance(decision, Done | GiveUp):
                self._tell_end(watched, decision)
                return Finish(watched, decision, outcome)

    def act_once(self, watched: Watched, timeout_s: float = LOOK_S) -> tuple[Watched, Decision]:
        """Look once and act on it; return what is watched now and what was done, a Relaunch for a restart.

        Raises what a launch raises that did not come about.
        """
        watched, decision = self._judge.judge_sight(watched, timeout_s)
        if isinstance(decision, Relaunch):
            try:
                watched = self._restart_once(watched, decision)
            except FASTER as error:
                watched, decision = self._after_refusal(watched, error)
            except PATIENT:
                raise
            except PodtasksError as error:
                given_up = self._count_failure(watched, decision, error)
                if given_up is None:
                    raise
                decision = given_up
        if isinstance(decision, Done | GiveUp):
            self._tell_end(watched, decision)
        return watched, decision

    # Following

    def _follow(self, watched: Watched) -> Outcome | None:
        """Show the run's log to its end; None where there is no pod to follow it on, or the end was not seen."""
        if not watched.can_be_followed:
            return None
        ground, view = self._ground, self._find_view(watched)
        try:
            outcome = view.follow()
        except OutcomeUnknownError as error:
            self._note_once(f"{error.what} Looking closer before anything is done.")
        except PodtasksError as error:
            self._note_once(f"{error.what} The log cannot be followed now.")
        else:
            assert watched.run is not None
            note_end(ground.files, watched.run, outcome, ground.report)
            return outcome
        self._judge.know_pod(watched, view.pod)
        return None

    def _note_once(self, text: str) -> None:
        """Say why the log cannot be followed, but not the same again and again."""
        if text != self._noted:
            self._ground.report.note(text)
            self._noted = text

    def _note_end(self, watched: Watched, decision: Decision, outcome: Outcome) -> None:
        """Remember an end that only the log stream told: without S3, nothing else may tell of it later."""
        if isinstance(decision, Done):
            end = {"ended_at": self._ground.wall(), "exit_code": outcome.exit_code, "reason": outcome.reason}
            self._notes.note_record({**watched.record, **end})

    def _find_view(self, watched: Watched) -> LogView:
        """Return the view of this run's log, which goes on with the byte after the last one that was shown.

        That may be one of the run before, whose pod went away before its last lines came.
        """
        if self._view is None or self._view[0].run_id != watched.run_id:
            assert watched.run is not None and watched.pod is not None
            launched = watched.launched or Launched(watched.pod, watched.run)
            is_same_log = self._view is not None and self._view[0].log == watched.run.log
            first_byte = self._view[1].next_byte if self._view is not None and is_same_log else None
            ground = self._ground
            view = make_view(
                launched,
                ground.cloud,
                ground.files,
                self._show,
                ground.report,
                ground.clock,
                first_byte=first_byte,
                patience_s=RECONNECT_PATIENCE_S,
            )
            self._view = (watched.run, view)
        return self._view[1]

    def _wait_for_sight(self, watched: Watched) -> tuple[Watched, Decision]:
        """Look until it is clear what is to be done, or the run can be followed again."""
        told = False
        while True:
            watched, decision = self._judge.judge_sight(watched)
            if not isinstance(decision, Wait) or watched.can_be_followed:
                return watched, decision
            if not told:
                self._ground.report.note(f"run {watched.run_id}: {decision.reason}; looking again until it is clear")
                told = True
            self._clock.sleep(UNFOLLOWED_PAUSE_S)

    # Starting again

    def _restart(self, watched: Watched, decision: Relaunch) -> tuple[Watched, Decision]:
        """Start the training again, however long it takes until a pod is to be had."""
        clock, report = self._clock, self._ground.report
        pauses = growing_pauses(FIRST_PAUSE_S, 1.6, LONGEST_PAUSE_S)
        tell_at, refused_since = float("-inf"), float("inf")
        while True:
            try:
                return self._restart_once(watched, decision), decision
            except FASTER as error:
                return self._after_refusal(watched, error)
            except PATIENT as error:
                refused_since = min(refused_since, clock.now()) if _is_refusal(error) else float("inf")
                if clock.now() - refused_since > REFUSED_PATIENCE_S:
                    raise
                if clock.now() >= tell_at:
                    report.note(f"{error.what} Trying again, at most every {LONGEST_PAUSE_S / 60:.0f} min.")
                    tell_at = clock.now() + TELL_AGAIN_S
            except PodtasksError as error:
                given_up = self._count_failure(watched, decision, error)
                if given_up is not None:
                    return watched, given_up
                report.note(f"the restart failed: {error.what} Trying again.")
                if isinstance(error, PodTimeoutError):
                    self._drop_pod()
            clock.sleep(next(pauses))
            if self._judge.has_moved_on(watched):
                return replace(watched, pod=None), Wait("somebody else was faster")

    def _restart_once(self, watched: Watched, decision: Relaunch) -> Watched:
        ground = self._ground
        ground.report.step(f"{decision.reason}; starting it again")
        launched = relaunch(
            ground, watched.run_id, watched.chain, silence_was_read=self._judge.silence_was_read
        )
        chain = launched.chain or decision.chain
        checkpoint = launched.run.checkpoint
        how = f"goes on from {checkpoint}" if checkpoint else "starts fresh: there is no whole checkpoint"
        ground.report.step(
            f"restart {chain.restarts} of at most {chain.max_restarts}: {decision.reason}; {describe_use(chain)}; "
            f"run {launched.run.run_id} {how}"
        )
        self.restarts.append(launched.run.run_id)
        return self.take(launched, chain)

    def _after_refusal(self, watched: Watched, error: PodtasksError) -> tuple[Watched, Decision]:
        """Return what is to be done after a launch that was not needed, or that another one was faster than."""
        if isinstance(error, NotNeededError):
            return self._judge.turn_to(watched, error.record)
        self._ground.report.note(f"{error.what} Another watcher is at it.")
        return replace(watched, pod=None), Wait("another launch is under way")

    def _count_failure(self, watched: Watched, decision: Relaunch, error: PodtasksError) -> GiveUp | None:
        """Count a launch that failed without a run on record; return the end of all tries, None while some are left."""
        failures = self._notes.failed_launches(watched.run_id) + 1
        self._notes.note_failed_launches(watched.run_id, failures)
        is_pods = isinstance(error, POD_TROUBLE) and not isinstance(error, SshRefusedError)
        if failures < (POD_TRIES if is_pods else LAUNCH_TRIES):
            return None
        what = f"{decision.reason}; the restart failed {failures} times, at last so: {error.what}"
        return GiveUp(what, error.next_step, None, was_lost=True)

    def _drop_pod(self) -> None:
        """Delete a stopped pod that did not come up, where nothing is lost with it: the next may get a better host."""
        cloud = self._ground.cloud
        with contextlib.suppress(PodtasksError):
            pod = find_pod(cloud, self._ground.settings.project)
            if pod is not None and pod.status is PodStatus.EXITED and pod.network_volume_id:
                cloud.api.terminate_pod(pod.id)
                self._ground.report.note(f"pod {pod.id} is deleted, so that the next one is on another machine")

    def _tell_end(self, watched: Watched, decision: Done | GiveUp) -> None:
        """Tell whoever is to be notified of an end that nothing on a pod told of, once as far as is known here."""
        if not isinstance(decision, GiveUp) or not decision.was_lost or self._notes.was_told(watched.run_id):
            return
        self._notes.note_told(watched.run_id)
        self._on_give_up(watched, decision)


def _is_refusal(error: PodtasksError) -> bool:
    return isinstance(error, AuthenticationError)
