"""`inv start`, `inv ssh`, `inv attach`: a person on the pod."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.doors.console import write_result
from podtasks.pure.amounts import format_minutes
from podtasks.pure.errors import UsageError
from podtasks.tasks.consent import require_consent
from podtasks.tasks.entry import INTERRUPTED, Project, open_project, task
from podtasks.tasks.results import CLOUD_HELP

if TYPE_CHECKING:
    from podtasks.flows.cloud import Cloud
    from podtasks.flows.start import StartedPod
    from podtasks.pure.plan import PodPlan

DETACH = (
    "attached to the training's terminal. Ctrl+B, then D, leaves it; closing the window ends nothing. "
    "Ctrl+C in it ends the run, as inv stop does."
)


@task(
    help={
        **CLOUD_HELP,
        "gpu": "GPU type; repeat it to give several in your order",
        "yes": "do not ask before a pod is rented",
    },
    iterable=["gpu"],
)
def start(c: Context, gpu: list[str] | None = None, yes: bool = False, cloud: str = "") -> None:
    """Start a pod with no run on it. It stops itself when its grace time is over; asked again, it gets more."""
    project = open_project(c, {"gpu": gpu, "cloud": cloud})
    plan, account = _plan(project)
    project.console.tell(_render(plan))
    require_consent(project, plan, account, yes=yes)
    started = _start(project, plan, account)
    write_result(_describe(started))
    project.console.tell(_describe_end(started, plan))


@task(
    help={
        **CLOUD_HELP,
        "command": "what to run, as words after the task; one word may be a whole shell line. None: a shell",
    },
    words="command",
    takes_rest=True,
)
def ssh(c: Context, command: list[str] | None = None, cloud: str = "") -> None:
    """Open a shell on the pod, or run a command there: in the clone, with the training's environment and venv.

    The exit code is the command's own.
    """
    from podtasks.doors.ssh_program import become, is_terminal
    from podtasks.flows.visit import prepare_shell
    from podtasks.pure.visit import join_words, put_back_dashes

    project = open_project(c, {"cloud": cloud})
    account = _require_cloud(project)
    line = join_words(put_back_dashes(command or [], sys.argv))
    become(prepare_shell(account, project.settings, project.files, project.console, line, tty=is_terminal()))


@task(help=CLOUD_HELP)
def attach(c: Context, cloud: str = "") -> None:
    """Attach this terminal to the training's own, the tmux session train; Ctrl+B, then D, leaves it."""
    from podtasks.doors.ssh_program import become
    from podtasks.flows.visit import prepare_attach

    project = open_project(c, {"cloud": cloud})
    words = prepare_attach(_require_cloud(project), project.settings, project.files)
    project.console.tell(DETACH)
    become(words)


def _require_cloud(project: Project) -> Cloud:
    account = project.open_existing_cloud()
    if account is None:
        raise UsageError("No pod runs.", next_step="inv start starts a pod, inv train a training")
    return account


def _plan(project: Project) -> tuple[PodPlan, Cloud]:
    from podtasks.doors.runpod_sdk import import_in_background
    from podtasks.flows.start import make_pod_plan

    import_in_background()
    project.introduce_cloud()
    return make_pod_plan(project.settings, project.open_cloud)


def _render(plan: PodPlan) -> str:
    from podtasks.pure.plan import render_pod

    return render_pod(plan)


def _start(project: Project, plan: PodPlan, account: Cloud) -> StartedPod:
    from podtasks.flows.start import start_pod

    try:
        return start_pod(plan, account, project.files, project.console, project.clock)
    except KeyboardInterrupt:
        raise Exit(
            f"\ninterrupted. A pod that was started stops itself within {format_minutes(plan.grace_minutes)}. "
            "inv status says how it stands, inv stop stops it.",
            code=INTERRUPTED,
        ) from None


def _describe(started: StartedPod) -> str:
    pod = started.pod
    rows = [
        ("pod", pod.id),
        ("gpu", f"{pod.gpu_count} x {pod.gpu}"),
        ("price", f"${pod.usd_per_hour:.2f}/h"),
        ("ssh", str(pod.ssh)),
    ]
    return "\n".join(f"{name:<6} {text}" for name, text in rows)


def _describe_end(started: StartedPod, plan: PodPlan) -> str:
    if started.run_id:
        return f"run {started.run_id} is on this pod, which ends with it. inv logs follows it; inv attach, inv ssh."
    if started.hours_left is not None:
        return f"the pod was kept: it stops itself in {started.hours_left:.1f} h. inv stop stops it now."
    return (
        f"the pod stops itself in {format_minutes(plan.grace_minutes)} unless a training is launched: inv train. "
        "inv ssh opens a shell, inv start again gives it more time, inv stop stops it now."
    )
