"""What a watched run's end, or silence, means: looking closely enough, and deciding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from podtasks.flows.end_marks import USER, tell_end, was_called_off
from podtasks.flows.follow import Outcome
from podtasks.flows.relaunch import Ground
from podtasks.flows.sight import LOOK_S, STUCK_LOOKS, STUCK_S, Lookout, Sight
from podtasks.flows.stopping import stop_quietly
from podtasks.flows.watch_notes import WatchNotes
from podtasks.flows.watched import Watched, from_record
from podtasks.pure.chain import Chain
from podtasks.pure.errors import PodtasksError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.reasons import describe_reason
from podtasks.pure.recovery import Decision, Done, Relaunch, Wait, decide
from podtasks.pure.run_costs import ended_at
from podtasks.pure.run_facts import Ending, RunFacts, classify, read_facts, with_outcome
from podtasks.pure.signs import Life, prolong_silence

# A run's record follows its log's end within moments, and says more than the log does.
RECORD_PATIENCE_S = 8.0


class Judge:
    """Decides what is to be done about the newest run.

    Args:
        bounds: of a run that has no chain; None: such a run is nobody's to keep going.
    """

    def __init__(self, ground: Ground, notes: WatchNotes, bounds: Chain | None) -> None:
        self._ground = ground
        self._notes = notes
        self._bounds = bounds
        self._lookouts: dict[str, Lookout] = {}
        # The heartbeat of the run as it stood still at the last look, None where that could not be read.
        self.still_beat: bytes | None = None

    def judge_end(self, watched: Watched, outcome: Outcome) -> tuple[Watched, Decision]:
        """Decide about an end that the log stream told."""
        facts = with_outcome(self._facts(watched), outcome.exit_code, outcome.reason)
        if classify(facts) in (Ending.FINISHED, Ending.BY_A_PERSON):
            return watched, self._decide(watched, facts, Life.LOST)
        record = self._lookout(watched).read_end(RECORD_PATIENCE_S)
        if record is not None and record.get("run_id") != watched.run_id:
            return self.turn_to(watched, record)
        if record is not None and ended_at(record) is not None:
            watched = replace(watched, record=record)
            return watched, self._decide(watched, self._facts(watched), Life.LOST)
        return watched, self._decide(watched, facts, Life.LOST)

    def judge_sight(self, watched: Watched, timeout_s: float = LOOK_S) -> tuple[Watched, Decision]:
        """Look at the run, `timeout_s` seconds at most, and decide.

        A pod that runs by the API's word, but has been silent for too long, is stopped and looked at again.
        """
        lookout = self._lookout(watched)
        if ended_at(watched.record) is not None:
            return self._judge_ended(watched, lookout.read_end(0.0))
        sight = lookout.look(timeout_s)
        if sight.pod is not None and self._is_stuck(watched, sight):
            self._stop_stuck(sight.pod)
            sight = lookout.look(timeout_s)
        if sight.record is not None and sight.record.get("run_id") != watched.run_id:
            return self.turn_to(watched, sight.record)
        self.still_beat = sight.heartbeat if sight.silence_was_read else None
        watched = self._update(watched, sight)
        return watched, self._decide(watched, self._facts(watched, sight.heartbeat), sight.life)

    def _judge_ended(self, watched: Watched, newest: Mapping[str, Any] | None) -> tuple[Watched, Decision]:
        """Decide about a run with an end on record, unless another one came after it."""
        if newest is not None and newest.get("run_id") != watched.run_id:
            return self.turn_to(watched, newest)
        return watched, self._decide(watched, self._facts(watched), Life.LOST)

    def has_moved_on(self, watched: Watched) -> bool:
        """Return whether the volume, where it can be read, tells of another run, or of an end, that is news."""
        record = self._lookout(watched).read_end(0.0)
        if record is None:
            return False
        return record.get("run_id") != watched.run_id or ended_at(record) != ended_at(watched.record)

    def turn_to(self, watched: Watched, record: Mapping[str, Any]) -> tuple[Watched, Decision]:
        """Turn to another run than the one that was watched, or to the true record of the same one, and decide."""
        # The chain of a run that was not launched to be kept going is known here only, and is no other run's.
        bounds = watched.chain if record.get("run_id") == watched.run_id else self._bounds
        newer = from_record(record, bounds, self._find_pod(record))
        if newer is None:
            return watched, Done(None, f"run {record.get('run_id')} came after it, which nobody asked to keep going")
        if newer.run_id != watched.run_id:
            self._ground.report.step(f"run {newer.run_id} came after run {watched.run_id}; watching that one")
        self._notes.note_record(record)
        if ended_at(record) is None:
            return newer, Wait("it was launched by somebody else")
        return newer, self._decide(newer, self._facts(newer), Life.LOST)

    def know_pod(self, watched: Watched, pod: Pod) -> None:
        """Tell which address the run's pod answered at last."""
        self._lookout(watched).know_pod(pod)

    def _lookout(self, watched: Watched) -> Lookout:
        if watched.run_id not in self._lookouts:
            ground = self._ground
            lookout = Lookout(ground.cloud, ground.settings.project, ground.clock, watched.run_id, watched.pod_id)
            self._lookouts = {watched.run_id: lookout}
        if watched.pod is not None:
            self._lookouts[watched.run_id].know_pod(watched.pod)
        return self._lookouts[watched.run_id]

    def _update(self, watched: Watched, sight: Sight) -> Watched:
        """Return the run with what was seen of it."""
        pod = sight.pod if sight.pod is not None and sight.pod.status is PodStatus.RUNNING else None
        if sight.record is None:
            return replace(watched, pod=pod)
        self._notes.note_record(sight.record)
        known = from_record(sight.record, watched.chain, pod)
        assert known is not None
        # The chain of a run that was not launched to be kept going is known here only.
        return replace(known, chain=watched.chain, run=known.run or watched.run, launched=watched.launched)

    def is_called_off(self, watched: Watched) -> bool:
        """Return whether the user has said on this machine that nothing is to go on after this run."""
        return was_called_off(self._ground.files, self._ground.cloud.name, watched.record)

    def _decide(self, watched: Watched, facts: RunFacts, life: Life) -> Decision:
        decision = decide(facts, life)
        if isinstance(decision, Relaunch) and self.is_called_off(watched):
            return Done(facts.exit_code, describe_reason(USER))
        return decision

    def _facts(self, watched: Watched, heartbeat: bytes | None = None) -> RunFacts:
        record = tell_end(self._ground.files, watched.record)
        return read_facts(record, watched.chain, self._ground.wall(), heartbeat=heartbeat)

    def _find_pod(self, record: Mapping[str, Any]) -> Pod | None:
        """Return a run's pod if the API says that it runs."""
        pod_id = str((record.get("pod") or {}).get("id") or "")
        try:
            pod = self._ground.cloud.api.find_pod(pod_id) if pod_id and ended_at(record) is None else None
        except PodtasksError:
            return None
        return pod if pod is not None and pod.status is PodStatus.RUNNING else None

    def _is_stuck(self, watched: Watched, sight: Sight) -> bool:
        """Return whether the run's pod, running by the API, has been silent for so long that it is to be stopped."""
        if sight.life is not Life.UNCLEAR or sight.silent_s <= 0 or sight.heartbeat is None:
            self._notes.note_silence(watched.run_id, None)
            return False
        now = self._ground.wall()
        before = self._notes.read_silence(watched.run_id)
        silence = prolong_silence(before, now, sight.silent_s, sight.heartbeat)
        self._notes.note_silence(watched.run_id, silence)
        # By the number of looks as well: a clock that jumps, as after a sleep, makes none of them.
        return now - silence.since >= STUCK_S and silence.looks >= STUCK_LOOKS

    def _stop_stuck(self, pod: Pod) -> None:
        self._ground.report.note(
            f"pod {pod.id} runs by RunPod's word, but heartbeat and SSH have been silent for {STUCK_S / 60:.0f} min: "
            "it is stopped, and the training started again"
        )
        stop_quietly(self._ground.cloud, pod, self._ground.report)
