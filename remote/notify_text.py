"""What a notification says, in one or two sentences."""

from __future__ import annotations

from typing import Any

import limits_text
from end_reasons import is_own_failure

# Reasons of a run that did not come to an end of its own.
LOST = ("pod lost", "supervisor killed", "SIGTERM: the pod is ending")


def event_of(record: dict[str, Any]) -> str:
    """Return which event the end of a run is: "failed" unless it succeeded or was asked to end."""
    kind = (record.get("failure") or {}).get("kind")
    is_well = record.get("exit_code") == 0 and kind is None
    return "ended" if is_well or kind == "asked_to_end" else "failed"


def write(event: str, record: dict[str, Any], lost: dict[str, Any] | None = None) -> str:
    """Return the text for an event; `lost` is the run that a recovered one takes up again."""
    run_id = record["run_id"]
    if event == "recovered":
        before = f" after {lost['run_id']} ended without its own doing ({lost['reason']})" if lost else ""
        return f"Run {run_id} goes on from {record['checkpoint']['path']}{before}."
    if event == "stalled":
        then = "It is ended now." if record.get("on_stall") == "stop" else "It goes on; inv stop ends it."
        return f"Run {run_id} has stalled: {limits_text.stall(record)}. {then}"
    exit_code = record.get("exit_code")
    details = ", ".join(text for text in (f"exit code {exit_code}", _cost(record)) if text)
    what = {"ended": "has finished" if exit_code == 0 else f"was ended{_by_what(record)}", "failed": "failed"}[event]
    failure = record.get("failure")
    why = f" {failure['title']}" if failure and event == "failed" else ""
    return f"Run {run_id} {what}{_duration(record)} ({details}).{why}{_kept(record)}"


def _kept(record: dict[str, Any]) -> str:
    """Return that the pod goes on billing for a while, if the guard keeps it."""
    keep_s = limits_text.number(record.get("keep_failed_s"))
    is_kept = keep_s and is_own_failure(record.get("exit_code"), str(record.get("reason")))
    if not keep_s or not is_kept or record.get("ending"):
        return ""
    return f" The pod stays up for {_time(keep_s)}; inv stop stops it now."


def _seconds(record: dict[str, Any]) -> float | None:
    """Return how long a run took from its launch."""
    begin, end = record.get("launched_at"), record.get("ended_at")
    return None if begin is None or end is None else max(0.0, float(end - begin))


def _duration(record: dict[str, Any]) -> str:
    seconds = _seconds(record)
    if seconds is None:
        return ""
    return f" after {_time(seconds)}"


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _cost(record: dict[str, Any]) -> str:
    seconds, price = _seconds(record), (record.get("pod") or {}).get("usd_per_hour")
    return "" if seconds is None or not price else _about(seconds / 3600 * price)


def _about(usd: float) -> str:
    return "less than $0.01" if usd < 0.005 else f"about ${usd:.2f}"


def _by_what(record: dict[str, Any]) -> str:
    """Return what asked a run to end, as podtasks/pure/reasons.py says it."""
    return {"user": " by inv stop", "the tmux session was ended": " with its tmux session"}.get(
        str(record.get("reason")), ""
    )
