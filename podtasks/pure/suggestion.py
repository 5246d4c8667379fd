"""The nearest known name to one that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the nearest known name, or nothing where none is near.

    Args:
        name: what was written.
        known: the names there are.
    """
    nearest = find_nearest(name, known)
    return f"; did you mean {nearest}?" if nearest else ""


def ask_or_stop(name: str, known: Iterable[str]) -> str:
    """Return what ends a sentence about an unknown name: `did_you_mean`, or a full stop where none is near."""
    return did_you_mean(name, known) or "."


def find_nearest(name: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """Return the known name most like the given one, capital letters ignored, or None.

    Args:
        name: what was written.
        known: the names there are.
        cutoff: how alike the two must be, from 0 to 1.
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    # A name far longer than any known one cannot be near it, and comparing it would take long.
    matches = difflib.get_close_matches(name[:200].lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else None
