"""What `inv doctor` found, one value for each thing it looked at."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from podtasks.pure.errors import PodtasksError, SettingsError, SeveralProblemsError


class State(enum.Enum):
    """How a precondition stands: fine, worth knowing, or in the way of `inv train`."""

    FINE = "ok"
    REMARK = "warning"
    PROBLEM = "problem"


SYMBOLS = {State.FINE: "\u2713", State.REMARK: "!", State.PROBLEM: "\u2717"}
PLAIN_SYMBOLS = {State.FINE: "+", State.REMARK: "!", State.PROBLEM: "x"}


@dataclass(frozen=True)
class Check:
    """One precondition.

    Args:
        name: what was looked at, in a word or two.
        state: how it stands.
        text: what was found, in one sentence without a full stop.
        next_step: what to type or change, "" where nothing need be.
        exit_code: what `inv doctor` ends with if this is its first problem.
    """

    name: str
    state: State
    text: str
    next_step: str = ""
    exit_code: int = SettingsError.exit_code


def fine(name: str, text: str) -> Check:
    """Return a check that found what it should."""
    return Check(name, State.FINE, text)


def remark(name: str, text: str, next_step: str = "") -> Check:
    """Return a check that found something to know, which stops nothing."""
    return Check(name, State.REMARK, text, next_step)


def problem(name: str, text: str, next_step: str, exit_code: int = SettingsError.exit_code) -> Check:
    """Return a check that found what would stop `inv train`."""
    return Check(name, State.PROBLEM, text, next_step, exit_code)


def as_checks(name: str, error: PodtasksError, *, stops: bool = True) -> list[Check]:
    """Return what an error of ours says, one check for each of several found together."""
    errors = error.problems if isinstance(error, SeveralProblemsError) else [error]
    state = State.PROBLEM if stops else State.REMARK
    return [Check(name, state, each.what.rstrip("."), each.next_step, each.exit_code) for each in errors]


def exit_code(checks: Sequence[Check]) -> int:
    """Return 0 where nothing would stop `inv train`, else the first problem's exit code."""
    return next((check.exit_code for check in checks if check.state is State.PROBLEM), 0)


def render(checks: Sequence[Check], *, plain: bool) -> list[str]:
    """Return a line for each check, and one more where there is something to do.

    Args:
        plain: whether only ASCII can be shown.
    """
    symbols = PLAIN_SYMBOLS if plain else SYMBOLS
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        first, *more = check.text.splitlines() or [""]
        lines.append(f"{symbols[check.state]} {check.name:<{width}}  {first}")
        lines += [f"  {'':<{width}}  {line}" for line in more]
        if check.next_step:
            lines.append(f"  {'':<{width}}  Next: {check.next_step}")
    return lines


def summarize(checks: Sequence[Check]) -> str:
    """Return how it stands, in a sentence."""
    count = sum(check.state is State.PROBLEM for check in checks)
    if count == 0:
        return "nothing would stop inv train"
    return "one problem would stop inv train" if count == 1 else f"{count} problems would stop inv train"


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as docs/json.md describes them."""
    return {
        "is_ready": exit_code(checks) == 0,
        "checks": [
            {
                "name": check.name,
                "state": check.state.value,
                "text": check.text,
                "next_step": check.next_step or None,
                "exit_code": check.exit_code if check.state is State.PROBLEM else None,
            }
            for check in checks
        ],
    }
