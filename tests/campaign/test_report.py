"""The report says what was played, what struck and what was violated."""

from __future__ import annotations

import json

from tests.campaign import report
from tests.campaign.invariants import Violation
from tests.campaign.report import Result, Struck
from tests.campaign.schedule import Moment, Plan, PlannedStrike


def result(seed: int, struck: tuple[Struck, ...], violations: tuple[Violation, ...] = ()) -> Result:
    strikes = (PlannedStrike("cli/kill", Moment("step", 3), 0, 1),)
    plan = Plan(seed, 6.0, 25.0, "stop", True, False, False, False, 0.0, strikes)
    return Result(plan, 2.0, struck, 3, violations, ("   0.10 s  inv train",))


RESULTS = [
    result(5, (Struck("cli/kill", True, "SIGKILL"), Struck("api/null", False, "no call"))),
    result(6, (Struck("cli/kill", True, "SIGKILL"),), (Violation(3, "line 4 is 2 times in the log"),)),
]


def test_text_has_figures_kinds_and_the_timeline_of_violations_only() -> None:
    text = report.as_text(RESULTS, 61.0)
    assert "2 seeds (5 to 6) in 0:01:01, 6 commands, 2 faults struck, 1 violations in 1 seeds" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["cli/kill", "2", "(0)"] in rows and ["api/null", "0", "(1)"] in rows
    assert "VIOLATION in seed 6, invariant 3: line 4 is 2 times in the log" in text
    assert text.count("inv train") == 1 and "planned: cli/kill at step 3, command 1" in text


def test_json_has_the_same() -> None:
    told = json.loads(report.as_json(RESULTS, 61.04))
    assert (told["seeds"], told["seconds"], told["commands"]) == (2, 61.0, 6)
    assert (told["struck"], told["missed"]) == ({"cli/kill": 2}, {"api/null": 1})
    [violation] = told["violations"]
    assert (violation["seed"], violation["invariant"]) == (6, 3)
    assert violation["timeline"] == ["   0.10 s  inv train"]


def test_timeline_is_in_the_order_of_time() -> None:
    lines = report.write_timeline(100.0, [(101.5, "second"), (100.25, "first")])
    assert lines == ("   0.25 s  first", "   1.50 s  second")
