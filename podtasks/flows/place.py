"""Where a pod may be rented: data centre, cloud and GPU types; and what is ordered there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from podtasks.doors.key_files import KeyPair, make_key_pair, require_usable_key
from podtasks.doors.project_files import read_pod_programs
from podtasks.doors.ssh import agent_offers
from podtasks.flows.cloud import Cloud
from podtasks.flows.findings import Findings
from podtasks.flows.own_pods import find_pod
from podtasks.pure.boot import build_start_command
from podtasks.pure.errors import PlanError
from podtasks.pure.gpu_offers import choose_offers, suggest_gpu_type
from podtasks.pure.plan import PodPlan
from podtasks.pure.pod import GpuOffer, NetworkVolume, Pod, PodSpec
from podtasks.pure.pod_environment import build_pod_environment, training_stamp
from podtasks.pure.settings import Settings


@dataclass(frozen=True)
class Place:
    """Where a pod may be: data centre, cloud type, what is offered there, and the pod we have."""

    data_center: str | None
    cloud_type: str
    offers: tuple[GpuOffer, ...]
    pod: Pod | None


def find_place(cloud: Cloud, settings: Settings) -> Place:
    """Return where and with what GPU types a pod may be rented, and the pod there is.

    Raises PlanError for all that the settings have wrong, at once; nothing was rented.
    """
    # The local cloud has a network volume whatever the settings say, and those are found in Secure Cloud only.
    secure = cloud.is_local or settings.cloud_type != "community"
    data_center, offers = _find_offers(cloud, settings, secure)
    fitting = choose_offers(
        offers,
        gpu_count=settings.gpu_count,
        max_usd_per_hour=settings.max_usd_per_hour,
        where=f"{data_center or 'any data centre'} ({'secure' if secure else 'community'} cloud)",
    )
    pod = find_pod(cloud, settings.project)
    return Place(data_center, "SECURE" if secure else "COMMUNITY", tuple(fitting), pod)


def _find_offers(cloud: Cloud, settings: Settings, secure: bool) -> tuple[str | None, list[GpuOffer]]:
    """Return the data centre and what is offered there. Raises all that the settings have wrong, at once."""
    findings = Findings()
    # The API is asked outside of the checks: when it is silent, that is the one problem to tell.
    volumes = cloud.api.list_network_volumes()
    findings.check(lambda: _require_volume_settings(cloud, settings))
    data_center = findings.check(lambda: find_data_center(cloud, settings, volumes))
    offers = cloud.api.list_offers(
        settings.gpu_types, gpu_count=settings.gpu_count, data_center=data_center, secure=secure
    )
    for problem in _find_unknown(cloud, settings, offers):
        findings.add(problem)
    findings.raise_any()
    return data_center, offers


def find_data_center(cloud: Cloud, settings: Settings, listed: Sequence[NetworkVolume]) -> str | None:
    """Return the data centre to rent in: the network volume's, which binds the pod to it.

    Raises PlanError for a volume that is not among the account's `listed` ones, or that the settings place elsewhere.
    """
    if cloud.network_volume_id is None:
        return settings.data_center
    volume = next((volume for volume in listed if volume.id == cloud.network_volume_id), None)
    if volume is None:
        names = ", ".join(f"{v.id} ({v.name}, {v.data_center})" for v in listed) or "none"
        raise PlanError(
            f"There is no network volume {cloud.network_volume_id} in this account.",
            means="No pod was created.",
            next_step=f"set NETWORK_VOLUME_ID in .runpod.env to one of: {names}",
        )
    if settings.data_center not in (None, volume.data_center):
        raise PlanError(
            f"Network volume {volume.id} is in {volume.data_center}, but data_center is {settings.data_center}.",
            means="A pod can only use a volume of its own data centre. No pod was created.",
            next_step=f"remove data_center from invoke.yaml, or set it to {volume.data_center}",
        )
    return volume.data_center


def _require_volume_settings(cloud: Cloud, settings: Settings) -> None:
    if not cloud.network_volume_id and settings.when_done == "terminate":
        raise PlanError(
            "when_done is terminate, but without a network volume that would delete the checkpoints.",
            means="No pod was created.",
            next_step="use --when-done stop, or set NETWORK_VOLUME_ID in .runpod.env",
        )


def _find_unknown(cloud: Cloud, settings: Settings, offers: list[GpuOffer]) -> list[PlanError]:
    """Return a problem for each wanted GPU type that RunPod has never heard of."""
    known = {offer.id for offer in offers}
    unknown = [gpu for gpu in settings.gpu_types if gpu not in known]
    types = cloud.api.list_gpu_types() if unknown else []
    return [_unknown_gpu(gpu, types) for gpu in unknown]


def _unknown_gpu(gpu: str, types: list[str]) -> PlanError:
    nearest = suggest_gpu_type(gpu, types)
    return PlanError(
        f"RunPod has no GPU type {gpu!r}.",
        means="No pod was created.",
        next_step=f"did you mean {nearest!r}?" if nearest else f"use one of: {', '.join(sorted(types))}",
    )


def check_place(
    findings: Findings, open_cloud: Callable[[], Cloud], settings: Settings
) -> tuple[Cloud | None, Place | None]:
    """Return the cloud, and where on it a pod may be rented by somebody who can log in; problems go to `findings`."""
    cloud = findings.check(open_cloud)
    if cloud is None:
        return None, None
    findings.check(lambda: require_usable_key(cloud.key_path, cloud.public_key, agent_offers))
    return cloud, findings.check(lambda: find_place(cloud, settings))


def build_pod_plan(settings: Settings, cloud: Cloud, place: Place) -> PodPlan:
    """Return which pod will be had; a pod's host key is made here."""
    return PodPlan(
        cloud=cloud.name,
        project=settings.project,
        spec=build_spec(settings, cloud, place, make_key_pair(settings.project)),
        offers=place.offers,
        max_usd_per_hour=settings.max_usd_per_hour,
        pod=place.pod,
        grace_minutes=settings.grace_minutes,
        pod_ready_timeout_s=settings.pod_ready_timeout_s,
    )


def build_spec(settings: Settings, cloud: Cloud, place: Place, host_key: KeyPair) -> PodSpec:
    """Return the pod to rent, with a host key that was made for it here."""
    environment = build_pod_environment(
        settings.pod_environment(),
        stamp=training_stamp(settings.project),
        public_key=cloud.public_key,
        host_private_key=host_key.private,
        host_public_key=host_key.public,
        network_volume_id=cloud.network_volume_id or "",
        grace_minutes=settings.grace_minutes,
    )
    return PodSpec(
        name=settings.project,
        image=settings.image,
        gpu_count=settings.gpu_count,
        cloud_type=place.cloud_type,
        data_center=place.data_center,
        network_volume_id=cloud.network_volume_id,
        container_disk_gb=settings.container_disk_gb,
        volume_disk_gb=settings.volume_disk_gb,
        mount_path=settings.mount_path,
        ports=settings.ports,
        start_command=build_start_command(read_pod_programs()),
        env=environment,
    )
