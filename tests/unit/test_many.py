"""Work on many items at once."""

from __future__ import annotations

import threading

import pytest

from podtasks.doors.many import run_many


def test_every_item_is_worked_on_once() -> None:
    done: list[int] = []
    run_many(done.append, range(1000), 8)
    assert sorted(done) == list(range(1000))


def test_items_are_worked_on_at_once() -> None:
    together = threading.Barrier(4, timeout=10)

    def meet(_: int) -> None:
        together.wait()

    run_many(meet, range(4), 4)


def test_the_first_exception_ends_it() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 3:
            raise ValueError("three")
        done.append(item)

    with pytest.raises(ValueError, match="three"):
        run_many(work, range(100_000), 2)
    assert len(done) < 90_000
