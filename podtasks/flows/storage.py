"""What lies on the volume, and room made on it: by way of a pod that runs, the S3 API, or a CPU pod."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import Cloud
from podtasks.flows.helper_pod import BorrowedPod, borrow_pod, describe_offer
from podtasks.flows.own_pods import find_pod
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.stored_logs import read_newest_record
from podtasks.flows.transfer_way import require_via
from podtasks.flows.volume_store import explain_no_s3, open_s3_volume
from podtasks.pure.cleaning import CleaningPlan, build_clean_request
from podtasks.pure.errors import RunActiveError, UsageError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.settings import Settings
from podtasks.pure.storage import Inventory, Search, build_request, parse_inventory
from podtasks.pure.storage_text import Outcome

if TYPE_CHECKING:
    from podtasks.doors.s3 import S3Volume

PROGRAM = "storage.py"


class Store(Protocol):
    """A way to measure the volume and to delete from it."""

    def measure(self, keep: int = 1) -> Inventory:
        """Return what lies on the volume."""

    def clean(self, plan: CleaningPlan, keep: int) -> Outcome:
        """Delete what the plan names, as far as it still may go."""


@dataclass(frozen=True)
class StorageRequest:
    """How the volume is to be reached: `via` as the user said it, and whether a CPU pod may be rented for it."""

    via: str = "auto"
    start: bool = False


@contextmanager
def open_store(
    request: StorageRequest,
    cloud: Cloud,
    settings: Settings,
    search: Search,
    files: ProjectFiles,
    report: Reporter,
    clock: Clock,
) -> Iterator[Store]:
    """Give the way to the volume for the time of a `with`.

    Raises UsageError where there is none without a CPU pod, with what that would cost.
    """
    require_via(request.via)
    pod = find_pod(cloud, settings.project)
    runs = pod is not None and pod.status is PodStatus.RUNNING
    by_pod = runs and (request.via == "ssh" or (pod is not None and pod.ssh is not None))
    volume = None if request.via == "ssh" or (request.via == "auto" and by_pod) else open_s3_volume(cloud)
    if volume is not None:
        report.step("by the S3 API")
        yield S3Store(volume, cloud, settings, search, files, report)
        return
    if request.via == "s3":
        what = f"The volume cannot be reached by the S3 API: {explain_no_s3(cloud)}."
        raise UsageError(what, means="Nothing was changed.", next_step="mend that, or use --via ssh")
    if not runs and not request.start:
        raise _needs_pod(cloud, settings)
    with borrow_pod(
        cloud, settings, files, report, clock, who="inv storage", may_rent=request.start
    ) as borrowed:
        yield PodStore(borrowed, cloud, search)


def _needs_pod(cloud: Cloud, settings: Settings) -> UsageError:
    reason = explain_no_s3(cloud)
    return UsageError(
        f"No pod runs{f', and {reason}' if reason else ''}.",
        means=f"To look at the volume it takes {describe_offer(cloud, settings)}.",
        next_step="the same command with --start makes that pod",
    )


def find_other_pods(cloud: Cloud, own: Pod | None) -> list[Pod]:
    """Return the pods, besides `own`, that run with this volume and may train."""
    return [
        pod
        for pod in cloud.api.list_pods()
        if pod.status is PodStatus.RUNNING
        and pod.network_volume_id == (cloud.network_volume_id or "-")
        and not pod.helper_of
        and (own is None or pod.id != own.id)
    ]


class PodStore:
    """The volume by way of a pod that has it mounted."""

    def __init__(self, borrowed: BorrowedPod, cloud: Cloud, search: Search) -> None:
        self._programs = PodPrograms(borrowed.shell, borrowed.pod)
        self._pod = borrowed.pod
        self._cloud = cloud
        self._search = search

    def measure(self, keep: int = 1) -> Inventory:
        """Return what lies on the volume."""
        del keep  # the pod looks into every checkpoint
        return parse_inventory(self._run({**build_request(self._search, other_pods=self._others()), "op": "measure"}))

    def clean(self, plan: CleaningPlan, keep: int) -> Outcome:
        """Delete what the plan names, each thing looked at again right before. Raises RemoteRefusedError."""
        answer = self._run(build_clean_request(self._search, plan.items, keep, other_pods=self._others()))
        left, failed = (tuple((each["path"], each["why"]) for each in answer[name]) for name in ("left", "failed"))
        return Outcome(tuple(answer["deleted"]), left, failed)

    def _run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._programs.run(PROGRAM, request)

    def _others(self) -> bool:
        return bool(find_other_pods(self._cloud, self._pod))


class S3Store:
    """The volume by the S3 API."""

    def __init__(
        self, volume: S3Volume, cloud: Cloud, settings: Settings, search: Search, files: ProjectFiles, report: Reporter
    ) -> None:
        self._volume = volume
        self._cloud = cloud
        self._settings = settings
        self._search = search
        self._files = files
        self._report = report
        self._inventory: Inventory | None = None

    def measure(self, keep: int = 1) -> Inventory:
        """Return what lies on the volume; `keep` complete checkpoints of each output directory are looked into."""
        from podtasks.flows.volume_replica import measure_by_s3

        others = bool(find_other_pods(self._cloud, None))
        self._inventory = measure_by_s3(
            self._volume, self._search, self._settings, self._report, other_pods=others, keep=keep
        )
        return self._inventory

    def clean(self, plan: CleaningPlan, keep: int) -> Outcome:
        """Delete what the plan names. Raises RunActiveError where a run began since the plan was made."""
        from podtasks.flows.volume_removal import Removal

        del keep  # the plan was made from what is known of as many
        assert self._inventory is not None, "a plan is made from what was measured"
        self._require_same_run(self._inventory)
        empty_file = self._files.ensure_state_folder() / "empty"
        empty_file.write_bytes(b"")
        return Removal(self._volume, self._search, self._inventory, empty_file).run(plan)

    def _require_same_run(self, inventory: Inventory) -> None:
        record = read_newest_record(self._volume) if find_other_pods(self._cloud, None) else None
        live = record["run_id"] if record and record.get("ended_at") is None else None
        if live not in (None, inventory.live_run):
            raise RunActiveError(
                f"Run {live} began since the plan was made.",
                means="Nothing was deleted.",
                next_step="the same command again makes a plan that knows of it",
            )
