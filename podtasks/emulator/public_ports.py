"""The ports of a pod's start."""

from __future__ import annotations

import random
from collections.abc import Iterator

from podtasks.emulator.environment import LOOPBACK
from podtasks.emulator.pod import PodOrder
from podtasks.emulator.sandbox import is_port_free

# Below the kernel's range for outgoing connections, so that no connection takes a pod's port first.
_PUBLIC_PORTS = range(10000, 30000)
_FIRST_SYMMETRICAL_PORT = 70000


def choose_ports(order: PodOrder, taken: set[int]) -> dict[int, int]:
    """Choose the public ports of a start, by private port.

    sshd really gets a new port each time, asked for or not. Any other port is itself, because a pod
    shares this machine's network; RunPod's symmetrical ports (70000 and up) get a free one.

    Args:
        order: names the private ports.
        taken: ports of other pods.
    """
    fresh = _free_ports(taken)
    ports = {22: next(fresh)}
    for private in order.private_ports("tcp"):
        if private >= _FIRST_SYMMETRICAL_PORT:
            ports[private] = next(fresh)
        elif private != 22:
            ports[private] = private
    return ports


def choose_port(taken: set[int]) -> int:
    """Choose one port that nobody has.

    Args:
        taken: ports of pods, in use or soon.
    """
    return next(_free_ports(taken))


def _free_ports(taken: set[int]) -> Iterator[int]:
    for port in random.sample(_PUBLIC_PORTS, len(_PUBLIC_PORTS)):
        if port not in taken and is_port_free(port, LOOPBACK):
            yield port
