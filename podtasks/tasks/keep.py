"""Keeping a training going, for `inv train --until-done` and `inv watch`."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from invoke.exceptions import Exit

from podtasks.pure.errors import OutcomeUnknownError
from podtasks.tasks.entry import INTERRUPTED, Project
from podtasks.tasks.view import tell_pod_end

if TYPE_CHECKING:
    from collections.abc import Callable

    from podtasks.flows.cloud import Cloud
    from podtasks.flows.follow import Outcome
    from podtasks.flows.keep_going import Finish, Keeper
    from podtasks.flows.launched import Launched
    from podtasks.flows.relaunch import Ground
    from podtasks.flows.watched import Watched
    from podtasks.pure.chain import Chain
    from podtasks.pure.recovery import GiveUp


def make_ground(project: Project, account: Cloud) -> Ground:
    """Return what keeping a training going stands on here."""
    from podtasks.flows.relaunch import Ground

    return Ground(
        replace(account, must_remember=False),
        project.settings,
        project.files,
        project.console,
        project.clock,
        project.effective.require_secrets,
        time.time,
    )


def make_keeper(ground: Ground, bounds: Chain | None, show: Callable[[bytes], None]) -> Keeper:
    """Return what keeps a training going; `bounds` are for a run that has none of its own."""
    from podtasks.flows.keep_going import Keeper
    from podtasks.flows.watch import tell_loss

    return Keeper(ground, bounds, show, lambda watched, decision: tell_loss(ground, watched, decision))


def keep(keeper: Keeper, watched: Watched) -> Finish:
    """Stay with a training to its end. Raises Exit when the user ends that, which does not touch the training."""
    try:
        return keeper.keep(watched)
    except (KeyboardInterrupt, BrokenPipeError):
        raise Exit(
            "\nno longer watching; a training that runs goes on and its pod stops itself at its end, one without a "
            "training within its grace time; nobody starts it again until inv watch does. inv logs shows it, inv stop "
            "ends it.",
            code=INTERRUPTED,
        ) from None


def tell_finish(project: Project, account: Cloud, finish: Finish) -> tuple[Launched | None, Outcome]:
    """Say how a training that was kept going ended; return its last run, and its outcome."""
    from podtasks.flows.follow import Outcome
    from podtasks.flows.launched import Launched
    from podtasks.pure.reasons import describe_reason

    watched, outcome = finish.watched, finish.outcome or Outcome(finish.decision.exit_code, finish.decision.reason)
    why = describe_reason(outcome.reason) or "done"
    project.console.step(f"run {watched.run_id}: {why}, exit code {outcome.code_text}")
    if watched.run is None or watched.pod is None:
        return None, outcome
    launched = Launched(watched.pod, watched.run)
    tell_pod_end(project, account, launched, outcome)
    return launched, outcome


def given_up(decision: GiveUp, *, means: str) -> OutcomeUnknownError:
    """Return the error for a training that nobody starts again, with the training's own exit code."""
    error = OutcomeUnknownError(
        f"The training is given up: {decision.reason}.", means=means, next_step=decision.next_step
    )
    if decision.exit_code:
        error.exit_code = decision.exit_code
    return error
