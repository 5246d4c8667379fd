"""Amounts for people, of any size: short, in the right unit, and near enough to what they stand for."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from podtasks.pure.amounts import UNITS, format_bytes, format_cents, format_duration, format_usd
from tests.properties.profile import examples

BYTES = st.one_of(st.integers(0, 10**18), st.floats(0, 1e18), st.integers(0, 18).map(lambda digits: 10**digits - 1))
DURATIONS = st.one_of(st.floats(0, 200), st.floats(0, 20_000), st.floats(0, 1e6), st.floats(0, 1e8))
SECONDS = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@examples(300)
@given(BYTES, st.booleans())
def test_bytes_are_told_to_three_digits_and_never_as_a_thousand_of_a_unit(size_bytes: float, is_negative: bool) -> None:
    text = format_bytes(-size_bytes if is_negative else size_bytes)
    number, unit = text.split(" ")
    told = abs(float(number)) * 1000 ** UNITS.index(unit)
    assert abs(told - size_bytes) <= max(0.5, 0.00501 * size_bytes)
    assert abs(float(number)) < 1000 or unit == UNITS[-1]
    assert re.fullmatch(r"-?\d{1,4}(\.\d{1,2})?", number)


@examples(300)
@given(DURATIONS, DURATIONS)
def test_durations_are_near_and_in_order(one: float, other: float) -> None:
    seconds = [_seconds(format_duration(value)) for value in sorted((one, other))]
    assert seconds[0] <= seconds[1]
    for value, told in zip(sorted((one, other)), seconds, strict=True):
        assert abs(told - value) <= max(0.5, value * 0.04) + (30 if value >= 90 else 0)
        text = format_duration(value)
        assert re.fullmatch(r"[0-8]?\d s|90 s|[1-8]?\d min|90 min|\d+ h [1-5]?\d min|\d+ d (1?\d|2[0-3]) h", text)


def _seconds(text: str) -> float:
    parts = text.split(" ")
    return sum(int(number) * SECONDS[unit] for number, unit in zip(parts[::2], parts[1::2], strict=True))


@examples(300)
@given(st.one_of(st.floats(-1e6, 1e6), st.floats(-0.2, 0.2)))
def test_dollars_keep_the_digits_that_matter(usd: float) -> None:
    text = format_usd(usd)
    told = float(text.replace("$", "").replace(",", ""))
    assert abs(told - usd) <= max(0.00005001 if abs(usd) < 0.095 else 0.00501, abs(usd) * 1e-9)
    assert told == 0 or text.startswith("-") == (usd < 0)
    cents = format_cents(usd)
    assert usd == 0 or not re.fullmatch(r"-?\$0\.00", cents), "something is never told as nothing"
