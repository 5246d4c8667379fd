"""How often the kernel killed a process of this container for want of memory."""

from __future__ import annotations

import contextlib

# Linux: admin-guide/cgroup-v2 (memory.events) and cgroup-v1/memory (memory.oom_control).
FILES = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")


def count_kills() -> int | None:
    """Return the number of such kills since the container began, None where the kernel does not tell."""
    for path in FILES:
        with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:
            for line in file:
                name, _, value = line.partition(" ")
                if name == "oom_kill":
                    return int(value)
    return None
