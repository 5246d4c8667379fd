"""Strikes at the command: signals, a sleep, a second one at once."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.campaign.strike import Effect, Missed, Strike
from tests.campaign.strikes.targets import require_command

if TYPE_CHECKING:
    from tests.campaign.world import World

# A view that sleeps for longer may miss the 3 s in which the pod waits for whoever reads the end of the log.
_SURE_TO_SEE_THE_END_S = 1.5


def kill(world: World, _random: random.Random) -> Effect:
    """SIGKILL to the command's process group, as from a closing session manager."""
    return _signal(world, signal.SIGKILL)


def terminate(world: World, _random: random.Random) -> Effect:
    """SIGTERM to the command's process group."""
    return _signal(world, signal.SIGTERM)


def hang_up(world: World, _random: random.Random) -> Effect:
    """SIGHUP to the command's process group, as from a closed terminal."""
    return _signal(world, signal.SIGHUP)


def interrupt(world: World, _random: random.Random) -> Effect:
    """Ctrl+C."""
    return _signal(world, signal.SIGINT)


def interrupt_twice(world: World, source: random.Random) -> Effect:
    """Ctrl+C, and again at once or a moment later: whoever is impatient."""
    pause_s = source.choice((0.0, source.uniform(0.0, 0.3)))
    effect = _signal(world, signal.SIGINT)
    time.sleep(pause_s)
    with contextlib.suppress(Missed):
        _signal(world, signal.SIGINT)
    return Effect(f"{effect.what}, and again after {pause_s:.2f} s", ends_command=True)


def second_train(world: World, _random: random.Random) -> Effect:
    """A second `inv train` beside the first."""
    require_command(world)
    world.start_again()
    return Effect("a second inv train started")


def asleep(world: World, source: random.Random) -> Effect:
    """The laptop sleeps: SIGSTOP to the command, and SIGCONT after a while."""
    seconds = source.choice((source.uniform(0.2, 1.5), source.uniform(1.5, 6.0)))
    pid = require_command(world)
    _send(pid, signal.SIGSTOP)

    def wake() -> None:
        with contextlib.suppress(Missed):
            _send(pid, signal.SIGCONT)

    what = f"SIGSTOP to {pid}, for {seconds:.1f} s"
    return Effect(what, undo=wake, undo_after_s=seconds, ends_command=seconds > _SURE_TO_SEE_THE_END_S)


def _signal(world: World, number: signal.Signals) -> Effect:
    pid = require_command(world)
    _send(pid, number)
    return Effect(f"{number.name} to the command {pid}", ends_command=True)


def _send(pid: int, number: int) -> None:
    """Send a signal to the command's own process group, to the command alone where it has none."""
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, number)
        else:
            os.kill(pid, number)
    except ProcessLookupError as error:
        raise Missed("the command has just ended") from error


def _strike(name: str, hit: Callable[[World, random.Random], Effect], weight: float = 1.0) -> Strike:
    return Strike(f"cli/{name}", hit, weight=weight)


STRIKES = (
    _strike("kill", kill, 2.0),
    _strike("terminate", terminate),
    _strike("hang_up", hang_up),
    _strike("interrupt", interrupt),
    _strike("interrupt_twice", interrupt_twice),
    _strike("second_train", second_train),
    _strike("asleep", asleep),
)
