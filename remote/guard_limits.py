"""Limits: how long a run and its pod may go on, by hours and by money, and how long a failed one is kept."""

from __future__ import annotations

import math
import time
from typing import Any

from end_reasons import is_own_failure
from guard_end import Ends, grace_s, seconds
from guard_loop import say

LONGEST_KEEP_S = 24 * 3600.0
# Longer than any pod lives; a number of seconds that every clock and JSON reader takes.
LONGEST_LIMIT_S = 10 * 365 * 86400.0


class Limits(Ends):
    """The deadlines "hours" and "cost", which count from the launch, and "kept", from a failure.

    `price` is what an hour of the pod costs, as the run that was launched last tells. `kept_until` is when a pod
    that is kept after a failure stops; the deadline "kept" is later only while somebody prepares a launch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.price: float | None = None
        self.kept_until: float | None = None
        self.kept_action = "stop"

    def start_limits(self, run: dict[str, Any], again: bool) -> None:
        """Start the clocks of a run that was launched; those that go on `again` at a new guard stay as they are."""
        self.price = as_amount(run.get("usd_per_hour"))
        elapsed_s = as_amount(run.get("elapsed_s")) or 0.0
        for name, whole_s in (("hours", hours_s(run)), ("cost", cost_s(run))):
            if again and name in self.deadlines:
                continue
            self.deadlines.pop(name, None)
            if whole_s is not None:
                self.set_deadline(name, whole_s - elapsed_s)

    def on_hours(self) -> None:
        """End the run whose hours are used up; stop a pod that was kept."""
        self.limit_reached("max_hours")

    def on_cost(self) -> None:
        """End the run whose money is used up; stop a pod that was kept."""
        self.limit_reached("max_cost_usd")

    def limit_reached(self, reason: str) -> None:
        """End the run for this reason; where there is none, stop the pod."""
        if self.lease is not None and self.lease["kind"] == "run":
            self.end_run(reason)
        else:
            self.stop(reason, "stop" if self.kept_until is None else self.kept_action)

    def usd_left(self) -> float | None:
        """Return what is left of the money, None without a limit."""
        left_s = self.left_s("cost")
        return None if left_s is None or self.price is None else left_s / 3600 * self.price

    # A pod that is kept after a failure

    def may_keep(self, run: dict[str, Any], exit_code: int | None, reason: str, was_asked: bool) -> bool:
        """Keep the pod for a look at it if the training failed by itself; say whether it is kept."""
        keep_s = min(as_amount(run.get("keep_failed_s")) or 0.0, LONGEST_KEEP_S)
        if not keep_s or was_asked or not is_own_failure(exit_code, reason):
            return False
        say(f"run {run['run_id']}: failed; the pod stays for {keep_s:g} s")
        self.kept_until = time.monotonic() + keep_s
        self.kept_action = "terminate" if run["when_done"] == "terminate" else "stop"
        self.deadlines["kept"] = self.kept_until
        return True

    def on_kept(self) -> None:
        """Stop a pod that was kept after a failure: nobody launched anything on it."""
        self.stop("it was kept after a failure, and that time is over", self.kept_action)

    def wait_for_launch(self) -> None:
        """Give whoever prepares a launch on a kept pod the time to do so, and nobody else."""
        if self.kept_until is not None:
            self.deadlines["kept"] = max(self.kept_until, time.monotonic() + grace_s())

    def end_wait_for_launch(self) -> None:
        """Take that time back: what was prepared was not launched."""
        if self.kept_until is not None and self.stopping is None:
            self.deadlines["kept"] = self.kept_until

    def forget_kept(self) -> None:
        """Keep the pod no longer for the failure's sake: a new run has it."""
        self.kept_until = None
        self.deadlines.pop("kept", None)

    # Events of the base

    def holder_left(self) -> None:
        """Take back the time a launch had, if this was the one that was prepared."""
        super().holder_left()
        if self.lease is None:
            self.end_wait_for_launch()

    def state(self) -> dict[str, Any]:
        """Return what must outlive this process.

        "deadlines" has only what guards of earlier versions know, who may come after this one as its spare.
        """
        kept = None if self.kept_until is None else {"until": self.kept_until, "action": self.kept_action}
        return {**super().state(), "price": self.price, "cost": self.deadlines.get("cost"), "kept": kept}

    def take_state(self, state: dict[str, Any]) -> None:
        """Go on from what the guard before left."""
        super().take_state(state)
        self.price, cost, kept = state.get("price"), state.get("cost"), state.get("kept")
        if cost is not None:
            self.deadlines["cost"] = cost
        if kept is not None:
            self.kept_until, self.kept_action = kept["until"], kept["action"]
            # Whoever prepares a launch finds its way to this guard first; not again and again.
            found_s = seconds("PODTASKS_RECONNECT_S", 10)
            self.deadlines["kept"] = max(self.kept_until, min(time.monotonic() + found_s, self.kept_until + grace_s()))


def as_amount(value: object) -> float | None:
    """Return a number that a client sent; None for what is none, below nothing or endless."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if number >= 0 and math.isfinite(number) else None


def cost_s(run: dict[str, Any]) -> float | None:
    """Return for how many seconds the money of a run lasts at its pod's price; None without a limit or a price."""
    most_usd, price = as_amount(run.get("max_cost_usd")), as_amount(run.get("usd_per_hour"))
    if most_usd is None:
        return None
    if not price:
        say(f"run {run['run_id']}: its pod has no price, so max_cost_usd has no effect")
        return None
    return min(most_usd / price * 3600, LONGEST_LIMIT_S)


def hours_s(run: dict[str, Any]) -> float | None:
    """Return how many seconds a run may take from its launch, None without a limit."""
    hours = as_amount(run.get("max_hours"))
    return None if hours is None else min(hours * 3600, LONGEST_LIMIT_S)
