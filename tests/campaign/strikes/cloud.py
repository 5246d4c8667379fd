"""Strikes at the local cloud itself: its server ends and comes back; its pods stay."""

from __future__ import annotations

import os
import random
import signal
import time
from typing import TYPE_CHECKING

from tests.campaign.strike import Effect, Missed, Strike
from tests.campaign.strikes.targets import is_running, revive
from tests.end_to_end.project import command_line

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
    pid = _find_server(world)
    os.kill(pid, number)
    _wait_until_gone(pid)
    return Effect(
        f"{number.name} to the cloud's server {pid}, for {seconds:.1f} s",
        undo=lambda: revive(world),
        undo_after_s=seconds,
        excused_s=2 * seconds + _PAUSES_BESIDE_S,
    )


def _find_server(world: World) -> int:
    """Return the server's process id; that of one which was killed may be another program's by now."""
    try:
        pid = int(world.project.server()["pid"])
    except (OSError, ValueError) as error:
        raise Missed("the cloud does not run") from error
    if not is_running(pid) or "podtasks.emulator" not in command_line(pid):
        raise Missed("the cloud was killed before")
    return pid


def _wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + _END_TIMEOUT_S
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)


STRIKES = (
    Strike("cloud/restart", restart),
    Strike("cloud/crash", crash),
)
