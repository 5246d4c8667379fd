"""`inv train`."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.pure.amounts import format_minutes
from podtasks.pure.errors import OutcomeUnknownError, UsageError
from podtasks.tasks.consent import require_consent
from podtasks.tasks.entry import INTERRUPTED, Project, open_project, task
from podtasks.tasks.view import tell_pod_end, watch_run

if TYPE_CHECKING:
    from podtasks.flows.cloud import Cloud
    from podtasks.flows.follow import Outcome
    from podtasks.flows.launched import Launched
    from podtasks.flows.preflight import TrainRequest
    from podtasks.pure.plan import Plan

HELP = {
    "config": "the training configuration, such as configs/digits.yaml",
    "force-restart": "ignore existing checkpoints; they are moved aside, not deleted",
    "resume-from": "resume from this checkpoint instead of the newest complete one",
    "branch": "the branch to train (default: the setting `branch`, or the one you are on)",
    "gpu": "GPU type; repeat it to give several in your order",
    "args": "more arguments for the training script, such as --args '--debug'",
    "code": "where the code comes from: origin, local or snapshot",
    "dry-run": "print the plan and stop",
    "follow": "stream the log (--no-follow: return once training runs)",
    "until-done": "start a lost or failed training again until it is done, within max_restarts and the other limits",
    "yes": "do not ask before a pod is rented",
    "keep": "the same as --when-done keep",
    "when-done": "what becomes of the pod at the end: stop, terminate or keep",
    "max-hours": "hours the run may take (the setting max_hours)",
    "max-cost": "US dollars it may cost at its pod's price (the setting max_cost_usd)",
    "cloud": "where to train: auto, runpod or local",
}


@task(help=HELP, iterable=["gpu"])
def train(
    c: Context,
    config: str = "",
    force_restart: bool = False,
    resume_from: str | None = None,
    branch: str = "",
    gpu: list[str] | None = None,
    args: str = "",
    code: str = "",
    dry_run: bool = False,
    follow: bool = True,
    until_done: bool = False,
    yes: bool = False,
    keep: bool = False,
    when_done: str = "",
    max_hours: str = "",
    max_cost: str = "",
    cloud: str = "",
) -> None:
    """Train on a rented GPU: pod, code, newest checkpoint, log, and the pod stops itself.

    Ctrl+C closes the view only; training goes on. The exit code is the training's own.
    """
    from podtasks.flows.preflight import TrainRequest

    flags = _settings_flags(gpu, args, code, when_done, keep, cloud)
    project = open_project(c, {**flags, "max_hours": max_hours, "max_cost": max_cost})
    if resume_from == "":
        raise UsageError("--resume-from is empty.", next_step="name a checkpoint, or leave the flag out")
    request = TrainRequest(project.files.name_from_here(config), force_restart, resume_from, branch or None)
    plan, account = _plan(project, request)
    if until_done:
        plan = _keep_going(project, plan)
    project.console.tell(_render(plan))
    if dry_run:
        return
    require_consent(project, plan, account, yes=yes)
    launched = _launch(project, plan, account)
    if follow and until_done:
        _follow_until_done(project, account, launched)
    elif follow:
        _follow(project, account, launched)
    else:
        launched.close()
        more = " inv watch keeps it going: nobody starts it again without." if until_done else ""
        project.console.tell(f"training: {launched.run.run_id}. inv logs follows it, inv stop ends it.{more}")


def _settings_flags(
    gpu: list[str] | None, args: str, code: str, when_done: str, keep: bool, cloud: str
) -> dict[str, object]:
    """Return the flags that stand for settings, by the settings' names."""
    if keep and when_done not in ("", "keep"):
        raise UsageError(
            f"--keep and --when-done {when_done} contradict each other.",
            means="No pod was created.",
            next_step="give one of them",
        )
    chosen = "keep" if keep else when_done
    return {"gpu": gpu, "args": args, "code": code, "when_done": chosen, "cloud": cloud}


def _plan(project: Project, request: TrainRequest) -> tuple[Plan, Cloud]:
    import datetime

    from podtasks.doors.runpod_sdk import import_in_background
    from podtasks.flows.preflight import make_plan

    import_in_background()
    free = project.introduce_cloud()
    now = datetime.datetime.now(datetime.timezone.utc)
    return make_plan(
        request,
        project.settings,
        project.files,
        project.open_cloud,
        now,
        cloud_is_free=free,
        require_secrets=project.effective.require_secrets,
    )


