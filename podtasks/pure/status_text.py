"""The text of `inv status`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from podtasks.pure.amounts import format_duration
from podtasks.pure.pod import Pod, PodStatus


def render_status(
    pod: Pod | None, answer: Mapping[str, Any], silence: str, now: float, last_run: str = ""
) -> str:
    """Given the pod and what it answered at `now` (epoch seconds), return the lines for people.

    `last_run` says how the last run ended, where the pod itself cannot be asked.
    """
    rows = list(_rows(pod, answer, silence, now))
    if last_run:
        rows.append(("last run", last_run))
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {text}" for name, text in rows]
    return "\n".join([*lines, *(f"  | {line}" for line in answer.get("last_lines") or [])])


def _rows(pod: Pod | None, answer: Mapping[str, Any], silence: str, now: float) -> Iterator[tuple[str, str]]:
    if pod is None:
        yield "pod", "none; inv train makes one"
        return
    yield "pod", f"{pod.id} {pod.status.value}{_reason(pod)}"
    yield "gpu", f"{pod.gpu_count} x {pod.gpu}, ${pod.usd_per_hour:.2f}/h{_billed(pod)}"
    if silence:
        yield "ssh", f"no answer: {silence}"
    guard = answer.get("guard") or {}
    if guard.get("grace_left_s") is not None:
        yield "guard", f"stops the pod in {format_duration(guard['grace_left_s'])} unless a run is launched"
    yield from _run_rows(answer, guard, pod, now)


def _run_rows(
    answer: Mapping[str, Any], guard: Mapping[str, Any], pod: Pod, now: float
) -> Iterator[tuple[str, str]]:
    run = answer.get("run")
    if not run:
        return
    yield "run", f"{run['run_id']} ({run.get('config')})"
    yield "code", f"{run.get('branch')} at {str(run.get('commit'))[:10]}"
    started, ended = run.get("started_at"), run.get("ended_at")
    if started:
        lasted_s = (ended or now) - started
        cost = lasted_s / 3600 * pod.usd_per_hour
        yield "since", f"{format_duration(lasted_s)}, about ${cost:.2f}"
    yield "state", _describe_state(run)
    if guard.get("hours_left") is not None:
        yield "limit", f"{guard['hours_left']:.1f} h left"
    if answer.get("log_modified"):
        yield "log", f"last line {format_duration(max(0.0, now - answer['log_modified']))} ago"


def _describe_state(run: Mapping[str, Any]) -> str:
    if not run.get("ended_at"):
        return "training" if run.get("training_started_at") else "preparing"
    code = run.get("exit_code")
    return f"ended, {run.get('reason') or 'exit'}, exit code {'unknown' if code is None else code}"


def _reason(pod: Pod) -> str:
    if pod.status is PodStatus.RUNNING or not pod.status_change:
        return ""
    # RunPod ends its dates with the time zone's name in brackets.
    return f" ({re.sub(r' [(][^()]*[)]$', '', pod.status_change)})"


def _billed(pod: Pod) -> str:
    return "" if pod.status is PodStatus.RUNNING else " when it runs; not billed now"
