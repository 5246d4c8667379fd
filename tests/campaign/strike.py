"""What strikes a training, and when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.campaign.world import World


@dataclass(frozen=True)
class Effect:
    """What a strike did.

    Args:
        what: one line for the timeline.
        undo: what ends the trouble, None where it ends by itself.
        undo_after_s: when that is done; at the latest it is done before the rerun that must succeed.
        ends_command: whether the running `inv` may be dead or blind from now on, so that its stream may be cut.
        excused_s: for how many seconds a pod may bill beyond its grace time because of this.
    """

    what: str
    undo: Callable[[], None] | None = None
    undo_after_s: float = 0.0
    ends_command: bool = False
    excused_s: float = 0.0


@dataclass(frozen=True)
class Strike:
    """One kind of fault.

    Args:
        kind: its name in the report, such as "api/rate_limit"; the part before the slash names its file here.
        hit: strikes; raises Missed where there is nothing to strike (no pod, no process).
        moments: the moments that make sense for it: "line" (a line of the command), "step" (of the training),
            "call" (the k-th call of the API), "time" (seconds after the command's start).
        weight: how often it is drawn, compared with others.
    """

    kind: str
    hit: Callable[[World, random.Random], Effect]
    moments: tuple[str, ...] = field(default=("line", "step", "call", "time"))
    weight: float = 1.0


class Missed(Exception):
    """There was nothing to strike at that moment."""
