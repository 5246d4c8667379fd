"""The way by which files get to and from the volume: the S3 API where there is one, else SSH."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.doors.runpod_sdk import import_in_background
from podtasks.flows.cloud import Cloud, open_cloud
from podtasks.flows.helper_pod import borrow_pod, describe_offer
from podtasks.flows.own_pods import find_pod
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.ssh_carrier import SshCarrier
from podtasks.flows.volume_store import explain_no_s3, open_s3_volume
from podtasks.pure.errors import UsageError
from podtasks.pure.pod import PodStatus
from podtasks.pure.suggestion import ask_or_stop

if TYPE_CHECKING:
    from podtasks.doors.s3 import S3Volume
    from podtasks.pure.settings import Identity, Settings

VIA = ("auto", "s3", "ssh")
BY_S3 = "by the S3 API: no pod, nothing billed"


def open_volume_cloud(
    via: str, settings: Settings, identity: Identity, files: ProjectFiles, report: Reporter, clock: Clock
) -> tuple[Cloud, Settings]:
    """Return the cloud, and the settings with the mount path that its pods have; no SSH key is asked for yet.

    Raises what `open_cloud` raises.
    """
    if via == "ssh":
        # Only that way is sure to need the SDK, which takes a second to load.
        import_in_background()
    cloud = open_cloud(settings, identity, files, report, clock, to_launch=False)
    return cloud, with_real_mount(settings, cloud)


def with_real_mount(settings: Settings, cloud: Cloud) -> Settings:
    """Return the settings with the mount path that pods of this cloud really have."""
    return settings.model_copy(update={"mount_path": cloud.mount_path}) if cloud.mount_path else settings


def require_via(via: str) -> None:
    """Raise UsageError for a way that there is not."""
    if via not in VIA:
        raise UsageError(
            f"--via {via} is none of {', '.join(VIA)}{ask_or_stop(via, VIA)}",
            means="Nothing was copied.",
            next_step="--via s3, --via ssh, or leave the flag out",
        )


def choose_s3(via: str, cloud: Cloud) -> S3Volume | None:
    """Return the volume's S3 API if that is the way, None for SSH.

    Raises UsageError where the S3 API is asked for and there is none.
    """
    require_via(via)
    volume = None if via == "ssh" else open_s3_volume(cloud)
    if volume is None and via == "s3":
        raise UsageError(
            f"The volume cannot be reached by the S3 API: {explain_no_s3(cloud)}.",
            means="Nothing was copied.",
            next_step="mend that, or use --via ssh",
        )
    return volume


@dataclass(frozen=True)
class SshWay:
    """What it takes to reach the volume over SSH.

    Args:
        text: the way in words, with its price.
        makes_pod: whether a CPU pod must be made for it.
        rents: whether that costs money.
    """

    text: str
    makes_pod: bool
    rents: bool


def find_ssh_way(cloud: Cloud, settings: Settings) -> SshWay:
    """Return how the volume is reached over SSH: by our pod if it runs, else by a CPU pod."""
    pod = find_pod(cloud, settings.project)
    if pod is not None and pod.status is PodStatus.RUNNING:
        text = f"over SSH to pod {pod.id}, which runs at ${pod.usd_per_hour:.2f}/h"
        return SshWay(text, makes_pod=False, rents=False)
    offer = describe_offer(cloud, settings)
    return SshWay(f"over SSH to {offer}", makes_pod=True, rents=not cloud.is_local)


@dataclass(frozen=True)
class SshRoute:
    """An open way over SSH, and the pod's programs at its end."""

    carrier: SshCarrier
    programs: PodPrograms


@contextmanager
def open_ssh_route(
    way: SshWay, cloud: Cloud, settings: Settings, files: ProjectFiles, report: Reporter, clock: Clock
) -> Iterator[SshRoute]:
    """Give the way over SSH for the time of a `with`; a CPU pod that was rented for it is deleted at the end.

    None is rented that `way`, which the user was told, does not speak of. Raises what `borrow_pod` raises.
    """
    with borrow_pod(cloud, settings, files, report, clock, may_rent=way.makes_pod) as borrowed:
        carrier = SshCarrier(borrowed.shell, borrowed.pod, cloud, files, report, clock)
        yield SshRoute(carrier, PodPrograms(borrowed.shell, borrowed.pod))
