"""What a campaign tells at its end."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.campaign.invariants import Violation
from tests.campaign.schedule import Plan


@dataclass(frozen=True)
class Struck:
    """A planned strike and what became of it.

    Args:
        what: what it did; or, where it missed, why.
    """

    kind: str
    has_hit: bool
    what: str


@dataclass(frozen=True)
class Result:
    """One seed that was played."""

    plan: Plan
    seconds: float
    struck: tuple[Struck, ...]
    commands: int
    violations: tuple[Violation, ...]
    timeline: tuple[str, ...]


def write_timeline(began: float, entries: Sequence[tuple[float, str]]) -> tuple[str, ...]:
    """Return lines with the seconds since the seed's beginning, in the order of their times."""
    return tuple(f"{at - began:7.2f} s  {text}" for at, text in sorted(entries, key=lambda entry: entry[0]))


def as_text(results: Sequence[Result], seconds: float) -> str:
    """Return the report for people."""
    lines = [_headline(results, seconds), "", "faults struck (and missed) by kind:"]
    hits, misses = _count(results, True), _count(results, False)
    lines += [f"  {kind:32} {hits[kind]:5}  ({misses[kind]})" for kind in sorted(hits | misses)]
    for result in results:
        if result.violations:
            lines += ["", *tell_seed(result)]
    return "\n".join(lines)


def tell_seed(result: Result) -> list[str]:
    """Return a seed with its violations and timeline."""
    told = [f"VIOLATION in seed {result.plan.seed}, invariant {v.invariant}: {v.text}" for v in result.violations]
    return [*told, *(f"  {line}" for line in result.plan.lines()), *(f"  {line}" for line in result.timeline)]


def as_json(results: Sequence[Result], seconds: float) -> str:
    """Return the same as a JSON document."""
    hits, misses = _count(results, True), _count(results, False)
    document: dict[str, Any] = {
        "seeds": len(results),
        "seconds": round(seconds, 1),
        "commands": sum(result.commands for result in results),
        "struck": dict(sorted(hits.items())),
        "missed": dict(sorted(misses.items())),
        "violations": [
            {
                "seed": result.plan.seed,
                "invariant": violation.invariant,
                "text": violation.text,
                "timeline": list(result.timeline),
            }
            for result in results
            for violation in result.violations
        ],
    }
    return json.dumps(document, indent=1)


def _headline(results: Sequence[Result], seconds: float) -> str:
    bad = [result for result in results if result.violations]
    numbers = [result.plan.seed for result in results]
    span = f" ({min(numbers)} to {max(numbers)})" if numbers else ""
    took = datetime.timedelta(seconds=round(seconds))
    violations = sum(len(result.violations) for result in bad)
    return (
        f"{len(results)} seeds{span} in {took}, {sum(result.commands for result in results)} commands, "
        f"{sum(_count(results, True).values())} faults struck, {violations} violations in {len(bad)} seeds"
    )


def _count(results: Sequence[Result], has_hit: bool) -> Counter[str]:
    return Counter(each.kind for result in results for each in result.struck if each.has_hit is has_hit)
