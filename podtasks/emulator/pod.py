"""One rented pod: what was ordered, what state it is in, what it has cost so far."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field
from typing import Any

from podtasks.emulator.process import ProcessIdentity

RUNNING = "RUNNING"
EXITED = "EXITED"
TERMINATED = "TERMINATED"


@dataclass(frozen=True)
class PodOrder:
    """What a client asked for, after defaults."""

    name: str
    image: str
    cloud: str
    data_center: str
    env: dict[str, str]
    usd_per_hour: float
    gpu_type_id: str | None = None
    gpu_count: int = 0
    vcpu_count: int = 8
    memory_gb: int = 62
    cpu_flavour: str | None = None
    docker_args: str = ""
    ports: str | None = None
    container_disk_gb: int = 10
    volume_gb: int = 0
    volume_mount_path: str = "/workspace"
    network_volume_id: str | None = None
    template_id: str | None = None
    start_ssh: bool = False
    support_public_ip: bool = False
    bid_usd: float | None = None

    def private_ports(self, kind: str) -> list[int]:
        """Return the port numbers asked for with one kind ("tcp" or "http"), as in "8888/http,22/tcp"."""
        pairs = [item.strip().partition("/") for item in (self.ports or "").split(",") if item.strip()]
        return [int(number) for number, _, found in pairs if found == kind]


@dataclass(frozen=True)
class Container:
    """The running container of a pod.

    Args:
        process: its process 1, as this machine sees it.
        monitor: the process that waits for it (the same where there is no sandbox).
        hostname: new at each start, as on RunPod.
        started_at: epoch seconds.
        version: the pod's version at the start it belongs to; None where that was not written down.
    """

    process: ProcessIdentity
    monitor: ProcessIdentity
    hostname: str
    started_at: float
    version: int | None = None


@dataclass
class Interval:
    """A time in which compute was billed, in epoch seconds; `end` is None while it lasts."""

    start: float
    end: float | None
    usd_per_hour: float

    def seconds(self, now: float) -> float:
        """Return how long it lasted, up to now."""
        return (now if self.end is None else self.end) - self.start


@dataclass
class Pod:
    """A pod and its history; everything here survives a restart of the emulator."""

    id: str
    key: str
    host_suffix: str
    machine_id: str
    order: PodOrder
    created_at: float
    desired: str = RUNNING
    last_status_change: str = ""
    started_at: float = 0.0
    stopped_at: float | None = None
    removed_at: float | None = None
    is_terminating: bool = False
    version: int = 0
    gpu_count: int = 0
    public_ports: dict[int, int] = field(default_factory=dict)
    stale_ports: dict[int, int] = field(default_factory=dict)
    inner_ssh_port: int | None = None
    grace_s: float = 0.0
    start_trouble: str | None = None
    dies_at: float | None = None
    intervals: list[Interval] = field(default_factory=list)
    container: Container | None = None
    usd_per_hour: float = 0.0

    @property
    def host_id(self) -> str:
        """The user name of RunPod's SSH proxy, `<pod id>-<hex>`."""
        return f"{self.id}-{self.host_suffix}"

    @property
    def sshd_port(self) -> int | None:
        """Where the pod's sshd listens: behind a relay at its inner port, else at its public one."""
        return self.inner_ssh_port or self.public_ports.get(22)

    @property
    def ports_in_use(self) -> set[int]:
        """The ports of this machine that are the pod's."""
        return {*self.public_ports.values()} | ({self.inner_ssh_port} if self.inner_ssh_port else set())

    @property
    def is_removed(self) -> bool:
        """Whether the pod has left all lists; only the meter still knows it."""
        return self.removed_at is not None

    @property
    def is_spot(self) -> bool:
        """Whether the pod was rented with a bid."""
        return self.order.bid_usd is not None

    def started_at_delay(self, delay_s: float) -> float:
        """Return how many seconds are left until some time after the start."""
        return self.started_at + delay_s - time.time()

    def grace_left_s(self) -> float:
        """Return what is left of a stopped pod's grace time."""
        return 0.0 if self.stopped_at is None else max(0.0, self.stopped_at + self.grace_s - time.time())

    def begin(self, now: float, public_ports: dict[int, int], inner_ssh_port: int | None) -> None:
        """Set the pod running: billing starts, ports are new, the old ones are kept as stale."""
        self.desired = RUNNING
        self.started_at = now
        self.stopped_at = None
        self.stale_ports, self.public_ports = self.public_ports, public_ports
        self.inner_ssh_port = inner_ssh_port
        self.start_trouble = self.dies_at = None
        self.version += 1
        self.intervals.append(Interval(now, None, self.usd_per_hour))

    def end(self, now: float, text: str, grace_s: float) -> None:
        """Set the pod stopped: billing of compute ends now, whatever its container does in its grace time."""
        self.desired = EXITED
        self.last_status_change = text
        self.stopped_at = now
        self.grace_s = grace_s
        if self.intervals and self.intervals[-1].end is None:
            self.intervals[-1].end = now

    def to_state(self) -> dict[str, Any]:
        """Return the pod as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Pod:
        """Read a pod back from what `to_state` gave."""
        values = dict(state)
        values["order"] = PodOrder(**values["order"])
        values["intervals"] = [Interval(**interval) for interval in values["intervals"]]
        for name in ("public_ports", "stale_ports"):
            values[name] = {int(private): public for private, public in values[name].items()}
        if values["container"] is not None:
            values["container"] = _container_from_state(values["container"])
        return cls(**values)


def _container_from_state(state: dict[str, Any]) -> Container:
    return Container(
        process=ProcessIdentity(**state["process"]),
        monitor=ProcessIdentity(**state["monitor"]),
        hostname=state["hostname"],
        started_at=state["started_at"],
        version=state.get("version"),
    )
