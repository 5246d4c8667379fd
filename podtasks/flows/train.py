"""The main story: from a plan to a training that runs, is watched, and whose pod stops itself."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from podtasks.doors import ssh
from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import run_copies
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import build_login, connect
from podtasks.flows.follow import RECONNECT_LIMIT_S, LogView, Outcome
from podtasks.flows.launch import PodHeldError, launch_training, launcher_name
from podtasks.flows.launched import Launched
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.pods import OurPod, ensure_pod
from podtasks.flows.rent import build_request
from podtasks.flows.stopping import confirm_stopped, stop_quietly
from podtasks.flows.watch_notes import WatchNotes
from podtasks.flows.watched import record_of
from podtasks.pure.chain import parse_chain
from podtasks.pure.errors import (
    CodeError,
    PodFailedError,
    PodtasksError,
    RemoteCommandError,
    TransportError,
    UsageError,
)
from podtasks.pure.plan import Plan
from podtasks.pure.pod import Pod
from podtasks.pure.run import Launch, Run, find_differences, parse_run
from podtasks.pure.run_ids import made_at

LAUNCH_TRIES = 3


def start_training(
    plan: Plan,
    cloud: Cloud,
    root: Path,
    files: ProjectFiles,
    report: Reporter,
    clock: Clock,
    *,
    settle: Callable[[Launch, Pod, ssh.PodShell], Launch] = lambda launch, _pod, _shell: launch,
) -> Launched:
    """Get the pod, put the code on it and launch; or find the same configuration already training.

    A pod that goes away meanwhile (its last run has just ended, say) is replaced and the launch tried again.
    `settle` has the last word on what is launched once the pod answers; it raises NotNeededError for nothing.
    """
    for attempt in range(1, LAUNCH_TRIES + 1):
        with _alone(files, report):
            ours = ensure_pod(cloud, build_request(plan), report, clock)
            try:
                launched = _launch_on(_with_nonce(plan), cloud, ours, root, report, clock, settle)
            except (PodFailedError, TransportError) as error:
                if attempt == LAUNCH_TRIES or not _went_away(cloud, ours.pod, error, clock):
                    raise
                report.note(f"pod {ours.pod.id} went away; trying again ({error.what})")
            else:
                _begin_copy(files, launched.run, report)
                # A watcher that cannot read the volume knows by this that an older run is not the newest.
                launched_at = made_at(launched.run.run_id) or 0.0
                WatchNotes(files, cloud.name).note_record(record_of(launched, launched.chain, launched_at))
                return launched
    raise AssertionError("the last try returns or raises")


class NotNeededError(PodtasksError):
    """What the volume tells, seen on the pod, makes a launch needless.

    Args:
        record: of the newest run there.
        is_alive: whether that run goes on.
    """

    def __init__(self, record: Mapping[str, Any], *, is_alive: bool) -> None:
        super().__init__(f"Run {record.get('run_id')} needs no restart.", next_step="inv watch")
        self.record = record
        self.is_alive = is_alive


@contextlib.contextmanager
def _alone(files: ProjectFiles, report: Reporter) -> Iterator[None]:
    """Keep other launches of this machine waiting, where its disk takes the lock; the pod's guard does in any case."""
    with contextlib.ExitStack() as stack:
        try:
            waiting = "another inv train is starting here; waiting for it"
            stack.enter_context(files.locked("launch", lambda: report.note(waiting)))
        except OSError as error:
            report.note(f"no lock against another inv train here: {error}")
        yield


def _went_away(cloud: Cloud, pod: Pod, error: PodtasksError, clock: Clock) -> bool:
    """Return whether a launch failed because its pod stopped under it, so that another try makes sense."""
    if isinstance(error, TransportError) and error.is_final:
        return False
    try:
        # A pod that is being stopped still reads as running for a moment.
        return confirm_stopped(cloud, pod, clock)
    except PodtasksError:
        return False


def _with_nonce(plan: Plan) -> Plan:
    """Return the plan with a run id that no other launch of the same second, and no earlier attempt, has."""
    run_id = f"{plan.launch.run_id}-{secrets.token_hex(2)}"
    chain = plan.launch.chain
    if chain is not None and chain.restarts == 0:
        chain = replace(chain, first_run=run_id)
    return replace(plan, launch=replace(plan.launch, run_id=run_id, chain=chain))


