"""Settings that are right one by one and do not fit together."""

from __future__ import annotations

from collections.abc import Iterator

from podtasks.pure.identity import IDENTITY_KEYS, Identity
from podtasks.pure.project_settings import Settings

RESERVED_FOLDERS = frozenset({"runs", "logs", ".cache"})


def find_conflicts(settings: Settings, identity: Identity) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the keys and the text of each thing that does not fit together, the key to change first."""
    if settings.code == "origin" and not settings.repository:
        yield ("code", "repository"), "origin needs podtasks.repository, the address to clone from"
    if settings.cloud_type == "community" and identity.network_volume_id:
        # RunPod docs: storage/network-volumes
        yield (
            ("cloud_type", "NETWORK_VOLUME_ID"),
            "community has no network volumes, but NETWORK_VOLUME_ID is set",
        )
    if bool(identity.runpod_s3_access_key) != bool(identity.runpod_s3_secret_key):
        keys = ("RUNPOD_S3_ACCESS_KEY", "RUNPOD_S3_SECRET_KEY")
        given, missing = keys if identity.runpod_s3_access_key else keys[::-1]
        yield (given, missing), f"{missing} is missing; the two are only good together"
    yield from _secret_conflicts(settings)
    yield from _folder_conflicts(settings)


def _secret_conflicts(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Given the settings, yield where a secret is named that would not stay one, or is podtasks' own."""
    for name in settings.secrets:
        if name in settings.env:
            yield ("secrets", "env"), f"{name} is in podtasks.env as well, which RunPod's API shows"
        if name in IDENTITY_KEYS:
            yield ("secrets",), f"{name} is podtasks' own and is not sent to the training"


def _folder_conflicts(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Given the settings, yield where two things would share a folder of the volume."""
    clone_keys = ("clone" if settings.clone else "project", "links")
    targets = {target.split("/")[0] for target in settings.links.values()}
    if settings.clone_name in RESERVED_FOLDERS | targets:
        yield (
            clone_keys,
            f"the clone cannot be the folder {settings.clone_name}, which holds other things on the volume "
            "(set podtasks.clone)",
        )
    for target in sorted(targets & (RESERVED_FOLDERS - {"logs"})):
        yield ("links",), f"{target} on the volume belongs to podtasks"
