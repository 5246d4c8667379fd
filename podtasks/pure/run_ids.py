"""Run ids: which are safe to be a folder's name, and when one was made."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable

MADE = re.compile(r"-(\d{8}-\d{6})-")
# What stands beside the runs in the volume's folder runs/.
NO_RUNS = frozenset({"saved"})


def is_run_id(text: str) -> bool:
    """Return whether this can be a run's id, and so a folder's name: a word without slashes that is no `..`."""
    return bool(text) and text.isprintable() and "/" not in text and text not in (".", "..") and len(text) < 200


def made_at(run_id: str) -> float | None:
    """Return the moment in a run's id, seconds since 1970, None where it has none."""
    found = MADE.search(run_id)
    try:
        return datetime.datetime.strptime(f"{found[1]} +0000", "%Y%m%d-%H%M%S %z").timestamp() if found else None
    except ValueError:
        return None


def sort_newest_first(run_ids: Iterable[str]) -> list[str]:
    """Return run ids by the time in them, the newest first; those without one at the end."""
    return sorted(run_ids, key=lambda run_id: (made_at(run_id) or 0.0, run_id), reverse=True)
