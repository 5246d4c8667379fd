"""Strikes at the local cloud itself: its server ends and comes back; its pods stay."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

from tests.campaign.strike import Effect, Missed, Strike
from tests.campaign.strikes.targets import revive

if TYPE_CHECKING:
    from tests.campaign.world import World

_END_TIMEOUT_S = 20.0
# A pod that wants to stop meanwhile tries again after growing pauses, at most as long as the time before.
_PAUSES_BESIDE_S = 4.0


def restart(world: World, source: random.Random) -> Effect:
    """SIGTERM to the server, which leaves its pods running; it is started again a moment later."""
    return _end(world, source, signal.SIGTERM)


def crash(world: World, source: random.Random) -> Effect:
    """SIGKILL to the server, in whatever it was doing; it is started again a moment later."""
    return _end(world, source, signal.SIGKILL)


def _end(world: World, source: random.Random, number: signal.Signals) -> Effect:
    seconds = source.choice((0.0, source.uniform(0.0, 1.0), source.uniform(1.0, 4.0)))
    try:
        pid = int(world.project.server()["pid"])
        os.kill(pid, number)
    except (OSError, ValueError) as error:
        raise Missed("the cloud does not run") from error
    _wait_until_gone(world, pid)
    return Effect(
        f"{number.name} to the cloud's server {pid}, for {seconds:.1f} s",
        undo=lambda: revive(world),
        undo_after_s=seconds,
        excused_s=2 * seconds + _PAUSES_BESIDE_S,
    )


def _wait_until_gone(world: World, pid: int) -> None:
    deadline = time.monotonic() + _END_TIMEOUT_S
    while _is_alive(world, pid) and time.monotonic() < deadline:
        time.sleep(0.01)


def _is_alive(world: World, pid: int) -> bool:
    if world.project.cloud is not None:
        world.project.cloud.poll()
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


STRIKES = (
    Strike("cloud/restart", restart),
    Strike("cloud/crash", crash),
)
