"""The first lines of a run in the log."""

from __future__ import annotations

import os
import time
from typing import Any

import run_footer
import run_record


def write(record: dict[str, Any]) -> None:
    """Append the header of a run to its log. Raise OSError when the volume does not take it."""
    os.makedirs(os.path.dirname(record["log"]), exist_ok=True)
    run_record.append(record["log"], render(record, time.time()).encode("utf-8", "surrogateescape"))


def render(record: dict[str, Any], now: float) -> str:
    """Return the header: an empty line, the time (UTC), and what runs where from which commit."""
    lines = [
        f"CONFIG: {record['config']}",
        _start_line(record),
        f"RUN: {record['run_id']}",
        f"POD: {_pod_text(record.get('pod') or {})}",
        f"COMMIT: {record['commit']} ({_branch_text(record)})",
        *_notes(record),
    ]
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(now))
    return "\n".join(["", f"====== {stamp} ======", *map(run_footer.one_line, lines), ""])


def _start_line(record: dict[str, Any]) -> str:
    """Return where the training starts from."""
    checkpoint = record.get("checkpoint")
    if checkpoint:
        return f"RESUMING FROM: {checkpoint['path']}"
    return "FORCE RESTART: checkpoints ignored" if record.get("force_restart") else "STARTING FRESH"


def _notes(record: dict[str, Any]) -> list[str]:
    """Return what a run that resumes has to say about checkpoints that were set aside."""
    if record.get("archived") and record.get("checkpoint"):
        return [f"NOTE: checkpoints were set aside in {record['archived']}"]
    return []


def _branch_text(record: dict[str, Any]) -> str:
    """Return the branch, and that uncommitted changes came along: then the commit is on no branch."""
    return f"{record['branch']}, with uncommitted changes" if record.get("code") == "snapshot" else record["branch"]


def _pod_text(pod: dict[str, Any]) -> str:
    """Return the pod's id with its GPU and price, as far as they are known."""
    price = pod.get("usd_per_hour")
    details = [text for text in (pod.get("gpu"), None if price is None else f"${price:.2f}/h") if text]
    return f"{pod.get('id')} ({', '.join(details)})" if details else str(pod.get("id"))
