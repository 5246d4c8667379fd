"""RunPod's S3 API for network volumes: where it answers, and who may use it.

RunPod docs, storage/s3-api: the bucket is the volume's id, the region its data center's id, keys are file paths
below the volume's top; the S3 keys are made in the console and are not the API key.
"""

from __future__ import annotations

from dataclasses import dataclass

from podtasks.pure.secret import Secret

# RunPod docs, storage/s3-api (August 2026).
DATA_CENTERS = frozenset(
    {
        *("EU-CZ-1", "EU-RO-1", "EUR-IS-1", "EUR-NO-1", "US-CA-2", "US-GA-2", "US-IL-1", "US-KS-2"),
        *("US-MD-1", "US-MO-1", "US-MO-2", "US-NC-1", "US-NC-2", "US-NE-1", "US-WA-1"),
    }
)


@dataclass(frozen=True)
class S3Account:
    """One network volume as a bucket, and the keys to it."""

    endpoint_url: str
    region: str
    bucket: str
    access_key: Secret
    secret_key: Secret


def build_endpoint_url(data_center: str) -> str:
    """Return the address of the S3 API in a data center."""
    return f"https://s3api-{data_center.lower()}.runpod.io"
