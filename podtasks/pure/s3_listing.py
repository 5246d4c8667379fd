"""What the S3 API tells of files: listings, ETags, and which names may be written here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from podtasks.pure.transfer import VolumeFile

MD5 = re.compile(r"[0-9a-f]{32}")
# RunPod docs, storage/s3-api: parts of unfinished uploads lie there.
HIDDEN = ".s3compat_uploads/"


def as_folder(place: str) -> str:
    """Return what the keys below a place begin with; "" is the volume's top."""
    return f"{place.strip('/')}/" if place.strip("/") else ""


def parse_file(place: str, answer: Mapping[str, Any], size_key: str) -> VolumeFile:
    """Return a file from an entry of a listing (size under `Size`) or an answer to HEAD (`ContentLength`)."""
    return VolumeFile(place, int(answer[size_key]), answer["LastModified"].timestamp())


def parse_files(page: Mapping[str, Any]) -> list[VolumeFile]:
    """Return the files of a page of a listing, without the marks of folders and RunPod's own parts."""
    entries = ((str(entry["Key"]), entry) for entry in page.get("Contents", ()))
    return [
        parse_file(key, entry, "Size")
        for key, entry in entries
        if not key.endswith("/") and not key.startswith(HIDDEN)
    ]


def parse_folders(page: Mapping[str, Any]) -> list[str]:
    """Return the names of the folders on a page of a listing of one level."""
    prefixes = (str(entry["Prefix"]) for entry in page.get("CommonPrefixes", ()))
    return [prefix.rstrip("/").rsplit("/", 1)[-1] for prefix in prefixes if prefix != HIDDEN]


def parse_md5(answer: Mapping[str, Any]) -> str | None:
    """Return the MD5 that an answer's ETag is, None where it is something else, as after an upload in parts."""
    etag = str(answer.get("ETag", "")).strip('"').lower()
    return etag if MD5.fullmatch(etag) else None
