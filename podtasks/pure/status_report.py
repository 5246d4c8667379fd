"""What `inv status` knows, as one plain document: `--json` prints it, the text is made of it (docs/json.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from podtasks.pure.budget import amount, limit_s
from podtasks.pure.chain import parse_chain
from podtasks.pure.moments import parse_change_date
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.run_costs import cost_usd, ended_at, lasted_s, launched_at

PROGRESS = ("step", "max_steps", "epoch", "epochs", "steps_per_s")


def build_status(
    cloud: str,
    pod: Pod | None,
    answer: Mapping[str, Any],
    *,
    silence: str,
    now: float,
    helpers: Sequence[Pod] = (),
    last_run: Mapping[str, Any] | None = None,
    source: str = "",
    is_up: bool = True,
) -> dict[str, Any]:
    """Return the document.

    Args:
        cloud: the cloud's name.
        pod: the project's pod as the API reads it.
        answer: what remote/status.py told, {} where the pod could not be asked.
        silence: why it could not, "" where there was nothing to ask.
        now: the moment of the reading, seconds since 1970.
        helpers: CPU pods of this project that run.
        last_run: the record of the last run, where the pod itself cannot tell.
        source: where that record is from.
        is_up: whether the cloud answers; False for a local cloud that does not run.
    """
    asked = bool(answer)
    record = answer.get("run") if asked else last_run
    runs = pod is not None and pod.status is PodStatus.RUNNING
    guard = answer.get("guard") or {}
    can_run = runs and _may_hold(guard, record)
    run = _describe_run(record, now, can_run=can_run, source="pod" if asked else source) if record else None
    return {
        "cloud": cloud,
        "is_up": is_up,
        "time": now,
        "pod": _describe_pod(pod, silence, now) if pod else None,
        "gpus": list(answer.get("gpus") or []),
        "run": run,
        "progress": _describe_progress(answer.get("progress") or {}, run, pod, guard, now),
        "log": _describe_log(answer, now),
        "disk": answer.get("disk"),
        "hours_left": guard.get("hours_left"),
        "usd_left": guard.get("usd_left"),
        "grace_left_s": guard.get("grace_left_s"),
        **_describe_keeping(pod, guard),
        "helper_pods": [{"id": helper.id, "usd_per_hour": helper.usd_per_hour} for helper in helpers],
    }


def _may_hold(guard: Mapping[str, Any], record: Mapping[str, Any] | None) -> bool:
    """Return whether the run can be the one that runs: not where the guard names another one, or none."""
    if "lease" not in guard or record is None:
        return True
    return bool((guard["lease"] or {}).get("run_id") == record.get("run_id"))


def _describe_keeping(pod: Pod | None, guard: Mapping[str, Any]) -> dict[str, Any]:
    """Return why a pod without a run is kept, if it is, and until when."""
    kept_s, left_s = amount(guard, "kept_left_s"), limit_s(pod.usd_per_hour if pod else 0.0, guard)
    if kept_s is not None:
        return {"kept_for": "failure", "kept_left_s": kept_s if left_s is None else min(kept_s, left_s)}
    is_free = "lease" in guard and not any((guard["lease"], guard.get("stopping"), guard.get("grace_left_s")))
    if is_free and left_s is not None:
        return {"kept_for": "when_done", "kept_left_s": left_s}
    return {"kept_for": None, "kept_left_s": None}


def _describe_pod(pod: Pod, silence: str, now: float) -> dict[str, Any]:
    bills = pod.status is PodStatus.RUNNING
    began = parse_change_date(pod.status_change) if bills else None
    up_s = None if began is None else max(0.0, now - began)
    return {
        "id": pod.id,
        "state": pod.status.value,
        "status_change": pod.status_change,
        "gpu": pod.gpu or None,
        "gpu_count": pod.gpu_count,
        "usd_per_hour": pod.usd_per_hour,
        "is_billed": bills,
        "up_s": up_s,
        "spent_usd": None if up_s is None else up_s / 3600 * pod.usd_per_hour,
        "silence": silence or None,
    }


def _describe_run(record: Mapping[str, Any], now: float, *, can_run: bool, source: str) -> dict[str, Any]:
    is_running = can_run and ended_at(record) is None
    return {
        "run_id": record.get("run_id"),
        "source": source,
        "state": _state(record, is_running),
        "config": record.get("config"),
        "branch": record.get("branch"),
        "commit": record.get("commit"),
        "launched_at": launched_at(record),
        "training_started_at": record.get("training_started_at"),
        "ended_at": ended_at(record),
        "lasted_s": lasted_s(record, now, is_running=is_running),
        "cost_usd": cost_usd(record, now, is_running=is_running),
        "exit_code": record.get("exit_code"),
        "reason": record.get("reason"),
        "failure": record.get("failure"),
        "stalled_at": record.get("stalled_at") if is_running else None,
        "chain": None if (chain := parse_chain(record.get("chain"))) is None else chain.to_json(),
    }


def _state(record: Mapping[str, Any], is_running: bool) -> str:
    if is_running:
        return "training" if record.get("training_started_at") else "preparing"
    return "ended" if ended_at(record) is not None else "unknown"


def _describe_progress(
    progress: Mapping[str, Any],
    run: Mapping[str, Any] | None,
    pod: Pod | None,
    guard: Mapping[str, Any],
    now: float,
) -> dict[str, Any] | None:
    """Return how far the run is and what is left of it; the forecast only while it trains."""
    if not progress or run is None or run["source"] != "pod" or not run["training_started_at"]:
        return None  # before it trains, what is found is of the run before
    left_s = progress.get("eta_s") if run["state"] == "training" else None
    allowed_s = limit_s(pod.usd_per_hour if pod else 0.0, guard)
    fits = None if left_s is None or allowed_s is None else left_s <= allowed_s
    return {
        **{name: progress.get(name) for name in PROGRESS},
        "left_s": left_s,
        "left_usd": None if left_s is None or pod is None else left_s / 3600 * pod.usd_per_hour,
        "done_at": None if left_s is None else now + left_s,
        "done_before_limit": fits,
    }


def _describe_log(answer: Mapping[str, Any], now: float) -> dict[str, Any] | None:
    if not answer.get("log_modified"):
        return None
    return {
        "size_bytes": answer.get("log_size"),
        "modified_at": answer["log_modified"],
        "silent_s": max(0.0, now - answer["log_modified"]),
        "last_lines": list(answer.get("last_lines") or []),
    }
