"""A pod to copy files with: this project's where it runs, else a CPU pod that is deleted afterwards."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field

from podtasks.doors import ssh
from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import cpu_pod
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import connect
from podtasks.flows.cpu_pod import describe_offer
from podtasks.flows.findings import Findings
from podtasks.flows.own_pods import find_pod, list_helper_pods
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.pods import require_guarded
from podtasks.flows.rent import delete_late_orders, read_new
from podtasks.pure import pod_programs
from podtasks.pure.errors import PlanError, PodFailedError, PodtasksError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.settings import Settings

__all__ = ["BorrowedPod", "borrow_pod", "describe_offer", "terminate_helpers"]

# A CPU pod that an earlier command left may still boot, or be on its way out.
FOUND_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class BorrowedPod:
    """A pod with the project's volume, reached over an open connection.

    Args:
        is_helper: whether it is a CPU pod that exists for this command only.
    """

    pod: Pod
    shell: ssh.PodShell
    is_helper: bool


@contextlib.contextmanager
def borrow_pod(
    cloud: Cloud,
    settings: Settings,
    files: ProjectFiles,
    report: Reporter,
    clock: Clock,
    *,
    who: str = "a transfer",
    may_rent: bool = True,
) -> Iterator[BorrowedPod]:
    """Give a pod that has the project's volume, for the time of a `with`.

    That is our pod if it runs, which is kept from stopping for want of a run meanwhile; else a CPU pod on the same
    network volume, which is deleted at the end, and deletes itself minutes after a command that was killed.

    Args:
        who: what uses the pod, as its guard tells others.
        may_rent: whether the user knows that a CPU pod may be made.

    Raises:
        PodFailedError: our pod does not run any more, and none may be rented.
        PlanError: there is no network volume that a CPU pod could have, or its price is above the cap.
        CapacityError: there is no such CPU pod now.
        PodtasksError: and what else keeps a pod from being made or reached.
    """
    ours = find_pod(cloud, settings.project)
    if ours is not None and ours.status is PodStatus.RUNNING:
        lender = _borrow_ours(cloud, ours, settings, report, clock, who)
    elif not may_rent:
        raise PodFailedError(
            "The pod that was to be used has stopped meanwhile.",
            means="Nothing was copied, and no CPU pod was rented in its place.",
            next_step="the same command again says what it takes now",
        )
    else:
        lender = _borrow_helper(_Helpers(cloud, settings, files, report, clock, who))
    with lender as borrowed:
        yield borrowed


def terminate_helpers(cloud: Cloud, project: str, report: Reporter) -> int:
    """Delete the CPU pods that copy this project's files, each even if another would not go; return how many.

    Raises what kept any from being deleted.
    """
    found = list_helper_pods(cloud, project)
    findings = Findings()
    for pod in found:
        findings.check(functools.partial(_terminate_helper, cloud, pod, report))
    findings.raise_any()
    return len(found)


def _terminate_helper(cloud: Cloud, pod: Pod, report: Reporter) -> None:
    cloud.api.terminate_pod(pod.id)
    report.step(f"the CPU pod {pod.id}, which copied files, is deleted; nothing of it is billed any more")


@contextlib.contextmanager
def _borrow_ours(
    cloud: Cloud, pod: Pod, settings: Settings, report: Reporter, clock: Clock, who: str
) -> Iterator[BorrowedPod]:
    require_guarded(pod)
    if pod.network_volume_id != (cloud.network_volume_id or ""):
        raise PlanError(
            f"Pod {pod.id} runs with {_name_volume(pod.network_volume_id)}, but your settings name "
            f"{_name_volume(cloud.network_volume_id)}.",
            means="Nothing was copied.",
            next_step="set NETWORK_VOLUME_ID in .runpod.env to the volume that you mean, or inv stop first",
        )
    report.step(f"by way of pod {pod.id}, which runs")
    pod, shell = connect(cloud, pod, report, clock, timeout_s=settings.pod_ready_timeout_s, may_stop=False)
    with contextlib.closing(shell):
        hold(shell, pod, who)
        yield BorrowedPod(pod, shell, is_helper=False)


def _name_volume(volume_id: str | None) -> str:
    return f"network volume {volume_id}" if volume_id else "no network volume"


def hold(shell: ssh.PodShell, pod: Pod, who: str) -> None:
    """Keep the pod's grace time from running out while this connection is open. Raises RemoteRefusedError."""
    process = PodPrograms(shell, pod).start("hold.py", {"who": who})
    line = process.read_line()
    if not line:
        output = process.wait()
        pod_programs.parse_answer("hold.py", output.exit_code or 1, b"", output.stderr)
    answer = pod_programs.parse_answer("hold.py", 0, line, b"")
    if not answer.get("ok"):
        raise pod_programs.describe_refusal("hold.py", answer)


