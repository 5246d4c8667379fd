"""How many bytes the network volumes hold."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

from podtasks.emulator.account import NetworkVolume
from podtasks.emulator.layout import Layout

_GB = 1_000_000_000
# A count is good for so many times as long as it took, so that big volumes are not counted all the time.
_REST_FACTOR = 50


@dataclass
class _Count:
    used_bytes: int
    counted_at: float
    took_s: float


class VolumeUsage:
    """Counts what lies in the volumes' folders.

    Args:
        layout: where they lie.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._counts: dict[str, _Count] = {}

    def used_bytes(self, volume: NetworkVolume) -> int:
        """Return the sizes of all files of a volume, unfinished uploads included; a big volume's may be old."""
        return self._count(volume).used_bytes

    def take(self, volume: NetworkVolume, size_bytes: int) -> bool:
        """Note that so many bytes are about to be written; say whether the volume has room for them."""
        limit_bytes = volume.size_gb * _GB - size_bytes
        count = self._count(volume)
        if count.used_bytes > limit_bytes:
            count = self._count_anew(volume)
        if count.used_bytes > limit_bytes:
            return False
        count.used_bytes += size_bytes
        return True

    def _count(self, volume: NetworkVolume) -> _Count:
        count = self._counts.get(volume.id)
        if count is None or time.monotonic() - count.counted_at > _REST_FACTOR * count.took_s:
            count = self._count_anew(volume)
        return count

    def _count_anew(self, volume: NetworkVolume) -> _Count:
        now = time.monotonic()
        used_bytes = _size_of(str(self._layout.network_volume(volume.id)))
        count = self._counts[volume.id] = _Count(used_bytes, now, time.monotonic() - now)
        return count


def _size_of(folder: str) -> int:
    total, folders = 0, [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total
