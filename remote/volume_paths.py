"""Places on the volume as paths of this pod, which may not lead out of it."""

from __future__ import annotations

import os

# Where rsync keeps unfinished files, and RunPod's S3 API the parts of unfinished uploads (RunPod docs: storage/s3-api).
PARTIAL = ".rsync-partial"
HIDDEN = (PARTIAL, ".s3compat_uploads")


class Outside(Exception):
    """A place is not one on the volume; the text says why."""


def find_path(volume: str, place: str) -> str:
    """Return the path of a place below the volume's top; "" is the top. Raise Outside for one that leads out."""
    if "\0" in place or any(part in (".", "..") for part in place.split("/")) or place.startswith("/"):
        raise Outside("it is no path below the volume's top")
    path = os.path.join(volume, place) if place else volume
    # The last part may be a link itself; what it hangs in may not lead out.
    if not is_inside(volume, os.path.dirname(path) if place else path):
        raise Outside("a link on the way leads out of the volume")
    return path


def is_inside(volume: str, path: str) -> bool:
    """Return whether a path, its links followed, is on the volume."""
    top, real = os.path.realpath(volume), os.path.realpath(path)
    return real == top or real.startswith(top.rstrip("/") + "/")
