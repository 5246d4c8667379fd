"""Whether a training that is to be kept going is done, goes on, is started again or given up: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass, replace

from podtasks.pure.amounts import format_duration, format_usd
from podtasks.pure.chain import Chain, FailedAt
from podtasks.pure.reasons import describe_reason
from podtasks.pure.run_facts import STALLED, Ending, RunFacts, classify
from podtasks.pure.signs import Life

# Less than that is not worth a pod's start.
LEAST_LEFT_S = 60.0


@dataclass(frozen=True)
class Done:
    """The training is over, well or by a person's will; `exit_code` is its own."""

    exit_code: int | None
    reason: str


@dataclass(frozen=True)
class Wait:
    """There is nothing to do yet."""

    reason: str


@dataclass(frozen=True)
class Relaunch:
    """The training is to be started again, as a run that has `chain`."""

    reason: str
    chain: Chain


@dataclass(frozen=True)
class GiveUp:
    """The training ended badly and nobody starts it again; `was_lost`: nothing on the pod could tell of it."""

    reason: str
    next_step: str
    exit_code: int | None
    was_lost: bool


Decision = Done | Wait | Relaunch | GiveUp


def decide(run: RunFacts, life: Life) -> Decision:
    """Return what is to be done about the newest run; `life` counts only where its end is not known."""
    ending = classify(run)
    if ending is Ending.NONE and life is not Life.LOST:
        return Wait("it runs" if life is Life.ALIVE else "it cannot be told whether it runs")
    if ending is Ending.NONE and run.reason:
        ending = classify(replace(run, has_ended=True))
    if ending in (Ending.FINISHED, Ending.BY_A_PERSON):
        return Done(run.exit_code, describe_reason(run.reason) or "finished")
    chain = _count(run, ending)
    problem = _find_problem(run, ending, chain)
    if problem is None:
        return Relaunch(_describe(run, ending), chain)
    what, next_step = problem
    return GiveUp(f"{_describe(run, ending)}; {what}", next_step, run.exit_code, _nobody_told(run, ending))


def hours_left(chain: Chain) -> float:
    """Return how many hours all runs together may still take."""
    return chain.max_hours - chain.used_hours


def usd_left(chain: Chain) -> float | None:
    """Return how many US dollars they may still cost, None without a limit."""
    return None if chain.max_cost_usd is None else chain.max_cost_usd - chain.used_usd


def describe_use(chain: Chain) -> str:
    """Return what the runs of a chain took so far, for people."""
    return f"{format_usd(chain.used_usd)} and {format_duration(chain.used_hours * 3600)} so far"


def _count(run: RunFacts, ending: Ending) -> Chain:
    """Return the chain that a run after this one has."""
    failed = ending in (Ending.FAILED, Ending.UNTRAINED)
    return replace(
        run.chain,
        restarts=run.chain.restarts + 1,
        used_hours=run.chain.used_hours + run.used_hours,
        used_usd=run.chain.used_usd + run.used_usd,
        last_failure=FailedAt(run.step, run.checkpoint_step, ending is Ending.FAILED) if failed else None,
    )


def _find_problem(run: RunFacts, ending: Ending, chain: Chain) -> tuple[str, str] | None:
    """Return why there is to be no further run, and what a person can do; None where there may be one."""
    raise_it = "raise {0} in invoke.yaml, then inv train --until-done goes on from the newest checkpoint"
    if run.reason == "max_hours" or hours_left(chain) * 3600 < LEAST_LEFT_S:
        return f"the {chain.max_hours:g} h of max_hours are used up", raise_it.format("max_hours")
    left_usd = usd_left(chain)
    if run.reason == "max_cost_usd" or (left_usd is not None and left_usd <= run.price * LEAST_LEFT_S / 3600):
        limit = "" if chain.max_cost_usd is None else f"the {format_usd(chain.max_cost_usd)} of "
        return f"{limit}max_cost_usd are used up", raise_it.format("max_cost_usd")
    if ending is Ending.FAILED and run.is_whole and _is_the_same(run):
        return f"it failed again {_where(run)}", "inv logs shows why; mend that, then inv train --until-done"
    if ending is Ending.UNTRAINED and run.chain.last_failure is not None and not run.chain.last_failure.trained:
        return "so did the run before it", "inv logs shows why; mend that, then inv train --until-done"
    if chain.restarts > chain.max_restarts:
        return f"it was started again {run.chain.restarts} times (max_restarts)", raise_it.format("max_restarts")
    return None


def _is_the_same(run: RunFacts) -> bool:
    """Return whether the run before failed by itself at the same step, or checkpoint where no step is known."""
    before = run.chain.last_failure
    if before is None or not before.trained:
        return False
    if run.step is not None and before.step is not None:
        return run.step == before.step
    return run.checkpoint_step == before.checkpoint_step


def _where(run: RunFacts) -> str:
    before = run.chain.last_failure
    if run.step is not None and before is not None and before.step is not None:
        return f"at step {run.step}"
    return "from the same checkpoint" if run.checkpoint_step is not None else "from a fresh start"


def _describe(run: RunFacts, ending: Ending) -> str:
    """Return what became of a run, for people."""
    if ending is Ending.NONE:
        return f"run {run.run_id} was lost with its pod"
    if ending is Ending.FAILED:
        step = "" if run.step is None else f" at step {run.step}"
        if run.reason == STALLED:
            return f"run {run.run_id} stalled{step}"
        return f"run {run.run_id} failed{step} with exit code {run.exit_code}"
    return f"run {run.run_id}: {describe_reason(run.reason)}"


def _nobody_told(run: RunFacts, ending: Ending) -> bool:
    """Return whether nothing on the pod could tell of the end: the pod tells of every end that it records itself."""
    return ending is Ending.NONE or (ending is Ending.LOST and run.exit_code is None)
