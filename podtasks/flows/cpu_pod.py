"""The CPU pod that copies files where no other pod runs: its price, its order."""

from __future__ import annotations

import functools

from podtasks.doors import key_files, ssh
from podtasks.doors.clock import Clock
from podtasks.doors.project_files import read_pod_programs
from podtasks.flows.cloud import Cloud
from podtasks.flows.place import find_data_center
from podtasks.flows.rent import create_once
from podtasks.pure.boot import build_start_command
from podtasks.pure.errors import ApiError, CapacityError, PlanError
from podtasks.pure.pod import PodSpec
from podtasks.pure.pod_environment import build_pod_environment, helper_stamp
from podtasks.pure.settings import Settings

GRACE_MINUTES = 5.0
DISK_GB = 10
MOST_NAME = 54  # of a pod's name, before "-files": up to 60 characters work (RunPod facts)


def describe_offer(cloud: Cloud, settings: Settings) -> str:
    """Return what it takes to reach the volume while no pod runs: one CPU pod, with its price."""
    price = _find_price(cloud, settings)
    told = "price not known" if price is None else f"at ${price:.2f}/h"
    joint = ", " if price is None else " "
    return f"a CPU pod ({settings.cpu_instance}){joint}{told}, deleted afterwards"


def check_order(cloud: Cloud, settings: Settings) -> PodSpec:
    """Return the pod to order. Raises PlanError for all that speaks against it, before anything is rented."""
    if not cloud.network_volume_id:
        raise PlanError(
            "There is no network volume: the files are on the disk of the stopped pod's host, "
            "which no other pod can reach.",
            means="No pod was created.",
            next_step="inv start starts the pod itself; or set NETWORK_VOLUME_ID in .runpod.env",
        )
    price = _find_price(cloud, settings)
    if price is not None:
        require_within_cap(settings, price, "No pod was created.")
    public_key = cloud.public_key or key_files.require_login_key(cloud.key_path)
    key_files.require_usable_key(cloud.key_path, public_key, ssh.agent_offers)
    return _build_spec(cloud, settings, public_key)


def order(cloud: Cloud, settings: Settings, spec: PodSpec, clock: Clock) -> str:
    """Rent the pod once, however the answer gets lost, and return its id. Raises CapacityError."""
    try:
        return create_once(cloud, spec, functools.partial(_create, cloud, settings.cpu_instance), clock)
    except CapacityError as error:
        raise CapacityError(
            error.what,
            means="No pod was created.",
            next_step="try again later, or set cpu_instance in invoke.yaml to another size, such as cpu3g-2-8",
        ) from error


def require_within_cap(settings: Settings, usd_per_hour: float, means: str) -> None:
    """Raise PlanError for a price above the cap; `means` says what has been done by then."""
    if usd_per_hour <= settings.max_usd_per_hour + 1e-9:
        return
    raise PlanError(
        f"The CPU pod {settings.cpu_instance} costs ${usd_per_hour:.2f}/h, above your cap of "
        f"${settings.max_usd_per_hour:.2f}/h.",
        means=means,
        next_step="raise max_usd_per_hour in invoke.yaml, or set cpu_instance to a smaller size",
    )


def grace_minutes(settings: Settings) -> float:
    """Return how long the pod waits for a connection before it deletes itself."""
    return min(GRACE_MINUTES, settings.grace_minutes)


def _build_spec(cloud: Cloud, settings: Settings, public_key: str) -> PodSpec:
    """Return the CPU pod to order, in the data centre of the network volume. Raises PlanError for an unknown volume."""
    host_key = key_files.make_key_pair(settings.project)
    environment = build_pod_environment(
        {},
        stamp=helper_stamp(settings.project),
        public_key=public_key,
        host_private_key=host_key.private,
        host_public_key=host_key.public,
        network_volume_id=cloud.network_volume_id or "",
        grace_minutes=grace_minutes(settings),
    )
    return PodSpec(
        name=f"{settings.project[:MOST_NAME]}-files",
        image=settings.cpu_image,
        gpu_count=0,
        # Network volumes are found in Secure Cloud only (RunPod docs: storage/network-volumes).
        cloud_type="SECURE",
        data_center=find_data_center(cloud, settings, cloud.api.list_network_volumes()),
        network_volume_id=cloud.network_volume_id,
        container_disk_gb=DISK_GB,
        volume_disk_gb=0,
        mount_path=cloud.mount_path or settings.mount_path,
        ports="22/tcp",
        start_command=build_start_command(read_pod_programs()),
        env=environment,
    )


def _create(cloud: Cloud, instance: str, spec: PodSpec) -> str:
    return cloud.api.create_cpu_pod(spec, instance)


def _find_price(cloud: Cloud, settings: Settings) -> float | None:
    """Return what the CPU pod costs an hour, None where that cannot be told."""
    try:
        offer = cloud.rest.find_cpu_offer(settings.cpu_instance)
    except ApiError:
        return None
    return None if offer is None else offer.usd_per_hour
