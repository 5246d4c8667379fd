"""Keeping a training going until it is done: follow its run, judge its end, start it again, within its bounds.

All that a watcher must know it reads from the API and the volume, so it may be killed at any time, and several may
watch the same training: the pod's guard takes one launch at a time, and a launch after a run that is not the newest
any more is refused there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from podtasks.flows.follow import LogView, Outcome
from podtasks.flows.judge import Judge
from podtasks.flows.launched import Launched
from podtasks.flows.left_behind import see_pod_end
from podtasks.flows.relaunch import Ground
from podtasks.flows.rest_of_log import show_rest
from podtasks.flows.restarter import Restarter
from podtasks.flows.sight import LOOK_S
from podtasks.flows.train import make_view, note_end
from podtasks.flows.watch_notes import WatchNotes
from podtasks.flows.watched import Watched, from_launched
from podtasks.pure.chain import Chain
from podtasks.pure.errors import OutcomeUnknownError, PodtasksError
from podtasks.pure.recovery import Decision, Done, GiveUp, Relaunch, Wait
from podtasks.pure.run import Run

# Before a log is followed anew.
FOLLOW_PAUSE_S = 2.0
# A view that cannot be made again for so long lets others look whether the run lives.
RECONNECT_PATIENCE_S = 60.0
# Between two looks at a run that lives but cannot be followed.
UNFOLLOWED_PAUSE_S = 10.0


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
        self._restarter = Restarter(ground, self._judge, self._notes)

    def take(self, launched: Launched, chain: Chain) -> Watched:
        """Return a run that was just launched here as one to watch."""
        watched = from_launched(launched, chain, self._ground.wall())
        self._notes.note_record(watched.record)
        return watched

    @property
    def restarts(self) -> list[str]:
        """The ids of the runs that were launched here."""
        return self._restarter.run_ids

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
                watched, decision = self._restarter.restart(watched, decision)
                outcome = None
            if isinstance(decision, Wait) and outcome is None:
                self._clock.sleep(FOLLOW_PAUSE_S)
            if isinstance(decision, Done | GiveUp):
                if outcome is None:
                    self._show_rest(watched)
                self._tell_end(watched, decision)
                if watched.pod is None:  # else whoever shows the end sees to it
                    self._see_pod_end(watched)
                return Finish(watched, decision, outcome)

    def act_once(self, watched: Watched, timeout_s: float = LOOK_S) -> tuple[Watched, Decision]:
        """Look once and act on it; return what is watched now and what was done, a Relaunch for a restart.

        Raises what a launch raises that did not come about.
        """
        watched, decision = self._judge.judge_sight(watched, timeout_s)
        if isinstance(decision, Relaunch):
            watched, decision = self._restarter.try_once(watched, decision)
        if isinstance(decision, Done | GiveUp):
            self._tell_end(watched, decision)
            self._see_pod_end(watched)
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
        if isinstance(decision, Done | GiveUp):
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

    def _show_rest(self, watched: Watched) -> None:
        """Show what the stream of this run's log still owes, its end being known from elsewhere."""
        if self._view is not None and self._view[0].run_id == watched.run_id:
            ground, next_byte = self._ground, self._view[1].next_byte
            show_rest(ground.cloud, watched.record, next_byte, self._show, ground.report)

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

    # The end

    def _see_pod_end(self, watched: Watched) -> None:
        """Stop the pod of a run that is over where it does not come to stop itself."""
        if watched.pod_id:
            ground, when_done = self._ground, str(watched.record.get("when_done") or "stop")
            see_pod_end(ground.cloud, watched.pod_id, when_done, ground.report, ground.clock)

    def _tell_end(self, watched: Watched, decision: Done | GiveUp) -> None:
        """Tell whoever is to be notified of an end that nothing on a pod told of, once as far as is known here."""
        if not isinstance(decision, GiveUp) or self._notes.given_up(watched.run_id):
            return
        self._notes.note_given_up(watched.run_id, decision.reason)
        if decision.was_lost:
            self._on_give_up(watched, decision)
