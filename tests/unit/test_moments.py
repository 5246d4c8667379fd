"""Moments as people read them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from podtasks.pure.moments import format_clock, format_date_time, parse_change_date, zone_name

NOON = 1_795_435_200.0  # 2026-11-23 12:00:00 UTC


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "XYZ-2")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_moments_are_in_the_user_s_zone() -> None:
    assert (format_date_time(NOON), zone_name(NOON)) == ("2026-11-23 14:00", "XYZ")


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0, "14:00"), (9.5, "23:30"), (10, "tomorrow 00:00"), (-14.5, "yesterday 23:30"), (48, "2026-11-25 14:00")],
)
def test_clock_near_now(hours: float, text: str) -> None:
    assert format_clock(NOON + hours * 3600, NOON) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("Rented by User: Mon Nov 23 2026 12:00:00 GMT+0000 (Coordinated Universal Time)", NOON),
        ("Exited by Runpod: Mon Nov 23 2026 13:00:00 GMT+0100 (CET)", NOON),
        ("Rented by User: Mon Foo 23 2026 12:00:00 GMT+0000", None),
        ("Rented by User: Mon Feb 31 2026 12:00:00 GMT+0000", None),
        ("Rented by User", None),
        ("", None),
    ],
)
def test_change_date(text: str, moment: float | None) -> None:
    assert parse_change_date(text) == moment