def watch(
    launched: Launched,
    cloud: Cloud,
    files: ProjectFiles,
    show: Callable[[bytes], None],
    report: Reporter,
    clock: Clock,
) -> Outcome:
    """Show the run's log until it ends, and return how it ended. Raises OutcomeUnknownError."""
    outcome = make_view(launched, cloud, files, show, report, clock).follow()
    note_end(files, launched.run, outcome, report)
    return outcome


def make_view(
    launched: Launched,
    cloud: Cloud,
    files: ProjectFiles,
    show: Callable[[bytes], None],
    report: Reporter,
    clock: Clock,
    *,
    first_byte: int | None = None,
    patience_s: float = RECONNECT_LIMIT_S,
) -> LogView:
    """Return a view of the run's log, which is also copied to this machine; `first_byte`, `patience_s` as LogView."""
    return LogView(
        cloud,
        launched.pod,
        build_login(cloud, launched.pod),
        launched.run,
        on_begin=launched.close,
        show=show,
        copy_path=_begin_copy(files, launched.run, report),
        report=report,
        clock=clock,
        first_byte=first_byte,
        patience_s=patience_s,
    )


def note_end(files: ProjectFiles, run: Run, outcome: Outcome, report: Reporter) -> None:
    """Remember on this machine how a run ended, if its disk takes that."""
    try:
        run_copies.finish(files, run, outcome.exit_code, outcome.reason)
    except OSError as error:
        report.note(f"the run's end is not noted here: {error}")


def _begin_copy(files: ProjectFiles, run: Run, report: Reporter) -> Path | None:
    """Return the file for the copy of the run's log, None where this machine's disk does not take one."""
    try:
        return run_copies.begin(files, run)
    except OSError as error:
        report.note(f"no copy of the log is kept here: {error}")
        return None


def _launch_on(
    plan: Plan,
    cloud: Cloud,
    ours: OurPod,
    root: Path,
    report: Reporter,
    clock: Clock,
    settle: Callable[[Launch, Pod, ssh.PodShell], Launch],
) -> Launched:
    pod, shell = connect(
        cloud,
        ours.pod,
        report,
        clock,
        timeout_s=plan.pod_ready_timeout_s,
        may_stop=not ours.ran_before,
        forward_agent=plan.forward_agent,
    )
    try:
        launch = settle(plan.launch, pod, shell)
        launched = _launch_or_join(replace(plan, launch=launch), shell, pod, root, report, clock)
    except (CodeError, RemoteCommandError, UsageError, NotNeededError) as error:
        if not ours.ran_before:
            error.means = f"No training was started. {_stop_unless_held(cloud, shell, pod, root, report)}"
        shell.close()
        raise
    except BaseException:
        shell.close()
        raise
    return launched


def _stop_unless_held(cloud: Cloud, shell: ssh.PodShell, pod: Pod, root: Path, report: Reporter) -> str:
    """Stop a pod that this command started, unless a run or another launch is on it; return what became of it.

    The API may have called a pod stopped that was not; and a run has the name of whoever launched it from here.
    """
    try:
        status = PodPrograms(shell, pod).run("status.py", {"lines": 0})
        lease = (status.get("guard") or {}).get("lease")
    except PodtasksError:
        lease = None
    if lease and (lease.get("kind") == "run" or lease.get("who") != launcher_name(root)):
        return f"The pod was left running: {lease.get('who')} works on it."
    return stop_quietly(cloud, pod, report)


def _launch_or_join(
    plan: Plan, shell: ssh.PodShell, pod: Pod, root: Path, report: Reporter, clock: Clock
) -> Launched:
    launch = plan.launch
    try:
        return Launched(pod, launch_training(shell, pod, launch, root, report, clock), shell, launch.chain)
    except PodHeldError as error:
        if launch.after_run is not None:
            raise
        return _join(shell, pod, plan, error, report)


def _join(shell: ssh.PodShell, pod: Pod, plan: Plan, held: PodHeldError, report: Reporter) -> Launched:
    """Return the run that holds the pod if it is the very training asked for; else raise `held`."""
    if held.holder.get("kind") != "run":
        raise held
    record = PodPrograms(shell, pod).run("status.py", {"lines": 0}).get("run") or {}
    if record.get("run_id") != held.holder.get("run_id"):
        raise held
    differences = find_differences(plan.launch, record)
    if differences:
        held.what += f" It is another training than the one asked for: {', '.join(differences)}."
        raise held
    report.note(f"{held.what} It is this training; following it. inv stop ends it.")
    return Launched(pod, parse_run(record), shell, parse_chain(record.get("chain")))
