"""Which ends of a run are the training's own: nobody asked for them, and the pod was not taken away."""

from __future__ import annotations

import re

# What supervise.py and the guard write. "killed by" is a signal from inside the pod, as for want of memory.
OWN_FAILURE = re.compile(r"failed$|killed by |environment failed$|supervisor (killed$|failed)")


def is_own_failure(exit_code: int | None, reason: str) -> bool:
    """Say whether the training failed by itself: what else ends a run is no failure to look into."""
    return exit_code != 0 and OWN_FAILURE.match(reason) is not None
