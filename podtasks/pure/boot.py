"""The pod's start command: it carries the boot guard, so that a pod is guarded from its first second."""

from __future__ import annotations

import base64
import gzip
import io
import tarfile
from collections.abc import Mapping

BOOT_FILES = (
    "boot.sh",
    "end_reasons.py",
    "guard.py",
    "guard_end.py",
    "guard_holds.py",
    "guard_limits.py",
    "guard_loop.py",
    "guard_state.py",
    "stop_pod.py",
    "pod_environ.py",
)
CONTAINER_DIR = "${PODTASKS_DIR:-/opt/podtasks}"


def build_start_command(files: Mapping[str, bytes]) -> str:
    """Given the boot files' contents by name, return the command that unpacks them and runs boot.sh.

    It is one line of shell words for whoever splits it, and replaces the image's own /start.sh, which
    boot.sh therefore runs (RunPod facts, section 5).
    """
    payload = base64.b64encode(build_archive({name: files[name] for name in BOOT_FILES})).decode()
    unpack = f'mkdir -p "$d"&&echo {payload}|base64 -d|tar xz -C "$d"'
    return f"bash -c 'd={CONTAINER_DIR};{unpack}&&exec bash \"$d/boot.sh\"'"


def build_archive(files: Mapping[str, bytes]) -> bytes:
    """Given files by name, return them as a tar.gz that is the same for the same files."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in sorted(files):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(files[name]), 0o755
            archive.addfile(member, io.BytesIO(files[name]))
    return gzip.compress(plain.getvalue(), compresslevel=9, mtime=0)
