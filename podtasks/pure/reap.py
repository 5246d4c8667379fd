"""Which pods are billed without a live run, and how that is known: the decisions of `inv reap`, and their words.

No pod counts as idle on one signal alone. RunPod says that it is billed; its guard says that nothing is on it, or
where it cannot be asked, the heartbeat of its run on the volume stands still between two readings.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from podtasks.pure.budget import amount, limit_s
from podtasks.pure.moments import parse_change_date
from podtasks.pure.pod import Pod, PodStatus

DEFAULT_GRACE_MINUTES = 15.0
# What a pod may take beyond its grace time until it answers: pulling a large image is not among it.
BOOT_MARGIN_S = 300.0


class State(enum.Enum):
    """What a billed pod is doing."""

    RUNNING = "running"
    LAUNCHING = "launching"
    HELD = "held"
    KEPT = "kept"
    GRACE = "grace"
    STOPPING = "stopping"
    BOOTING = "booting"
    SILENT = "silent"
    IDLE = "idle"
    STRANGER = "stranger"


class Pulse(enum.Enum):
    """What two readings of a run's heartbeat on the volume say."""

    UNKNOWN = "unknown"
    BEATS = "beats"
    STILL = "still"


@dataclass(frozen=True)
class Beat:
    """One reading of the heartbeat of a pod's newest run on its volume.

    Args:
        run_id: "" where the volume has no run of this pod.
        data: the heartbeat file, None where there is none.
        is_kept: whether the run has ended and its pod may have been kept for that.
    """

    run_id: str
    data: bytes | None
    is_kept: bool = False


@dataclass(frozen=True)
class Sight:
    """What was found out about one billed pod.

    Args:
        up_s: how long it runs, by RunPod's word; None where that does not say.
        guard: what its guard tells, None where it could not be asked.
        silence: why it could not.
        is_refused: it may well answer, but not whoever has this key.
        beat: the last reading of its heartbeat, None where there is no way to it.
        pulse: what that and the reading before it say.
        is_seen_again: this is the second look at it.
    """

    pod: Pod
    up_s: float | None
    guard: Mapping[str, Any] | None = None
    silence: str = ""
    is_refused: bool = False
    beat: Beat | None = None
    pulse: Pulse = Pulse.UNKNOWN
    is_seen_again: bool = False

    @property
    def owner(self) -> str:
        """The project that the pod is of, "" for a pod that podtasks has not made."""
        return self.pod.project or self.pod.helper_of

    @property
    def is_helper(self) -> bool:
        """Whether the pod only copies files, so that it is deleted, not stopped."""
        return bool(self.pod.helper_of)


@dataclass(frozen=True)
class Verdict:
    """What a pod is doing, in a word and in a sentence; `ends_in_s` is when it ends by itself, where that is known."""

    sight: Sight
    state: State
    why: str
    run_id: str | None = None
    ends_in_s: float | None = None

    @property
    def pod(self) -> Pod:
        """The pod."""
        return self.sight.pod


@dataclass(frozen=True)
class Wish:
    """Which pods the user wants stopped beyond the idle ones.

    Args:
        now: also those that end by themselves: within their grace time, or kept.
        silent: also those that do not answer, of which nothing else is known.
    """

    now: bool = False
    silent: bool = False

    def covers(self, verdict: Verdict) -> bool:
        """Return whether this pod is to be stopped."""
        states = {State.IDLE} | ({State.KEPT, State.GRACE} if self.now else set())
        return verdict.state in states | ({State.SILENT} if self.silent else set())


def choose_pods(pods: Sequence[Pod], project: str, *, everything: bool) -> list[Pod]:
    """Return the billed pods to look at: the project's own, or with `everything` all of the account, its own first."""
    billed = [pod for pod in pods if pod.status is PodStatus.RUNNING]
    ours = [pod for pod in billed if everything or project in (pod.project, pod.helper_of)]
    return sorted(ours, key=lambda pod: (project not in (pod.project, pod.helper_of), not _owner(pod), pod.id))


def _owner(pod: Pod) -> str:
    return pod.project or pod.helper_of


def age_s(pod: Pod, now: float) -> float | None:
    """Return how long a pod has been up at `now` (seconds since 1970), None where RunPod does not say."""
    began = parse_change_date(pod.status_change)
    return None if began is None else max(0.0, now - began)


def needs_pulse(sight: Sight) -> bool:
    """Return whether only the heartbeat on its volume can tell of this pod."""
    return judge(sight).state in (State.SILENT, State.IDLE) and sight.guard is None and _may_have_run(sight)


def _may_have_run(sight: Sight) -> bool:
    return not (sight.is_helper or sight.is_refused or sight.up_s is None) and bool(sight.pod.network_volume_id)


def compare(before: Beat | None, after: Beat | None) -> Pulse:
    """Return what two readings say, of which both must have been possible."""
    if before is None or after is None:
        return Pulse.UNKNOWN
    return Pulse.STILL if before == after else Pulse.BEATS


