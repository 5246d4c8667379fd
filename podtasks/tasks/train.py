"""`inv train`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.tasks.entry import INTERRUPTED, Project, open_project, task

if TYPE_CHECKING:
    from podtasks.flows.cloud import Cloud
    from podtasks.flows.follow import Outcome
    from podtasks.flows.preflight import TrainRequest
    from podtasks.flows.train import Launched
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
    "yes": "do not ask before a pod is rented",
    "keep": "the same as --when-done keep",
    "when-done": "what becomes of the pod at the end: stop, terminate or keep",
    "cloud": "where to train: auto, runpod or local",
}


@task(help=HELP, iterable=["gpu"])
def train(
    c: Context,
    config: str = "",
    force_restart: bool = False,
    resume_from: str = "",
    branch: str = "",
    gpu: list[str] | None = None,
    args: str = "",
    code: str = "",
    dry_run: bool = False,
    follow: bool = True,
    yes: bool = False,
    keep: bool = False,
    when_done: str = "",
    cloud: str = "",
) -> None:
    """Train on a rented GPU: pod, code, newest checkpoint, log, and the pod stops itself.

    Ctrl+C closes the view only; training goes on. The exit code is the training's own.
    """
    from podtasks.flows.preflight import TrainRequest

    flags = {
        "gpu": gpu,
        "args": args,
        "code": code,
        "when_done": when_done or ("keep" if keep else ""),
        "cloud": cloud,
    }
    project = open_project(c, flags)
    request = TrainRequest(config, force_restart, resume_from or None, branch or None)
    plan, account = _plan(project, request)
    project.console.tell(_render(plan))
    if not dry_run:
        _require_consent(project, plan, account, yes)
        launched = _launch(project, plan, account)
        if follow:
            _finish(project, plan, account, launched, _watch(project, account, launched))
        else:
            launched.close()
            project.console.tell(f"training: {launched.run.run_id}. inv logs follows it, inv stop ends it.")


def _plan(project: Project, request: TrainRequest) -> tuple[Plan, Cloud]:
    import datetime

    from podtasks.doors.runpod_sdk import import_in_background
    from podtasks.flows.preflight import make_plan

    import_in_background()
    free = project.introduce_cloud()
    now = datetime.datetime.now(datetime.timezone.utc)
    return make_plan(request, project.settings, project.files, project.open_cloud, now, cloud_is_free=free)


def _render(plan: Plan) -> str:
    from podtasks.pure.plan import render

    return render(plan)


def _require_consent(project: Project, plan: Plan, account: Cloud, yes: bool) -> None:
    """Ask before a pod is rented or resumed on RunPod, where somebody can answer."""
    from podtasks.pure.pod import PodStatus

    runs_already = plan.pod is not None and plan.pod.status is PodStatus.RUNNING
    if yes or account.is_local or runs_already:
        return
    if not project.console.confirm("Go ahead?"):
        raise Exit("Nothing was rented.", code=INTERRUPTED)


def _launch(project: Project, plan: Plan, account: Cloud) -> Launched:
    from podtasks.doors.local_git import find_root
    from podtasks.flows.train import start_training

    try:
        root = find_root(project.files.root)
        return start_training(plan, account, root, project.files, project.console, project.clock)
    except KeyboardInterrupt:
        raise Exit(
            f"\ninterrupted before training was launched. A pod that was made stops itself within "
            f"{plan.grace_minutes:g} minutes; inv stop does it now, inv train goes on.",
            code=INTERRUPTED,
        ) from None


def _watch(project: Project, account: Cloud, launched: Launched) -> Outcome:
    from podtasks.doors.console import write_log
    from podtasks.flows.train import watch

    try:
        return watch(launched, account, project.files, write_log, project.console, project.clock)
    except (KeyboardInterrupt, BrokenPipeError):
        raise Exit(
            "\nview closed; training goes on and the pod stops itself at its end. "
            "inv logs comes back to it, inv stop ends it.",
            code=INTERRUPTED,
        ) from None


def _finish(project: Project, plan: Plan, account: Cloud, launched: Launched, outcome: Outcome) -> None:
    """Say how it ended and what became of the pod, and end with the training's exit code."""
    from podtasks.flows.stopping import confirm_stopped
    from podtasks.pure.errors import OutcomeUnknownError

    code = "unknown" if outcome.exit_code is None else outcome.exit_code
    project.console.step(f"run {launched.run.run_id} ended: {outcome.reason or 'done'}, exit code {code}")
    if plan.launch.when_done == "keep":
        project.console.note(
            f"pod {launched.pod.id} is kept and billed at ${launched.pod.usd_per_hour:.2f}/h: inv stop"
        )
    elif confirm_stopped(account, launched.pod, project.clock):
        project.console.step(f"pod {launched.pod.id} has stopped; outputs are on its volume: {plan.launch.output_dir}")
        if account.volume_folder is not None:
            project.console.note(f"the local cloud's volume is {account.volume_folder}")
    else:
        project.console.note(
            f"pod {launched.pod.id} has not stopped yet, and keeps trying: inv status, or inv stop --now"
        )
    if outcome.exit_code != 0:
        raise Exit(code=OutcomeUnknownError.exit_code if outcome.exit_code is None else outcome.exit_code)