def _keep_going(project: Project, plan: Plan) -> Plan:
    """Return the plan of a training that is to be kept going."""
    from podtasks.flows.watch import bounds_of

    chain = bounds_of(project.settings)
    cost = "" if chain.max_cost_usd is None else f" and ${chain.max_cost_usd:g}"
    note = (
        f"Kept going until it is done, while this command or inv watch runs: at most {chain.max_restarts} restarts, "
        f"{chain.max_hours:g} h{cost} in all."
    )
    return replace(plan, launch=replace(plan.launch, chain=chain), notes=(*plan.notes, note))


def _render(plan: Plan) -> str:
    from podtasks.pure.plan import render

    return render(plan)


def _launch(project: Project, plan: Plan, account: Cloud) -> Launched:
    from podtasks.doors.local_git import find_root
    from podtasks.flows.train import start_training

    try:
        root = find_root(project.files.root)
        return start_training(plan, account, root, project.files, project.console, project.clock)
    except KeyboardInterrupt:
        raise Exit(
            f"\ninterrupted while launching. A pod without a training stops itself within "
            f"{format_minutes(plan.grace_minutes)}. inv status says how it stands, inv stop stops it, inv train "
            "goes on.",
            code=INTERRUPTED,
        ) from None


def _follow(project: Project, account: Cloud, launched: Launched) -> None:
    """Show the run to its end, and end with the training's exit code."""
    outcome = watch_run(project, account, launched)
    tell_pod_end(project, account, launched, outcome)
    _end_with(project, account, launched, outcome)


def _follow_until_done(project: Project, account: Cloud, launched: Launched) -> None:
    """Show the run, and those that follow it, until the training is done; end with its exit code."""
    from podtasks.doors.console import write_log
    from podtasks.flows.watch import bounds_of
    from podtasks.pure.recovery import GiveUp
    from podtasks.tasks.keep import given_up, keep, make_ground, make_keeper, tell_finish

    bounds = bounds_of(project.settings, launched.run.run_id)
    if launched.chain is None:
        project.console.note("this run was launched without --until-done: only this command keeps it going")
    keeper = make_keeper(make_ground(project, account), None, write_log)
    finish = keep(keeper, keeper.take(launched, launched.chain or bounds))
    last, outcome = tell_finish(project, account, finish)
    if isinstance(finish.decision, GiveUp):
        raise given_up(finish.decision, means="What it wrote is on the volume.")
    _end_with(project, account, last, outcome)


def _end_with(project: Project, account: Cloud, launched: Launched | None, outcome: Outcome) -> None:
    """Say what comes next, and end with the training's exit code."""
    from podtasks.pure.reasons import is_for_want_of_space

    if launched is not None:
        _tell_cost(project, account, launched)
    if outcome.never_trained:
        project.console.note("nothing was trained: mend what the log names, then give the same command again")
    elif outcome.exit_code != 0:
        if is_for_want_of_space(outcome.reason):
            project.console.note("the volume is full: inv storage shows what lies on it, inv storage clean frees space")
        project.console.note(
            "the same command, without --force-restart or --resume-from, goes on from the newest checkpoint, "
            "if one was written"
        )
    if outcome.exit_code != 0:
        raise Exit(code=OutcomeUnknownError.exit_code if outcome.exit_code is None else outcome.exit_code)


def _tell_cost(project: Project, account: Cloud, launched: Launched) -> None:
    """Say what the pod cost from the command that launched the run, whose time is in its id, until now."""
    from podtasks.pure.amounts import format_about, format_duration
    from podtasks.pure.run_ids import made_at

    began = made_at(launched.run.run_id)
    if began is not None:
        lasted_s = max(0.0, time.time() - began)
        price = launched.pod.usd_per_hour
        told = "on RunPod it would have cost" if account.is_local else "it cost"
        cost = format_about(lasted_s / 3600 * price)
        project.console.step(f"{told} {cost}: {format_duration(lasted_s)} at ${price:.2f}/h")
