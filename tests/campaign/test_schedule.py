"""A seed is the same plan each time, and each fifty seeds have every kind of strike."""

from __future__ import annotations

import random
from collections import Counter

from tests.campaign.schedule import make_plan
from tests.campaign.strike import Effect, Strike
from tests.campaign.strikes import ALL
from tests.campaign.world import World

SEEDS = range(1, 601)


def hit(_world: World, _source: random.Random) -> Effect:
    return Effect("")


STRIKES = tuple(Strike(f"made/up{number}", hit, weight=1.0 + number % 2) for number in range(10))


def test_seed_is_the_same_plan_each_time_whatever_was_drawn_before() -> None:
    first = [make_plan(seed, STRIKES) for seed in SEEDS]
    assert first == [make_plan(seed, STRIKES) for seed in reversed(SEEDS)][::-1]
    assert first[7] == make_plan(8, STRIKES[::-1])
    assert len({plan.lines()[0].partition(":")[2] + str(plan.strikes) for plan in first}) == len(first)


def test_kinds_are_drawn_in_proportion_to_their_weights() -> None:
    kinds = Counter(strike.kind for seed in SEEDS for strike in make_plan(seed, STRIKES).strikes)
    light, heavy = (sum(kinds[strike.kind] for strike in STRIKES if strike.weight == weight) for weight in (1.0, 2.0))
    # Each kind comes once in fifty seeds whatever its weight.
    assert 1.6 < heavy / light < 2.2
    assert set(kinds) == {strike.kind for strike in STRIKES}


def test_each_fifty_seeds_have_every_usual_kind() -> None:
    usual = {strike.kind for strike in ALL if strike.weight >= 0.5}
    for first in range(1, 500, 50):
        plans = [make_plan(seed, ALL) for seed in range(first, first + 50)]
        assert {strike.kind for plan in plans for strike in plan.strikes} >= usual


def test_every_choice_and_every_moment_comes_up_and_fits_its_strike() -> None:
    plans = [make_plan(seed, ALL) for seed in SEEDS]
    moments = {strike.kind: strike.moments for strike in ALL}
    for strike in (each for plan in plans for each in plan.strikes):
        kind = "line" if strike.moment.kind == "marker" else strike.moment.kind
        assert kind in moments[strike.kind]
    assert {strike.moment.kind for plan in plans for strike in plan.strikes} >= {"line", "marker", "step", "time"}
    assert {(plan.as_runpod, plan.waits) for plan in plans} == {(a, b) for a in (True, False) for b in (True, False)}
    assert {len(plan.strikes) for plan in plans} == {1, 2, 3}
    assert any(plan.until_done for plan in plans) and any(plan.plain for plan in plans)
    assert not any(make_plan(seed, ALL, can_until_done=False).until_done for seed in SEEDS)
