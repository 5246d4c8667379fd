"""How many examples a property is tried with.

The quick profile, the default, tries the same few examples each time, so that a run can be had again.
`PODTASKS_HYPOTHESIS=thorough` tries many new ones each time, and keeps those that fail in `.hypothesis/`.
"""

from __future__ import annotations

import os

import hypothesis

FACTORS = {"quick": 1, "thorough": 20}
NAME = os.environ.get("PODTASKS_HYPOTHESIS") or "quick"

# Neither a time limit for an example nor a complaint of slowness: a busy machine is no failure.
COMMON = hypothesis.settings(
    deadline=None, print_blob=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("quick", COMMON, derandomize=True, database=None)
hypothesis.settings.register_profile("thorough", COMMON)
hypothesis.settings.load_profile(NAME)


def examples(count: int, *, steps: int = 20) -> hypothesis.settings:
    """Return settings for a property: `count` examples in the quick profile, more in the thorough one.

    A state machine takes `steps` steps in each.
    """
    return hypothesis.settings(max_examples=count * FACTORS[NAME], stateful_step_count=steps)
