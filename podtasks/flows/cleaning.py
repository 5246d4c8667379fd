"""`inv storage clean`: the plan, the question, the deletion, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from podtasks.doors.console import Reporter
from podtasks.flows.storage import Store
from podtasks.pure.amounts import format_bytes, format_files
from podtasks.pure.cleaning import CleaningPlan, Wishes, plan_choices, plan_cleaning
from podtasks.pure.errors import PodtasksError, RemoteCommandError, UsageError
from podtasks.pure.storage import Inventory, Search
from podtasks.pure.storage_text import Outcome, freed


@dataclass(frozen=True)
class Cleaned:
    """What came of a clean; `after` is what lies on the volume now, None where it was not measured again."""

    plan: CleaningPlan
    outcome: Outcome = field(default_factory=lambda: Outcome((), (), ()))
    after: Inventory | None = None


@dataclass(frozen=True)
class Clean:
    """One `inv storage clean` with wishes.

    Args:
        show: hears the plan before anything else is done.
        consent: hears the question and raises if the answer is no, or nobody can give one.
    """

    store: Store
    search: Search
    wishes: Wishes
    dry_run: bool
    report: Reporter
    show: Callable[[CleaningPlan], None]
    consent: Callable[[str], None]

    def run(self) -> Cleaned:
        """Delete what may go. Raises UsageError while a launch is prepared, and what `consent` raises."""
        inventory = measure(self.store, self.report, self.wishes.keep)
        plan = plan_cleaning(inventory, self.wishes, self.search)
        self.show(plan)
        if not plan.items or self.dry_run:
            return Cleaned(plan)
        _require_no_launch(inventory)
        self.consent(f"Delete this for good, {format_bytes(plan.amount.size_bytes)}?")
        outcome = self.store.clean(plan, self.wishes.keep)
        self._tell(plan, outcome)
        return Cleaned(plan, outcome, self._measure_again())

    def _tell(self, plan: CleaningPlan, outcome: Outcome) -> None:
        gone = freed(plan, outcome)
        self.report.step(f"freed {format_bytes(gone.size_bytes)}: {format_files(gone.files)} deleted")
        for place, why in outcome.left:
            self.report.note(f"left: {place}: {why}")

    def _measure_again(self) -> Inventory | None:
        # What was deleted must be told even if the link breaks now.
        try:
            return self.store.measure()
        except PodtasksError as error:
            self.report.note(f"what lies on the volume now could not be measured: {error.what}")
            return None


def measure(store: Store, report: Reporter, keep: int = 1) -> Inventory:
    """Return what lies on the volume, and tell what keeps the figures from being exact."""
    inventory = store.measure(keep)
    if inventory.live_run:
        report.note(f"run {inventory.live_run} goes on; it writes while this is read")
    for text in inventory.unreadable:
        report.note(f"not counted, because it cannot be read: {text}")
    return inventory


def measure_choices(store: Store, search: Search, report: Reporter, keep: int) -> Mapping[str, CleaningPlan]:
    """Return what each flag of clean would delete."""
    return plan_choices(measure(store, report, keep), search, keep)


def require_all_deleted(cleaned: Cleaned) -> None:
    """Raise RemoteCommandError that names what would not go, where there is any."""
    failed = cleaned.outcome.failed
    if failed:
        named = "".join(f"\n  {place}: {why}" for place, why in failed)
        raise RemoteCommandError(
            f"{len(failed)} of {len(cleaned.plan.items)} could not be deleted:{named}",
            means="What is left of a checkpoint is not taken for one. All others are deleted.",
            next_step="the same command again takes the rest",
        )


def _require_no_launch(inventory: Inventory) -> None:
    if inventory.is_preparing:
        raise UsageError(
            "A launch is being prepared, which may be about to resume from a checkpoint.",
            means="Nothing was deleted.",
            next_step="the same command again in a minute",
        )
