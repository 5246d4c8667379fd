"""Problems found by independent checks, told all at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from podtasks.pure.errors import PodtasksError, combine

Result = TypeVar("Result")


class Findings:
    """Collects the problems of independent checks, so that the user hears of all at once."""

    def __init__(self) -> None:
        self._problems: list[PodtasksError] = []

    def check(self, check: Callable[[], Result]) -> Result | None:
        """Return what `check` returns, None when it raised one of our errors, which is kept."""
        try:
            return check()
        except PodtasksError as error:
            self.add(error)
            return None

    def add(self, problem: PodtasksError) -> None:
        """Keep a problem."""
        self._problems.append(problem)

    def raise_any(self) -> None:
        """Raise all problems found, as one."""
        if self._problems:
            raise combine(self._problems)
