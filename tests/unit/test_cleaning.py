"""`inv storage clean`: shown, asked, deleted, and told."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from podtasks.flows.cleaning import Clean, Cleaned, measure_choices, require_all_deleted
from podtasks.pure.cleaning import CleaningPlan, Wishes
from podtasks.pure.errors import RemoteCommandError, TransportError, UsageError
from podtasks.pure.storage import Inventory
from podtasks.pure.storage_text import Outcome
from tests.unit.fakes import FakeReporter
from tests.unit.test_storage import ARCHIVES, OUT, SEARCH, checkpoint, make_inventory

INVENTORY = make_inventory(checkpoint(3), checkpoint(2), checkpoint(1), archives=ARCHIVES)
OLD = (f"{OUT}/checkpoint-2", f"{OUT}/checkpoint-1")


class No(Exception):
    """The user will not have it."""


@dataclass
class Store:
    """A volume that is measured and cleaned in memory; remembers in which order it was asked what."""

    inventory: Inventory = INVENTORY
    failed: tuple[tuple[str, str], ...] = ()
    breaks_after: bool = False
    story: list[str] = field(default_factory=list)

    def measure(self, keep: int = 1) -> Inventory:
        self.story.append(f"measure {keep}")
        if self.breaks_after and len(self.story) > 1:
            raise TransportError("The link broke.", next_step="x")
        return self.inventory

    def clean(self, plan: CleaningPlan, keep: int) -> Outcome:
        self.story.append(f"clean {keep}")
        failed = {place for place, _ in self.failed}
        return Outcome(tuple(i.place for i in plan.items if i.place not in failed), (), self.failed)


def clean(store: Store, report: FakeReporter, *, dry_run: bool = False, answer: bool = True) -> Cleaned:
    def consent(question: str) -> None:
        store.story.append(question)
        if not answer:
            raise No

    wishes = Wishes(old_checkpoints=True)
    return Clean(store, SEARCH, wishes, dry_run, report, lambda _: store.story.append("show"), consent).run()


def test_the_plan_is_shown_then_asked_about_then_carried_out() -> None:
    store, report = Store(), FakeReporter()
    cleaned = clean(store, report)
    assert store.story == ["measure 1", "show", "Delete this for good, 200 B?", "clean 1", "measure 1"]
    assert (cleaned.outcome.deleted, cleaned.after) == (OLD, INVENTORY)
    assert report.steps == ["freed 200 B: 4 files deleted"]
    require_all_deleted(cleaned)


def test_nothing_is_deleted_without_leave_or_on_a_dry_run() -> None:
    store = Store()
    with pytest.raises(No):
        clean(store, FakeReporter(), answer=False)
    assert clean(store, FakeReporter(), dry_run=True).outcome.deleted == ()
    assert not any(told.startswith("clean") for told in store.story)


def test_nothing_is_deleted_while_a_launch_is_prepared() -> None:
    store = Store(replace(INVENTORY, is_preparing=True))
    with pytest.raises(UsageError, match="A launch is being prepared"):
        clean(store, FakeReporter())
    assert store.story == ["measure 1", "show"]


def test_what_was_deleted_is_told_though_the_link_breaks_then() -> None:
    store, report = Store(breaks_after=True), FakeReporter()
    cleaned = clean(store, report)
    assert (cleaned.outcome.deleted, cleaned.after) == (OLD, None)
    assert "could not be measured: The link broke." in report.notes[-1]


def test_what_would_not_go_is_named() -> None:
    cleaned = clean(Store(failed=((OLD[0], "busy"),)), FakeReporter())
    with pytest.raises(RemoteCommandError, match=rf"1 of 2 could not be deleted:\n  {OLD[0]}: busy"):
        require_all_deleted(cleaned)


def test_each_flag_alone_is_counted_and_a_run_that_goes_on_is_told_of() -> None:
    report = FakeReporter()
    plans = measure_choices(Store(replace(INVENTORY, live_run="digits-1")), SEARCH, report, 1)
    assert {flag: len(plan.items) for flag, plan in plans.items()} == {
        "--old-checkpoints": 2,
        "--archives": 3,
        "--hf-cache": 0,
        "--logs": 0,
    }
    assert report.notes == ["run digits-1 goes on; it writes while this is read"]
