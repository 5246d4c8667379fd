"""Where things lie in the state directory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from podtasks.emulator import disk
from podtasks.emulator.pod import Pod


class Layout:
    """The state directory of one emulator.

    Args:
        home: its path; made if missing.
    """

    def __init__(self, home: Path) -> None:
        self.home = home.resolve()
        self.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.lock = self.home / "lock"
        self.server = self.home / "server.json"
        self.state = self.home / "state.json"
        self.pods = self.home / "pods"

    def network_volume(self, volume_id: str) -> Path:
        """Return the directory of a network volume, made if missing."""
        return _made(self.home / "volumes" / volume_id)

    def pod(self, pod: Pod) -> Path:
        """Return the directory of a pod, made if missing."""
        return _made(self.pods / pod.id)

    def container_disk(self, pod: Pod) -> Path:
        """Return the container disk of a pod, which need not exist."""
        return self.pod(pod) / "disk"

    def container_log(self, pod: Pod) -> Path:
        """Return the file that gets what process 1 prints."""
        return self.pod(pod) / "container.log"

    def volume(self, pod: Pod) -> Path | None:
        """Return the directory that is mounted at the pod's volume path, or None without any volume."""
        if pod.order.network_volume_id:
            return self.network_volume(pod.order.network_volume_id)
        return _made(self.pod(pod) / "volume") if pod.order.volume_gb else None

    def sweep(self, pods: Iterable[Pod]) -> None:
        """Erase what an emulator that was killed had not finished writing or erasing.

        Args:
            pods: all pods that exist.
        """
        for scratch in self.home.glob("*.new"):
            scratch.unlink()
        kept = {pod.id for pod in pods}
        rubbish = [folder for folder in _made(self.pods).iterdir() if folder.name not in kept]
        for folder in [*rubbish, *self.pods.glob(f"*/{disk.TRASH}*")]:
            disk.erase_later(folder)

    def erase_pod(self, pod: Pod) -> None:
        """Erase all a terminated pod had; a network volume stays."""
        disk.erase(self.pod(pod))


def _made(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path
