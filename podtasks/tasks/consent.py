"""The questions before money is spent and before files are deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.exceptions import Exit

from podtasks.pure.errors import UsageError
from podtasks.tasks.entry import INTERRUPTED, Project

if TYPE_CHECKING:
    from podtasks.flows.cloud import Cloud
    from podtasks.pure.plan import PodPlan


def require_consent(project: Project, plan: PodPlan, account: Cloud, *, yes: bool) -> None:
    """Ask before a pod is rented or resumed on RunPod, where somebody can answer."""
    if yes or account.is_local or plan.runs_already:
        return
    if not project.console.confirm("Go ahead?", default=True):
        raise Exit("Nothing was rented.", code=INTERRUPTED)


def require_leave_to_rent(project: Project, yes: bool) -> None:
    """Ask before a CPU pod is rented, where somebody can answer. Raises Exit for no."""
    if not yes and not project.console.confirm("Go ahead?", default=True):
        raise Exit("Nothing was rented.", code=INTERRUPTED)


def require_answers(project: Project, *, means: str, example: str) -> None:
    """Raise UsageError where nobody could answer whether something may be deleted; `example` does not ask."""
    if not project.console.can_ask():
        raise UsageError(
            "There is nobody to ask whether anything may be deleted.",
            means=means,
            next_step=f"{example} deletes without asking",
        )


def confirm_deletion(project: Project, question: str) -> bool:
    """Ask before something is deleted and return the answer, no by default. Raises UsageError as `require_answers`."""
    require_answers(project, means="Nothing of this was deleted.", example="the same command with --yes")
    return project.console.confirm(question, default=False)
