"""What RunPod says about pods, GPU types and network volumes, as frozen values."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from podtasks.pure.secret import Secret
from podtasks.pure.ssh_algorithms import HOST_KEY

HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]*")
HOST_KEY_LINE = re.compile(rf"{HOST_KEY} [A-Za-z0-9+/]+={{0,2}}( [^\r\n]*)?")


class PodStatus(enum.Enum):
    """RunPod's `desiredStatus`. RUNNING says only that it should run, and is billed.

    RunPod facts, section 2: RUNNING, EXITED and TERMINATED are the ones seen in practice.
    """

    RUNNING = "RUNNING"
    EXITED = "EXITED"
    TERMINATED = "TERMINATED"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def from_text(cls, text: object) -> PodStatus:
        """Return the status for RunPod's word, UNKNOWN for a word not known here."""
        return cls(text) if text in cls._value2member_map_ else cls.UNKNOWN


@dataclass(frozen=True)
class SshEndpoint:
    """Where a pod's sshd is reached from outside."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Pod:
    """One reading of a pod."""

    id: str
    name: str
    status: PodStatus
    image: str
    gpu: str
    gpu_count: int
    usd_per_hour: float
    mount_path: str
    status_change: str
    ssh: SshEndpoint | None
    env: Mapping[str, str] = field(repr=False, default_factory=dict)

    @property
    def container_dir(self) -> str:
        """The folder on the container disk that podtasks keeps its own files in."""
        return self.env.get("PODTASKS_DIR", "/opt/podtasks")

    @property
    def host_public_key(self) -> str:
        """The OpenSSH public key that this pod was given when it was made ("" for a stranger's pod)."""
        line = self.env.get("PODTASKS_HOST_PUBLIC_KEY", "")
        # Whoever may change the pod's environment could else name a kind of key that is easier to forge.
        return line if HOST_KEY_LINE.fullmatch(line) else ""

    @property
    def project(self) -> str:
        """The project whose stamp the pod carries, "" when it carries none."""
        return self.env.get("PODTASKS_PROJECT", "")

    @property
    def helper_of(self) -> str:
        """The project that this pod only copies files for, "" for a pod that trains."""
        return self.env.get("PODTASKS_HELPER", "")

    @property
    def network_volume_id(self) -> str:
        """The network volume the pod was made with, "" for a host-local volume disk."""
        return self.env.get("PODTASKS_NETWORK_VOLUME", "")


def parse_pod(answer: Mapping[str, Any]) -> Pod:
    """Given a pod as GraphQL returns it, return its value.

    Raises KeyError when the answer has no id.
    """
    machine = answer.get("machine") or {}
    status = PodStatus.from_text(answer.get("desiredStatus"))
    ended = str(answer.get("lastStatusChange") or "").lower().startswith("terminated")
    if ended and status is PodStatus.EXITED:
        # A terminate first writes EXITED; then the pod drops out of the lists (RunPod facts, section 2).
        status = PodStatus.TERMINATED
    return Pod(
        id=str(answer["id"]),
        name=str(answer.get("name") or ""),
        status=status,
        image=str(answer.get("imageName") or ""),
        gpu=str(machine.get("gpuDisplayName") or ""),
        gpu_count=int(answer.get("gpuCount") or 0),
        usd_per_hour=float(answer.get("costPerHr") or 0.0),
        mount_path=str(answer.get("volumeMountPath") or "/workspace"),
        status_change=str(answer.get("lastStatusChange") or ""),
        # A stopped pod keeps reporting its old ports for a while (RunPod facts, section 2).
        ssh=parse_ssh_endpoint(answer) if status is PodStatus.RUNNING else None,
        env=parse_environment(answer.get("env") or []),
    )


def parse_ssh_endpoint(answer: Mapping[str, Any]) -> SshEndpoint | None:
    """Return where port 22 of the pod is published, None until it is, or where that is no address."""
    ports = (answer.get("runtime") or {}).get("ports") or []
    for port in ports:
        if port.get("privatePort") == 22 and port.get("isIpPublic") and port.get("publicPort"):
            host = str(port["ip"])
            # It becomes a word of ssh's and rsync's.
            return SshEndpoint(host, int(port["publicPort"])) if HOST.fullmatch(host) else None
    return None


def parse_environment(lines: Sequence[str]) -> dict[str, str]:
    """Given RunPod's list of "NAME=value" texts, return them as a mapping."""
    return dict(line.split("=", 1) for line in lines if "=" in line)


@dataclass(frozen=True)
class NetworkVolume:
    """A network volume of the account."""

    id: str
    name: str
    size_gb: int
    data_center: str


@dataclass(frozen=True)
class GpuOffer:
    """What a GPU type costs and whether it is to be had, in one data centre and cloud."""

    id: str
    name: str
    memory_gb: int
    usd_per_hour: float | None
    stock: str

    @property
    def in_stock(self) -> bool:
        """False only where RunPod says there is none: a missing word is no answer."""
        return self.stock.lower() not in ("none", "unavailable")


@dataclass(frozen=True)
class PodSpec:
    """A pod to be rented, all but its GPU type."""

    name: str
    image: str
    gpu_count: int
    cloud_type: str
    data_center: str | None
    network_volume_id: str | None
    container_disk_gb: int
    volume_disk_gb: int
    mount_path: str
    ports: str
    start_command: str = field(repr=False)
    env: Mapping[str, str | Secret] = field(repr=False, default_factory=dict)
