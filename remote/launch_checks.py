"""What a launch is checked for before it touches anything."""

from __future__ import annotations

import os
from typing import Any

import run_record
from answer import Refused
from limits_text import number

NUMBERS = ("max_hours", "max_cost_usd", "keep_failed_s", "stall_minutes", "stop_grace_s")


def require_numbers(request: dict[str, Any]) -> None:
    """Raise Refused for a limit that is no number, or below nothing: nobody could keep it."""
    for name in NUMBERS:
        value = request.get(name)
        known = number(value)
        if value is not None and (known is None or known < 0):
            raise Refused("A limit of this launch is no number.", f"{name} is {value!r:.100}")


def require_newest(request: dict[str, Any], volume: str) -> None:
    """Raise Refused if the run that this launch is to follow is not the newest of the volume any more."""
    after = request.get("after_run")
    if after is None:
        return
    run_dir = run_record.newest(volume)
    newest = None if run_dir is None else os.path.basename(run_dir)
    if newest != after:
        detail = f"the newest run on the volume is {newest or 'none'}, not {after}"
        raise Refused("Another launch came before this one.", detail, overtaken=newest)


def note_limits(request: dict[str, Any]) -> list[str]:
    """Return what the user should know of limits that have no effect."""
    if request.get("max_cost_usd") is None or number((request.get("pod") or {}).get("usd_per_hour")):
        return []
    return ["max_cost_usd has no effect: the price of this pod is not known"]
