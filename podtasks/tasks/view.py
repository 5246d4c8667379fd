"""Showing a run's log and how it ended, for `inv train` and `inv logs`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.exceptions import Exit

from podtasks.tasks.entry import INTERRUPTED, Project

if TYPE_CHECKING:
    from podtasks.flows.cloud import Cloud
    from podtasks.flows.follow import Outcome
    from podtasks.flows.launched import Launched


def watch_run(project: Project, account: Cloud, launched: Launched) -> Outcome:
    """Stream the run's log and return how it ended, having said so.

    Raises Exit when the user closes the view, which does not touch the training.
    """
    from podtasks.doors.console import write_log
    from podtasks.flows.train import watch
    from podtasks.pure.reasons import describe_reason

    try:
        outcome = watch(launched, account, project.files, write_log, project.console, project.clock)
    except (KeyboardInterrupt, BrokenPipeError):
        raise Exit(
            "\nview closed; training goes on and the pod stops itself at its end. "
            "inv logs comes back to it, inv stop ends it.",
            code=INTERRUPTED,
        ) from None
    why = describe_reason(outcome.reason) or "done"
    project.console.step(f"run {launched.run.run_id}: {why}, exit code {outcome.code_text}")
    return outcome


def tell_pod_end(project: Project, account: Cloud, launched: Launched, outcome: Outcome) -> None:
    """Say what became of the pod after its run, and where the outputs are."""
    from podtasks.flows.left_behind import see_pod_end
    from podtasks.flows.stopping import SELF_STOP_S, STOP_WAIT_S, confirm_stopped
    from podtasks.pure.amounts import format_duration

    pod, run, console = launched.pod, launched.run, project.console
    may_be_kept = run.keep_failed_s > 0 and outcome.exit_code != 0
    if run.when_done == "keep":
        console.note(f"pod {pod.id} is kept and billed at ${pod.usd_per_hour:.2f}/h: inv stop")
    elif confirm_stopped(account, pod, project.clock, timeout_s=SELF_STOP_S if may_be_kept else STOP_WAIT_S):
        console.step(f"pod {pod.id} has stopped{_where_outputs_are(outcome, run.output_dir)}")
    elif may_be_kept:
        console.note(
            f"pod {pod.id} is kept for a look, as on_failure asks, and billed at ${pod.usd_per_hour:.2f}/h: it stops "
            f"itself after {format_duration(run.keep_failed_s)}. inv ssh looks into it, inv stop ends it"
        )
    elif see_pod_end(account, pod.id, run.when_done, console, project.clock, timeout_s=0):
        console.step(f"pod {pod.id} has stopped{_where_outputs_are(outcome, run.output_dir)}")
    else:
        console.note(f"pod {pod.id} has not stopped yet, and keeps trying: inv status, or inv stop --now")
    if account.volume_folder is not None and not outcome.never_trained:
        console.note(f"on this machine: {account.volume_folder}{run.output_dir.removeprefix(pod.mount_path)}")


def _where_outputs_are(outcome: Outcome, output_dir: str | None) -> str:
    """Return where a run's outputs are, as far as it can have any."""
    if outcome.never_trained:
        return ""
    what = "outputs are" if outcome.exit_code == 0 else "what it wrote is"
    return f"; {what} on its volume: {output_dir}"