def judge(sight: Sight) -> Verdict:
    """Return what a pod is doing."""
    if not sight.owner:
        return Verdict(sight, State.STRANGER, "not made by podtasks: RunPod's console stops it, under Pods")
    if sight.guard is not None:
        return _judge_guarded(sight, sight.guard)
    return _judge_silent(sight)


def _judge_guarded(sight: Sight, guard: Mapping[str, Any]) -> Verdict:
    lease = guard.get("lease")
    if lease is not None:
        return _judge_leased(sight, lease if isinstance(lease, Mapping) else {}, guard)
    holders = guard.get("holders") or []
    if guard.get("holds"):
        who = ", ".join(str(name) for name in holders if name) if isinstance(holders, list) else ""
        return Verdict(sight, State.HELD, f"in use: {who or 'inv ssh or a transfer'}")
    if guard.get("stopping"):
        return _judge_stopping(sight, str(guard["stopping"]))
    return _judge_waiting(sight, guard)


def _judge_leased(sight: Sight, lease: Mapping[str, Any], guard: Mapping[str, Any]) -> Verdict:
    run_id = str(lease.get("run_id") or "") or None
    if lease.get("kind") == "run":
        ending = f", which is ending ({lease['ending']})" if lease.get("ending") else ""
        return Verdict(sight, State.RUNNING, f"run {run_id}{ending}", run_id, limit_s(sight.pod.usd_per_hour, guard))
    return Verdict(sight, State.LAUNCHING, f"a launch is under way ({lease.get('who') or 'unnamed'})", run_id)


def _judge_stopping(sight: Sight, reason: str) -> Verdict:
    if sight.is_seen_again:
        return Verdict(sight, State.IDLE, f"it is to stop ({reason}) and does not get there")
    return Verdict(sight, State.STOPPING, f"it stops itself: {reason}", ends_in_s=0.0)


def _judge_waiting(sight: Sight, guard: Mapping[str, Any]) -> Verdict:
    """Return the verdict on a pod that nobody uses, by what would end it."""
    last_run = str(guard.get("last_run_id") or "") or None
    kept_s, grace_s = amount(guard, "kept_left_s"), amount(guard, "grace_left_s")
    left_s = limit_s(sight.pod.usd_per_hour, guard)
    if kept_s is not None:
        ends_s = min(kept_s, left_s) if left_s is not None else kept_s
        return Verdict(sight, State.KEPT, f"kept for a look after run {last_run} failed", last_run, ends_s)
    if grace_s is not None:
        end = "deletes" if sight.is_helper else "stops"
        return Verdict(sight, State.GRACE, f"no run on it; {end} itself when its grace time is over", None, grace_s)
    if left_s is not None:
        return Verdict(sight, State.KEPT, f"kept after run {last_run} (when_done: keep)", last_run, left_s)
    return Verdict(sight, State.IDLE, "nothing runs on it, and its guard would not stop it", last_run)


def _judge_silent(sight: Sight) -> Verdict:
    silence = f"no answer: {sight.silence.rstrip('.')}"
    grace_s = grace_minutes(sight.pod) * 60
    if sight.up_s is not None and sight.up_s < grace_s + BOOT_MARGIN_S:
        return Verdict(sight, State.BOOTING, f"still booting, maybe; {silence}")
    if not _may_have_run(sight) or sight.beat is None or sight.pulse is Pulse.UNKNOWN:
        return Verdict(sight, State.SILENT, f"{silence}; {_explain_doubt(sight)}")
    run_id = sight.beat.run_id or None
    if sight.pulse is Pulse.BEATS:
        return Verdict(sight, State.RUNNING, f"its run's heartbeat goes on; {silence}", run_id)
    if sight.beat.is_kept:
        return Verdict(sight, State.SILENT, f"{silence}; run {run_id} has ended, its pod may be kept for that", run_id)
    beat = f"the heartbeat of run {run_id} stands still" if run_id else "its volume has no run of it"
    return Verdict(sight, State.IDLE, f"{silence}; {beat}", run_id)


def _explain_doubt(sight: Sight) -> str:
    """Return why nothing more is known of a pod that does not answer."""
    if sight.is_refused:
        return "it may be busy"
    if sight.is_helper:
        return "it may be copying files"
    if sight.up_s is None:
        return "since when it runs is not known"
    if not sight.pod.network_volume_id:
        return "it has no network volume to look for its heartbeat on"
    return "its heartbeat cannot be read (no S3 API or keys)"


def grace_minutes(pod: Pod) -> float:
    """Return the grace time that a pod was made with, in minutes."""
    try:
        return float(pod.env.get("PODTASKS_GRACE_MINUTES", DEFAULT_GRACE_MINUTES))
    except ValueError:
        return DEFAULT_GRACE_MINUTES
