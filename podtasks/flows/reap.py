"""Pods that are billed without a live run: found by asking each, and stopped after a second look."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from podtasks.doors.at_once import ask_at_once
from podtasks.doors.clock import Clock, WaitTimeoutError, growing_pauses, wait_until
from podtasks.doors.console import Reporter
from podtasks.doors.key_files import require_login_key
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import open_shell
from podtasks.flows.findings import Findings
from podtasks.flows.heartbeats import open_volume, read_beat
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.stopping import confirm_stopped
from podtasks.flows.stored_logs import VolumeReader
from podtasks.pure.errors import ApiError, ApiUnreachableError, PodtasksError, PodTimeoutError, SshRefusedError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.reap import Beat, Pulse, Sight, State, Verdict, Wish, age_s, choose_pods, compare, judge, needs_pulse

ASK_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 8.0
# What a pod that stops itself may take.
WATCH_S = 12.0
# The supervisor writes a heartbeat every 5 s, but a volume that takes a large checkpoint may hold one up for long, and
# SSH may be blocked where this runs: nothing else tells that the pod is alive.
SILENCE_S = 60.0


@dataclass(frozen=True)
class Reaper:
    """Looks at the billed pods of an account, and stops those that are wanted stopped.

    Args:
        project: whose pods.
        everything: the pods of all projects, and those that podtasks has not made, to be shown.
        now: the moment, seconds since 1970, by which RunPod's dates are counted.
    """

    cloud: Cloud
    project: str
    everything: bool
    report: Reporter
    clock: Clock
    now: float
    _volumes: dict[str, VolumeReader | None] = field(default_factory=dict)

    def look(self) -> list[Verdict]:
        """Return what each billed pod is doing; those in doubt are looked at twice: after `WATCH_S` or `SILENCE_S`.

        Raises SettingsError where this machine has no SSH key to ask with.
        """
        sights = self._ask(self._list_pods())
        doubtful = [sight for sight in sights if needs_pulse(sight) or judge(sight).state is State.STOPPING]
        seen = {sight.pod.id: sight for sight in self._watch(doubtful)} if doubtful else {}
        gone = {sight.pod.id for sight in doubtful} - set(seen)
        return [judge(seen.get(sight.pod.id, sight)) for sight in sights if sight.pod.id not in gone]

    def stop(self, verdicts: Sequence[Verdict], wish: Wish) -> list[str]:
        """Stop these pods, of helper pods: delete them, after one more look; return the ids of those that stopped.

        Raises what kept any from stopping, after all were tried.
        """
        findings = Findings()
        doomed = [verdict for verdict in self._look_again(verdicts) if self._is_still_wanted(verdict, wish)]
        ordered = [verdict for verdict in doomed if findings.check(functools.partial(self._order, verdict))]
        stopped = [v.pod.id for v in ordered if findings.check(functools.partial(self._confirm, v))]
        findings.raise_any()
        return stopped

    # Looking

    def _list_pods(self) -> list[Pod]:
        return choose_pods(self.cloud.api.list_pods(), self.project, everything=self.everything)

    def _ask(self, pods: Iterable[Pod]) -> list[Sight]:
        """Ask the guards of all pods at once."""
        blank = [Sight(pod, age_s(pod, self.now)) for pod in pods]
        asked = {sight.pod.id: functools.partial(self._ask_guard, sight) for sight in blank if sight.owner}
        if asked:
            require_login_key(self.cloud.key_path)
        answers = dict(ask_at_once(asked, ASK_TIMEOUT_S))
        return [self._read_answer(sight, answers.get(sight.pod.id)) for sight in blank]

    def _ask_guard(self, sight: Sight) -> Sight:
        with open_shell(self.cloud, sight.pod) as shell:
            guard = PodPrograms(shell, sight.pod).ask("status.py", {"lines": 0}).get("guard")
        if not isinstance(guard, dict) or "lease" not in guard:
            return replace(sight, silence="its guard does not answer")
        return replace(sight, guard=guard)

    @staticmethod
    def _read_answer(sight: Sight, answer: object) -> Sight:
        if isinstance(answer, Sight) or not sight.owner:
            return answer if isinstance(answer, Sight) else sight
        if isinstance(answer, SshRefusedError):
            return replace(sight, silence=answer.what, is_refused=True)
        if isinstance(answer, PodtasksError):
            return replace(sight, silence=answer.what)
        if isinstance(answer, Exception):
            # Whatever keeps this machine from asking, a host key that cannot be read, say, is no silence of the pod.
            return replace(sight, silence=f"{type(answer).__name__}: {answer}", is_refused=True)
        return replace(sight, silence=f"nothing came within {ASK_TIMEOUT_S:.0f} s")

    def _watch(self, sights: Sequence[Sight]) -> list[Sight]:
        """Return what a second look shows at those pods that are still billed."""
        first = [replace(sight, beat=beat) for sight, beat in self._read_beats(sights)]
        # A pod without an answer whose heartbeat cannot be read tells no more later than now.
        awaited = [sight for sight in first if sight.beat is not None or sight.guard is not None]
        wait_s = SILENCE_S if any(sight.guard is None for sight in awaited) else WATCH_S
        self.report.step(f"a second look at {', '.join(s.pod.id for s in sights)}, within {wait_s:.0f} s")

        def all_beat() -> bool:
            return all(sight.pulse is Pulse.BEATS for sight in self._compare(awaited))

        with contextlib.suppress(WaitTimeoutError):
            pauses = growing_pauses(3.0, 1.0, 3.0)
            wait_until(all_beat, bool, timeout_s=wait_s, pauses=pauses, clock=self.clock)
        return self._see_again(self._compare(first))

    def _look_again(self, verdicts: Sequence[Verdict]) -> list[Verdict]:
        """Return what those pods are doing now that are still billed: since the table, time has gone by."""
        return [judge(sight) for sight in self._see_again(self._compare([v.sight for v in verdicts]))]

    def _see_again(self, sights: Sequence[Sight]) -> list[Sight]:
        """Ask the pods once more that the API still shows as billed; what their heartbeats said is kept."""
        before = {sight.pod.id: sight for sight in sights}
        there = [pod for pod in self._list_pods() if pod.id in before]
        for pod_id in sorted(set(before) - {pod.id for pod in there}):
            self.report.note(f"pod {pod_id} has stopped by itself meanwhile")
        return [
            replace(sight, beat=before[sight.pod.id].beat, pulse=before[sight.pod.id].pulse, is_seen_again=True)
            for sight in self._ask(there)
        ]

    def _compare(self, sights: Sequence[Sight]) -> list[Sight]:
        """Return the sights with their heartbeats read anew, where they had been read, and compared."""
        return [
            replace(sight, beat=beat, pulse=compare(sight.beat, beat)) if sight.beat else sight
            for sight, beat in self._read_beats(sights)
        ]

    def _read_beats(self, sights: Sequence[Sight]) -> list[tuple[Sight, Beat | None]]:
        """Return each pod with a reading of its heartbeat, None where there is no way to it, or no need."""
        questions = {s.pod.id: functools.partial(self._read_beat, s.pod) for s in sights if needs_pulse(s)}
        found = dict(ask_at_once(questions, READ_TIMEOUT_S))
        beats = {pod_id: beat if isinstance(beat, Beat) else None for pod_id, beat in found.items()}
        return [(sight, beats.get(sight.pod.id)) for sight in sights]

    def _read_beat(self, pod: Pod) -> Beat | None:
        if pod.network_volume_id not in self._volumes:
            self._volumes[pod.network_volume_id] = open_volume(self.cloud, pod)
        volume = self._volumes[pod.network_volume_id]
        return None if volume is None else read_beat(volume, pod.id)

    # Stopping

    def _is_still_wanted(self, verdict: Verdict, wish: Wish) -> bool:
        if wish.covers(verdict):
            return True
        self.report.note(f"pod {verdict.pod.id} is left: {verdict.why}")
        return False

    def _order(self, verdict: Verdict) -> bool:
        """Give the order to stop or delete a pod; one that somebody else has stopped may refuse it."""
        pod, api = verdict.pod, self.cloud.api
        try:
            (api.terminate_pod if verdict.sight.is_helper else api.stop_pod)(pod.id)
        except ApiUnreachableError:
            raise
        except ApiError:
            reading = api.find_pod(pod.id)
            if reading is not None and reading.status is PodStatus.RUNNING:
                raise
        return True

    def _confirm(self, verdict: Verdict) -> bool:
        """Wait until a pod reads as stopped. Raises PodTimeoutError."""
        pod = verdict.pod
        if not confirm_stopped(self.cloud, pod, self.clock):
            raise PodTimeoutError(
                f"RunPod took the order to stop pod {pod.id}, but it still reads as running.",
                means=f"It may be billed at ${pod.usd_per_hour:.2f}/h.",
                next_step="inv reap again in a minute; if it still runs, stop it in RunPod's console",
            )
        ended = "deleted; nothing of it" if verdict.sight.is_helper else "stopped: no GPU of it"
        self.report.step(f"pod {pod.id} is {ended} is billed any more")
        return True
