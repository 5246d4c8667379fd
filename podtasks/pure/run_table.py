"""The history of runs as a table, and as the document of `inv runs --json` (docs/json.md)."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from podtasks.pure.amounts import format_cents, format_duration
from podtasks.pure.moments import format_date_time
from podtasks.pure.reasons import describe_reason
from podtasks.pure.run_costs import cost_usd, ended_at, lasted_s, launched_at, usd_per_hour

UNKNOWN = "?"


def describe_runs(
    records: Sequence[Mapping[str, Any]], active_run_id: str | None, source: str, now: float
) -> dict[str, Any]:
    """Given run records at `now` (seconds since 1970), the newest first, return the document."""
    return {"source": source, "runs": [describe_run(record, active_run_id, now) for record in records]}


def describe_run(record: Mapping[str, Any], active_run_id: str | None, now: float) -> dict[str, Any]:
    """Return what is told of one run."""
    run_id = str(record.get("run_id"))
    pod, failure = record.get("pod") or {}, record.get("failure") or {}
    is_running = run_id == active_run_id and ended_at(record) is None
    return {
        "run_id": run_id,
        "state": "running" if is_running else "ended" if _is_over(record) else "unknown",
        "config": record.get("config"),
        "branch": record.get("branch"),
        "commit": record.get("commit"),
        "checkpoint": (record.get("checkpoint") or {}).get("path"),
        "step": (record.get("checkpoint") or {}).get("step"),
        "is_fresh": "checkpoint" in record and not record["checkpoint"],
        "pod_id": pod.get("id"),
        "gpu": pod.get("gpu"),
        "usd_per_hour": usd_per_hour(record),
        "launched_at": launched_at(record),
        "ended_at": ended_at(record),
        "lasted_s": lasted_s(record, now, is_running=is_running),
        "exit_code": record.get("exit_code"),
        "reason": record.get("reason"),
        "failure": failure.get("kind"),
        "failure_title": failure.get("title"),
        "cost_usd": cost_usd(record, now, is_running=is_running),
    }


def _is_over(record: Mapping[str, Any]) -> bool:
    return ended_at(record) is not None or record.get("exit_code") is not None


def build_run_rows(runs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return the table's rows: run, exit code, start, duration, cost, why, configuration, commit, from, GPU."""
    return [
        [
            run["run_id"],
            _exit(run),
            format_date_time(run["launched_at"]) if run["launched_at"] else UNKNOWN,
            UNKNOWN if run["lasted_s"] is None else format_duration(run["lasted_s"]),
            UNKNOWN if run["cost_usd"] is None else format_cents(run["cost_usd"]),
            _why(run),
            posixpath.basename(str(run["config"] or UNKNOWN)),
            str(run["commit"])[:7] if run["commit"] else UNKNOWN,
            _origin(run),
            run["gpu"] or UNKNOWN,
        ]
        for run in runs
    ]


def _exit(run: Mapping[str, Any]) -> str:
    if run["state"] == "running":
        return "running"
    return UNKNOWN if run["exit_code"] is None else str(run["exit_code"])


def _why(run: Mapping[str, Any]) -> str:
    if run["state"] == "running":
        return ""
    # It was asked to end: its reason says by what.
    title = None if run["failure"] == "asked_to_end" else run["failure_title"]
    return str(title or describe_reason(run["reason"]) or UNKNOWN)


def _origin(run: Mapping[str, Any]) -> str:
    if run["step"] is not None:
        return f"step {run['step']}"
    if run["checkpoint"]:
        return posixpath.basename(str(run["checkpoint"]).rstrip("/"))
    return "fresh" if run["is_fresh"] else UNKNOWN
