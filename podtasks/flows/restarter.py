"""Starting a watched training again: at once, or when a pod is to be had; and when to stop trying."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from podtasks.doors.clock import growing_pauses
from podtasks.flows.judge import Judge
from podtasks.flows.launch import PodHeldError
from podtasks.flows.launch_tries import LaunchTries, Tries
from podtasks.flows.own_pods import find_pod
from podtasks.flows.relaunch import Ground, relaunch
from podtasks.flows.train import NotNeededError
from podtasks.flows.watch_notes import WatchNotes
from podtasks.flows.watched import Watched, from_launched
from podtasks.pure.errors import (
    ApiUnreachableError,
    AuthenticationError,
    CapacityError,
    OvertakenError,
    PodFailedError,
    PodtasksError,
    PodTimeoutError,
    SshRefusedError,
    TransportError,
)
from podtasks.pure.pod import PodStatus
from podtasks.pure.recovery import Decision, Done, GiveUp, Relaunch, Wait, describe_use

FIRST_PAUSE_S = 10.0
LONGEST_PAUSE_S = 300.0
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


class Restarter:
    """Starts a training again.

    Attributes:
        run_ids: of the runs that were launched here.
    """

    def __init__(self, ground: Ground, judge: Judge, notes: WatchNotes) -> None:
        self._ground = ground
        self._clock = ground.clock
        self._judge = judge
        self._notes = notes
        self._tries = LaunchTries(ground.cloud, notes)
        self.run_ids: list[str] = []

    def restart(self, watched: Watched, decision: Relaunch) -> tuple[Watched, Decision]:
        """Start the training again, however long it takes until a pod is to be had."""
        clock, report = self._clock, self._ground.report
        pauses = growing_pauses(FIRST_PAUSE_S, 1.6, LONGEST_PAUSE_S)
        tell_at, refused_since = float("-inf"), float("inf")
        while True:
            try:
                return self._launch(watched, decision)
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
            if self._judge.is_called_off(watched):
                return watched, Done(None, "nobody wants it started again since inv stop")
            if self._judge.has_moved_on(watched):
                return replace(watched, pod=None), Wait("somebody else was faster")

    def try_once(self, watched: Watched, decision: Relaunch) -> tuple[Watched, Decision]:
        """Start the training again, if that comes about at once; else raise what was in the way.

        One failure too many is a GiveUp, also for every look after it: each try may cost a pod's start.
        """
        tries = self._tries.read(watched.run_id)
        given_up_before = tries.given_up
        if not given_up_before and tries.count >= POD_TRIES:
            given_up_before = f"{decision.reason}; the restart was broken off or failed {tries.count} times"
        if given_up_before:
            return watched, GiveUp(given_up_before, "inv watch, without --once, tries again", None, was_lost=True)
        try:
            return self._launch(watched, decision)
        except FASTER as error:
            watched, found = self._after_refusal(watched, error)
            return watched, Wait("the next look goes on from here") if isinstance(found, Relaunch) else found
        except PATIENT:
            raise
        except PodtasksError as error:
            given_up = self._count_failure(watched, decision, error)
            if given_up is None:
                raise
            return watched, given_up

    def _launch(self, watched: Watched, decision: Relaunch) -> tuple[Watched, Relaunch]:
        """Launch the training again; return the new run, and the decision with what the pod knew to be used so far."""
        ground = self._ground
        ground.report.step(f"{decision.reason}; starting it again")
        with self._counting(watched.run_id):
            launched = relaunch(ground, watched.run_id, watched.chain, still_beat=self._judge.still_beat)
        chain = launched.chain or decision.chain
        checkpoint = launched.run.checkpoint
        how = f"goes on from {checkpoint}" if checkpoint else "starts fresh: there is no whole checkpoint"
        ground.report.step(
            f"restart {chain.restarts} of at most {chain.max_restarts}: {decision.reason}; {describe_use(chain)}; "
            f"run {launched.run.run_id} {how}"
        )
        self.run_ids.append(launched.run.run_id)
        watched = from_launched(launched, chain, ground.wall())
        self._notes.note_record(watched.record)
        return watched, replace(decision, chain=chain)

    @contextlib.contextmanager
    def _counting(self, run_id: str) -> Iterator[None]:
        """Count a launch as failed beforehand, since whoever is killed in it counts nothing; take it back if it is not.

        One that found the run alive cost a pod's start for nothing, and counts.
        """
        before = self._tries.read(run_id)
        self._tries.note(run_id, replace(before, count=before.count + 1))
        try:
            yield
        except (*FASTER, *PATIENT, KeyboardInterrupt) as error:
            if not (isinstance(error, NotNeededError) and error.is_alive and error.record.get("run_id") == run_id):
                self._tries.note(run_id, before)
            raise

    def _after_refusal(self, watched: Watched, error: PodtasksError) -> tuple[Watched, Decision]:
        """Return what is to be done after a launch that was not needed, or that another one was faster than."""
        if isinstance(error, NotNeededError):
            if error.is_alive and self._tries.read(watched.run_id).count >= POD_TRIES:
                return watched, _lives_unseen(watched.run_id)
            return self._judge.turn_to(watched, error.record)
        self._ground.report.note(f"{error.what} Another watcher is at it.")
        return replace(watched, pod=None), Wait("another launch is under way")

    def _count_failure(self, watched: Watched, decision: Relaunch, error: PodtasksError) -> GiveUp | None:
        """Return the end of all tries after a launch that failed without a run on record, None while some are left."""
        failures = self._tries.read(watched.run_id).count
        is_pods = isinstance(error, POD_TROUBLE) and not isinstance(error, SshRefusedError)
        if failures < (POD_TRIES if is_pods else LAUNCH_TRIES):
            return None
        what = f"{decision.reason}; the restart failed {failures} times, at last so: {error.what}"
        self._tries.note(watched.run_id, Tries(failures, what))
        return GiveUp(what, error.next_step, None, was_lost=True)

    def _drop_pod(self) -> None:
        """Delete a stopped pod that did not come up, where nothing is lost with it: the next may get a better host."""
        cloud = self._ground.cloud
        with contextlib.suppress(PodtasksError):
            pod = find_pod(cloud, self._ground.settings.project)
            if pod is not None and pod.status is PodStatus.EXITED and pod.network_volume_id:
                cloud.api.terminate_pod(pod.id)
                self._ground.report.note(f"pod {pod.id} is deleted, so that the next one is on another machine")


def _lives_unseen(run_id: str) -> GiveUp:
    return GiveUp(
        f"run {run_id} lives by its heartbeat on the volume, though neither RunPod's API nor SSH shows its pod; "
        f"{POD_TRIES} pods were started in vain",
        "look for its pod in RunPod's console; with S3 keys in .runpod.env, inv watch sees the heartbeat itself",
        None,
        was_lost=True,
    )


def _is_refusal(error: PodtasksError) -> bool:
    return isinstance(error, AuthenticationError)
