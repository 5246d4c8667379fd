"""Amounts as people read them, at the edges where digits and units change."""

from __future__ import annotations

import pytest

from podtasks.pure.amounts import (
    format_about,
    format_bytes,
    format_count,
    format_duration,
    format_files,
    format_minutes,
    format_usd,
)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1234, "1.23 kB"),
        (99_900, "99.9 kB"),
        (99_960, "100 kB"),
        (999_400, "999 kB"),
        (999_600, "1 MB"),
        (1_210_000_000, "1.21 GB"),
        (4_000_000_000_000, "4 TB"),
        (2.5e18, "2500 PB"),
        (-1500, "-1.5 kB"),
    ],
)
def test_bytes_have_three_digits_and_a_decimal_unit(size_bytes: float, text: str) -> None:
    assert format_bytes(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (720, "12 min"),
        (89.4 * 60, "89 min"),
        (90 * 60, "1 h 30 min"),
        (3 * 3600 + 20 * 60, "3 h 20 min"),
        (47 * 3600, "47 h 0 min"),
        (48 * 3600, "2 d 0 h"),
        (99 * 3600, "4 d 3 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (0, "$0.00"),
        (0.00001, "$0.0000"),
        (0.0042, "$0.0042"),
        (0.0949, "$0.0949"),
        (0.095, "$0.10"),
        (12.3, "$12.30"),
        (1234.5, "$1,234.50"),
        (-5, "-$5.00"),
        (-0.0042, "-$0.0042"),
    ],
)
def test_small_dollars_keep_the_digits_that_matter(usd: float, text: str) -> None:
    assert format_usd(usd) == text


def test_counts_are_grouped() -> None:
    assert [format_count(n) for n in (0, 999, 20_000, 1_234_567)] == ["0", "999", "20,000", "1,234,567"]


def test_one_file_is_one_file() -> None:
    assert [format_files(n) for n in (0, 1, 20_000)] == ["0 files", "1 file", "20,000 files"]


@pytest.mark.parametrize(
    ("usd", "text"),
    [(0.0, "less than $0.01"), (0.004, "less than $0.01"), (0.005, "about $0.01"), (12.3, "about $12.30")],
)
def test_about_is_not_said_of_less_than_a_cent(usd: float, text: str) -> None:
    assert format_about(usd) == text


@pytest.mark.parametrize(
    ("minutes", "text"), [(1, "1 minute"), (1.0, "1 minute"), (15, "15 minutes"), (0.5, "0.5 minutes")]
)
def test_minutes_of_a_setting(minutes: float, text: str) -> None:
    assert format_minutes(minutes) == text
