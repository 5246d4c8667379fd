"""The campaign catches podtasks with one thing broken, by the right invariant, within fifty seeds."""

from __future__ import annotations

import pytest

from tests.campaign.mutants import MUTANTS, WITHIN, Mutant, hunt


def test_there_is_a_mutant_for_each_invariant() -> None:
    assert {mutant.invariant for mutant in MUTANTS} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_broken_podtasks_is_caught(mutant: Mutant) -> None:
    # The seeds before the known one were played when it was found; should strikes change, the hunt goes on from there.
    seeds = range(mutant.caught_in, WITHIN + 1)
    assert hunt(mutant, seeds, jobs=1) is not None, f"no seed of {seeds} caught: {mutant.name}"
