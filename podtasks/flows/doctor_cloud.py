"""`inv doctor`: the account, its volume and GPUs, and the three APIs."""

from __future__ import annotations

from collections.abc import Iterator

from podtasks.doors import machine
from podtasks.flows.cloud import Cloud
from podtasks.flows.place import Place, find_place
from podtasks.flows.volume_store import explain_no_s3, open_s3_volume
from podtasks.pure.amounts import format_usd
from podtasks.pure.credit import Credit
from podtasks.pure.doctor import Check, as_checks, fine, problem, remark
from podtasks.pure.errors import ApiError, AuthenticationError, PodtasksError
from podtasks.pure.gpu_offers import pod_usd_per_hour
from podtasks.pure.pod import NetworkVolume
from podtasks.pure.settings import Settings

# RunPod docs, storage/s3-api: at most one hour; warned of before it comes to that.
MOST_SKEW_S = 3600
SKEW_WORTH_A_WORD_S = 120
CLOCK_TIMEOUT_S = 8.0


def look_at_account(cloud: Cloud, settings: Settings) -> Iterator[Check]:
    """Yield what the API key may read of the account: balance, volume, GPUs, pod."""
    try:
        volumes = cloud.api.list_network_volumes()
    except PodtasksError as error:
        yield from as_checks("API key", error)
        return
    yield fine("API key", f"reads the account on {cloud.name}; whether it may rent shows at the first pod")
    yield from _look_at_credit(cloud, settings)
    yield _look_at_volume(cloud, volumes)
    try:
        place = find_place(cloud, settings)
    except PodtasksError as error:
        yield from as_checks("GPU", error)
        return
    yield from _look_at_place(cloud, place, settings)


def _look_at_credit(cloud: Cloud, settings: Settings) -> Iterator[Check]:
    try:
        credit = cloud.api.read_credit()
    except PodtasksError as error:
        yield remark("balance", f"cannot be read: {error.what.rstrip('.')}")
        return
    if credit.balance_usd is None:
        yield remark("balance", "RunPod does not tell it to this key")
        return
    yield _judge_credit(credit, credit.balance_usd, settings.max_usd_per_hour)


def _judge_credit(credit: Credit, balance_usd: float, cap_usd_per_hour: float) -> Check:
    # RunPod docs, pods/pricing: a pod is rented only with at least one hour of credit.
    limit = credit.limit_usd_per_hour
    told = f"{format_usd(balance_usd)}, {format_usd(credit.spend_usd_per_hour or 0)}/h spent now"
    told += f", spend limit {format_usd(limit)}/h" if limit is not None else ""
    if balance_usd < cap_usd_per_hour:
        text = f"{told}: less than an hour at your cap of {format_usd(cap_usd_per_hour)}/h"
        if balance_usd <= 0:
            return problem("balance", text, "add credit in RunPod's console, under Billing", ApiError.exit_code)
        return remark("balance", text, "add credit in RunPod's console, under Billing")
    return fine("balance", told)


def _look_at_volume(cloud: Cloud, volumes: list[NetworkVolume]) -> Check:
    if cloud.network_volume_id is None:
        return remark(
            "volume",
            "no network volume: checkpoints live on the pod's host, and are lost with it",
            "make a network volume in RunPod's console, and set NETWORK_VOLUME_ID in .runpod.env",
        )
    found = next((volume for volume in volumes if volume.id == cloud.network_volume_id), None)
    if found is None:
        # find_place says the same as a problem, with what to do.
        return remark("volume", f"{cloud.network_volume_id} is not in this account")
    return fine("volume", f"{found.id} ({found.name}), {found.size_gb} GB in {found.data_center}")


def _look_at_place(cloud: Cloud, place: Place, settings: Settings) -> Iterator[Check]:
    first = place.offers[0]
    others = f", then {', '.join(offer.name for offer in place.offers[1:])}" if place.offers[1:] else ""
    count = f"{settings.gpu_count} x " if settings.gpu_count > 1 else ""
    yield fine(
        "GPU",
        f"{count}{first.name} at {format_usd(pod_usd_per_hour(first, settings.gpu_count))}/h in "
        f"{place.data_center or 'any data center'}, stock {(first.stock or 'not told').lower()}{others}",
    )
    if place.pod is not None:
        yield fine("pod", f"{place.pod.id}, {place.pod.status.value}")
    elif cloud.pod_id:
        yield remark("pod", f"POD_ID {cloud.pod_id} is of a pod that is gone; the next inv train makes a new one")
    else:
        yield fine("pod", "none yet; inv train makes one")


def look_at_rest(cloud: Cloud, settings: Settings) -> Iterator[Check]:
    """Yield whether REST v2 answers, which CPU pods and costs need."""
    try:
        offer = cloud.rest.find_cpu_offer(settings.cpu_instance)
    except PodtasksError as error:
        yield from as_checks("REST v2", error, stops=False)
        return
    if offer is None:
        yield remark(
            "REST v2",
            f"answers; it has no CPU pod {settings.cpu_instance}",
            "set cpu_instance in invoke.yaml to another size, such as cpu3c-2-4",
        )
    else:
        yield fine("REST v2", f"answers; a CPU pod {settings.cpu_instance} costs {format_usd(offer.usd_per_hour)}/h")


def look_at_s3(cloud: Cloud) -> Iterator[Check]:
    """Yield whether the S3 API answers with these keys, by one short question."""
    try:
        reason = explain_no_s3(cloud)
        volume = None if reason else open_s3_volume(cloud)
        if volume is None:
            text, _, advice = (reason or "not available").partition("; ")
            yield remark("S3 API", f"{text}; files go over SSH", _lower_first(advice))
            return
        volume.is_empty("")
    except AuthenticationError as error:
        yield remark("S3 API", error.what.rstrip("."), error.next_step)
    except PodtasksError as error:
        yield from as_checks("S3 API", error, stops=False)
    else:
        yield fine("S3 API", "the keys open the volume")


def _lower_first(text: str) -> str:
    return text if text[:2] == "S3" else text[:1].lower() + text[1:]


def look_at_clock(cloud: Cloud) -> Iterator[Check]:
    """Yield whether this machine's clock agrees with the API's: S3 refuses signatures of another hour."""
    if cloud.is_local:
        yield fine("clock", "the local cloud has this machine's own")
        return
    skew_s = machine.clock_skew_s(cloud.rest_url, CLOCK_TIMEOUT_S)
    if skew_s is None:
        yield remark("clock", "RunPod's API did not tell the time, so this machine's could not be checked")
    elif abs(skew_s) > SKEW_WORTH_A_WORD_S:
        side = "ahead of" if skew_s > 0 else "behind"
        effect = "refuses" if abs(skew_s) > MOST_SKEW_S else "would refuse from an hour on"
        yield remark(
            "clock",
            f"{abs(skew_s) / 60:.0f} min {side} RunPod's, which the S3 API {effect}",
            "set this machine's clock, such as with timedatectl set-ntp true",
        )
    else:
        yield fine("clock", f"within {max(1, round(abs(skew_s)))} s of RunPod's")
