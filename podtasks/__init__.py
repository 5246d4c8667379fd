"""Train on a rented GPU with one command: `inv train --config configs/X.yaml`.

A project's `tasks.py` needs one line: `from podtasks import ns`.
"""

from __future__ import annotations

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
    from podtasks.tasks import ns

    return ns
