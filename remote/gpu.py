"""What the GPUs of this pod are doing, as `nvidia-smi` tells."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import Any

from pod_environ import read_pod_environ

TIMEOUT_S = 2.0
# nvidia-smi --help-query-gpu: utilization in percent, memory in MiB with the format's `nounits`.
QUERY = "index,name,utilization.gpu,memory.used,memory.total"


def start_query() -> subprocess.Popen[bytes] | None:
    """Start asking, so that other things can be looked at meanwhile; None where there is no nvidia-smi."""
    path = read_pod_environ().get("PATH")
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=path)
    if program is None:
        return None
    words = [program, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits"]
    try:
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError:
        return None


def read_answer(query: subprocess.Popen[bytes] | None, timeout_s: float = TIMEOUT_S) -> list[dict[str, Any]]:
    """Return the GPUs, [] where nothing answers in time. A driver that hangs is left behind, not waited for."""
    if query is None:
        return []
    try:
        output, _ = query.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            query.kill()
        return []
    return parse(output.decode(errors="replace")) if query.returncode == 0 else []


def parse(text: str) -> list[dict[str, Any]]:
    """Given nvidia-smi's lines, return one entry for each GPU; a value it does not have is None."""
    gpus = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) < 5 or not fields[0].isdigit():
            continue
        used, total = _number(fields[-2]), _number(fields[-1])
        gpus.append(
            {
                "index": int(fields[0]),
                "name": ", ".join(fields[1:-3]),
                "util_percent": _number(fields[-3]),
                "memory_used_mb": used,
                "memory_total_mb": total,
            }
        )
    return gpus


def _number(text: str) -> int | None:
    """Return a whole number, None for `[N/A]` and its like."""
    try:
        return round(float(text))
    except (ValueError, OverflowError):
        return None
