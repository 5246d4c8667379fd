"""A pod with no run on it: for a look, for a shell, for work by hand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import connect
from podtasks.flows.findings import Findings
from podtasks.flows.place import build_pod_plan, check_place
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.pods import ensure_pod
from podtasks.flows.rent import build_request
from podtasks.pure.plan import PodPlan
from podtasks.pure.pod import Pod
from podtasks.pure.settings import Settings


@dataclass(frozen=True)
class StartedPod:
    """A pod that answers, and what its guard says of it."""

    pod: Pod
    guard: Mapping[str, Any]

    @property
    def run_id(self) -> str:
        """The run on it, "" where there is none."""
        lease = self.guard.get("lease") or {}
        return str(lease.get("run_id") or "")

    @property
    def hours_left(self) -> float | None:
        """After how many hours a pod that was kept stops, None where the grace time counts."""
        hours: float | None = self.guard.get("hours_left")
        return hours


def make_pod_plan(settings: Settings, open_cloud: Callable[[], Cloud]) -> tuple[PodPlan, Cloud]:
    """Check what can be checked for nothing and return which pod will be had. Raises every problem found at once."""
    findings = Findings()
    cloud, place = check_place(findings, open_cloud, settings)
    findings.raise_any()
    assert cloud and place
    if cloud.mount_path:
        settings = settings.model_copy(update={"mount_path": cloud.mount_path})
    return build_pod_plan(settings, cloud, place), cloud


def start_pod(plan: PodPlan, cloud: Cloud, files: ProjectFiles, report: Reporter, clock: Clock) -> StartedPod:
    """Get the pod, wait until it answers, and give it its whole grace time from now on.

    Raises CapacityError, PlanError, PodTimeoutError and what else keeps a pod from answering.
    """
    with files.locked("launch", lambda: report.note("another command gets the pod here; waiting for it")):
        ours = ensure_pod(cloud, build_request(plan), report, clock)
        pod, shell = connect(
            cloud, ours.pod, report, clock, timeout_s=plan.pod_ready_timeout_s, may_stop=not ours.ran_before
        )
    with contextlib.closing(shell):
        # A hold that ends at once: the grace time starts anew.
        answer = PodPrograms(shell, pod).run("hold.py", {"who": "inv start"})
    return StartedPod(pod, answer.get("guard") or {})
