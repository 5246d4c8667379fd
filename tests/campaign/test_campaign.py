"""A short campaign: fifty seeds, in which nothing that must hold may fail."""

from __future__ import annotations

import pytest

from tests.campaign.report import tell_seed
from tests.campaign.runner import Campaign

SEEDS_EACH = 5
FIRST_SEEDS = range(1, 51, SEEDS_EACH)


@pytest.mark.parametrize("first", FIRST_SEEDS)
def test_whatever_strikes_nothing_is_lost_leaked_or_left_billing(first: int) -> None:
    seeds = range(first, first + SEEDS_EACH)
    results = Campaign(seeds, jobs=2).run()
    assert [result.plan.seed for result in results] == list(seeds)
    bad = [result for result in results if result.violations]
    assert not bad, "\n".join(line for result in bad for line in tell_seed(result))
