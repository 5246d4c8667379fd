"""The GPUs inside a pod: what its nvidia-smi shows.

There are none; the names and sizes are the catalogue's and the utilisation is a dial.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import uuid
from pathlib import Path

from podtasks.emulator import catalogue, disk
from podtasks.emulator.dials import ImageRule
from podtasks.emulator.pod import Pod

_REPORT = "opt/image/gpus"
_MIB_PER_GB = 1024


def furnish(programs: Path, pod: Pod, rule: ImageRule) -> None:
    """Put nvidia-smi into the container disk of a pod that has GPUs.

    Args:
        programs: the folder on the container disk that is on the pod's PATH.
        pod: the pod.
        rule: what the image lacks.
    """
    if pod.gpu_count and "nvidia-smi" not in rule["without"]:
        disk.install(disk.IMAGE_FILES / "nvidia-smi", programs / "nvidia-smi")


def write_report(root: Path, pod: Pod, util_percent: float) -> None:
    """Say on a container disk what the pod's GPUs do, for its nvidia-smi; nothing for a pod without GPUs.

    A disk that goes away meanwhile is left alone. Several threads may write at once.
    """
    gpu = catalogue.GPU_TYPES.get(pod.order.gpu_type_id or "")
    if gpu is None or not root.is_dir():
        return
    total = gpu.memory_gb * _MIB_PER_GB
    used = round(total * util_percent / 100)
    use = f"{round(util_percent)}|{used}|{total}"
    lines = [f"{index}|{gpu.id}|{_gpu_uuid(pod, index)}|{use}\n" for index in range(pod.gpu_count)]
    path = root / _REPORT
    scratch = path.with_name(f"gpus.{secrets.token_hex(4)}")
    with contextlib.suppress(FileNotFoundError):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text("".join(lines))
        os.replace(scratch, path)


def _gpu_uuid(pod: Pod, index: int) -> str:
    return f"GPU-{uuid.uuid5(uuid.NAMESPACE_OID, f'{pod.machine_id}-{index}')}"
