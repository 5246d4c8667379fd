"""The question before money is spent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.exceptions import Exit

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
