"""What `inv reap` shows: its table, its question, and the document of `--json` (docs/json.md)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from podtasks.pure.amounts import format_cents, format_duration
from podtasks.pure.reap import State, Verdict, Wish

UNKNOWN = "?"


def build_rows(verdicts: Sequence[Verdict], wish: Wish) -> list[list[str]]:
    """Return the table's rows: pod, project, GPU, price, up since, cost so far, state, what is done, why."""
    return [
        [
            verdict.pod.id,
            _project(verdict),
            describe_kind(verdict),
            f"${verdict.pod.usd_per_hour:.2f}",
            UNKNOWN if verdict.sight.up_s is None else format_duration(verdict.sight.up_s),
            UNKNOWN if (spent := spent_usd(verdict)) is None else format_cents(spent),
            verdict.state.value,
            describe_action(verdict, wish),
            describe_why(verdict),
        ]
        for verdict in verdicts
    ]


def _project(verdict: Verdict) -> str:
    return verdict.sight.owner or verdict.pod.name or "-"


def describe_kind(verdict: Verdict) -> str:
    """Return what kind of pod it is: 2 x RTX 4090, or CPU."""
    pod = verdict.pod
    return f"{pod.gpu_count} x {pod.gpu or 'GPU'}" if pod.gpu_count else "CPU"


def describe_action(verdict: Verdict, wish: Wish) -> str:
    """Return what is done with a pod: stop, delete, or nothing."""
    if not wish.covers(verdict):
        return "-"
    return "delete" if verdict.sight.is_helper else "stop"


def describe_why(verdict: Verdict) -> str:
    """Return why a pod counts as what it counts, and when it ends by itself."""
    if not verdict.ends_in_s:
        return verdict.why
    word = "at the latest " if verdict.state is State.RUNNING else ""
    return f"ends {word}in {format_duration(verdict.ends_in_s)}: {verdict.why}"


def spent_usd(verdict: Verdict) -> float | None:
    """Return what a pod cost since it was started, None where that is not known."""
    up_s = verdict.sight.up_s
    return None if up_s is None else up_s / 3600 * verdict.pod.usd_per_hour


def describe_sum(verdicts: Sequence[Verdict]) -> str:
    """Return what pods cost together: 2 pods at $1.38/h."""
    usd_per_hour = sum(verdict.pod.usd_per_hour for verdict in verdicts)
    return f"{len(verdicts)} {'pod' if len(verdicts) == 1 else 'pods'} at ${usd_per_hour:.2f}/h"


def build_question(verdicts: Sequence[Verdict]) -> str:
    """Return the question before these pods are stopped."""
    helpers = [verdict for verdict in verdicts if verdict.sight.is_helper]
    others = [verdict for verdict in verdicts if not verdict.sight.is_helper]
    parts = [f"stop {_name(others)}"] if others else []
    parts += [f"delete {_name(helpers)}, which only copies files"] if helpers else []
    asked = " and ".join(parts)
    return f"{asked[0].upper()}{asked[1:]}?"


def _name(verdicts: Sequence[Verdict]) -> str:
    return ", ".join(verdict.pod.id for verdict in verdicts)


def explain_rest(verdicts: Sequence[Verdict], wish: Wish) -> list[str]:
    """Return what the user can do about pods that are left, one sentence for each kind of them."""
    left = [verdict.state for verdict in verdicts if not wish.covers(verdict)]
    told = []
    if State.KEPT in left or State.GRACE in left:
        told.append("pods within their grace time and kept ones end by themselves; --now stops them at once")
    if State.SILENT in left:
        told.append("pods that do not answer are stopped only with --silent")
    if State.STRANGER in left:
        told.append("pods that podtasks has not made are never stopped here")
    return told


def describe_reap(
    cloud: str, now: float, verdicts: Sequence[Verdict], wish: Wish, stopped: Sequence[str]
) -> dict[str, Any]:
    """Return the document of `inv reap --json`, at `now` (seconds since 1970)."""
    return {
        "cloud": cloud,
        "time": now,
        "pods": [_describe(verdict, wish, stopped) for verdict in verdicts],
        "stopped": list(stopped),
    }


def _describe(verdict: Verdict, wish: Wish, stopped: Sequence[str]) -> dict[str, Any]:
    pod = verdict.pod
    return {
        "id": pod.id,
        "name": pod.name,
        "project": verdict.sight.owner or None,
        "is_helper": verdict.sight.is_helper,
        "gpu": pod.gpu or None,
        "gpu_count": pod.gpu_count,
        "usd_per_hour": pod.usd_per_hour,
        "up_s": verdict.sight.up_s,
        "spent_usd": spent_usd(verdict),
        "state": verdict.state.value,
        "why": verdict.why,
        "run_id": verdict.run_id,
        "ends_in_s": verdict.ends_in_s,
        "is_to_stop": wish.covers(verdict),
        "is_stopped": pod.id in stopped,
    }