@contextlib.contextmanager
def _borrow_helper(helpers: _Helpers) -> Iterator[BorrowedPod]:
    with helpers.locked():
        pod, shell = helpers.find() or helpers.make()
    try:
        yield BorrowedPod(pod, shell, is_helper=True)
    finally:
        with helpers.locked():
            helpers.give_back(pod, shell)


@dataclass(frozen=True)
class _Helpers:
    """This project's CPU pods, of which there should be one at most."""

    cloud: Cloud
    settings: Settings
    files: ProjectFiles
    report: Reporter
    clock: Clock
    who: str
    # Pods that were deleted here may still be listed for a while.
    _deleted: set[str] = field(default_factory=set)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Keep other commands of this machine from making or deleting one meanwhile."""
        return self.files.locked("helper", lambda: self.report.note("another command gets the CPU pod; waiting for it"))

    def find(self) -> tuple[Pod, ssh.PodShell] | None:
        """Return a CPU pod that another command uses or left behind, reached; delete those that do not answer."""
        for pod in list_helper_pods(self.cloud, self.settings.project):
            reached = self._reach_found(pod) if self._fits(pod) else None
            if reached is not None:
                return reached
            self.delete(pod.id)
        return None

    def make(self) -> tuple[Pod, ssh.PodShell]:
        """Rent a CPU pod and reach it; one that cannot be used is deleted at once."""
        spec = cpu_pod.check_order(self.cloud, self.settings)
        self.report.step(f"making {describe_offer(self.cloud, self.settings)}")
        pod_id = cpu_pod.order(self.cloud, self.settings, spec, self.clock)
        try:
            return self._reach(self._settle(pod_id), self.settings.pod_ready_timeout_s)
        except BaseException as error:
            outcome = self.delete(pod_id)
            if isinstance(error, PodtasksError):
                error.means = outcome
            raise

    def give_back(self, pod: Pod, shell: ssh.PodShell) -> None:
        """Delete the CPU pod, unless another command uses it; that one deletes it then."""
        if _is_shared(shell, pod):
            self.report.note(f"another command uses the CPU pod {pod.id} and deletes it at its end")
        else:
            self.report.step(self.delete(pod.id))
        shell.close()

    def delete(self, pod_id: str) -> str:
        """Delete a CPU pod and return what became of it, for people."""
        self._deleted.add(pod_id)
        try:
            self.cloud.api.terminate_pod(pod_id)
        except PodtasksError as error:
            minutes = cpu_pod.grace_minutes(self.settings)
            return (
                f"The CPU pod {pod_id} could not be deleted ({error.what}). It deletes itself {minutes:g} minutes "
                "after the last connection; inv terminate does it now."
            )
        return f"The CPU pod {pod_id} is deleted; nothing of it is billed any more."

    def _fits(self, pod: Pod) -> bool:
        is_there = pod.status is PodStatus.RUNNING and pod.id not in self._deleted
        return is_there and pod.network_volume_id == self.cloud.network_volume_id

    def _reach_found(self, pod: Pod) -> tuple[Pod, ssh.PodShell] | None:
        try:
            reached = self._reach(pod, min(FOUND_TIMEOUT_S, self.settings.pod_ready_timeout_s))
        except PodtasksError as error:
            self.report.note(f"the CPU pod {pod.id} that was there does not answer: {error.what}")
            return None
        self.report.step(f"by way of the CPU pod {pod.id}, which was there")
        return reached

    def _reach(self, pod: Pod, timeout_s: float) -> tuple[Pod, ssh.PodShell]:
        pod, shell = connect(self.cloud, pod, self.report, self.clock, timeout_s=timeout_s, may_stop=False)
        try:
            hold(shell, pod, self.who)
        except BaseException:
            shell.close()
            raise
        return pod, shell

    def _settle(self, pod_id: str) -> Pod:
        """Return the pod to use: the new one, if it is within the cap and no other command made one before."""
        pod = read_new(self.cloud, pod_id, self.clock)
        cpu_pod.require_within_cap(self.settings, pod.usd_per_hour, "")
        others = [each for each in list_helper_pods(self.cloud, self.settings.project) if self._fits(each)]
        delete_late_orders(self.cloud, pod, others, self.report)
        first = min(others, key=lambda each: each.id, default=pod)
        if first.id >= pod.id:
            return pod
        self.delete(pod.id)
        self.report.note(f"another command made the CPU pod {first.id} at the same moment; it is used")
        return first


def _is_shared(shell: ssh.PodShell, pod: Pod) -> bool:
    """Return whether another command holds the pod too; one that cannot be asked is nobody's."""
    try:
        answer = PodPrograms(shell, pod).run("hold.py", {"who": "a question"})
    except PodtasksError:
        return False
    # This command's own, and the one that is the question.
    return int((answer.get("guard") or {}).get("holds") or 0) > 2
