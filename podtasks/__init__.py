"""Train on a rented GPU with one command: `inv train --config configs/X.yaml`.

A project's `tasks.py` needs one line: `from podtasks import ns`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from invoke.collection import Collection

    ns: Collection

__version__ = "0.1.0"
__all__ = ["__version__", "ns"]


def __getattr__(name: str) -> Collection:
    """Import the tasks only when they are asked for, so that `podtasks.pure` alone stays quick to import."""
    if name != "ns":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from podtasks.tasks import ns
    except KeyboardInterrupt:
        # Ctrl+C so early that no task is there yet to tell of it.
        sys.stderr.write("interrupted; nothing was done\n")
        raise SystemExit(130) from None

    return ns
