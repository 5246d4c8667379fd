"""Waiting, with time that costs nothing."""

from __future__ import annotations

import itertools

import pytest

from podtasks.doors.clock import WaitTimeoutError, growing_pauses, wait_until
from tests.unit.fakes import FakeClock


def test_pauses_grow_up_to_their_limit() -> None:
    assert list(itertools.islice(growing_pauses(1.0, 2.0, 5.0), 5)) == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_wait_for_what_is_there_does_not_sleep() -> None:
    clock = FakeClock()
    assert wait_until(lambda: 7, lambda n: n == 7, timeout_s=1, pauses=growing_pauses(1, 1, 1), clock=clock) == 7
    assert clock.sleeps == []


def test_wait_returns_the_first_ready_reading_and_tells_each_change_once() -> None:
    clock = FakeClock()
    readings = iter(["boot", "boot", "port", "port", "boot", "ready", "late"])
    heard: list[str] = []
    result = wait_until(
        lambda: next(readings),
        lambda reading: reading == "ready",
        timeout_s=100,
        pauses=growing_pauses(1, 2, 4),
        clock=clock,
        on_change=heard.append,
    )
    assert result == "ready"
    assert heard == ["boot", "port", "boot", "ready"]
    assert clock.sleeps == [1, 2, 4, 4, 4]


def test_wait_over_gives_the_last_reading_and_never_sleeps_past_its_deadline() -> None:
    clock = FakeClock(50)
    counter = itertools.count()
    with pytest.raises(WaitTimeoutError) as caught:
        wait_until(lambda: next(counter), lambda _: False, timeout_s=10, pauses=growing_pauses(3, 1, 3), clock=clock)
    assert clock.sleeps == [3, 3, 3, 1]
    assert clock.now() == 60
    assert caught.value.last == 4, "it reads once more when the time is over"
    assert "last reading: 4" in str(caught.value)


def test_wait_with_slow_readings_ends_at_its_deadline() -> None:
    clock = FakeClock()

    def read() -> bool:
        clock.now_s += 7
        return False

    with pytest.raises(WaitTimeoutError):
        wait_until(read, bool, timeout_s=10, pauses=growing_pauses(1, 1, 1), clock=clock)
    assert clock.now() == 1015


def test_wait_is_given_up_early_by_a_probe_that_raises() -> None:
    clock = FakeClock()

    def read() -> bool:
        raise ConnectionError("gone for good")

    with pytest.raises(ConnectionError, match="gone for good"):
        wait_until(read, bool, timeout_s=10, pauses=growing_pauses(1, 1, 1), clock=clock)
    assert clock.sleeps == []
