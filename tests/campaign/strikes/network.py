"""Strikes at the way to the pod: what the relay in front of its sshd does to connections."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.campaign.strike import Effect, Missed, Strike
from tests.campaign.strikes.targets import control, is_following, lure, processes, require_command, running_pod

if TYPE_CHECKING:
    from tests.campaign.world import World

# The pod waits 3 s for whoever reads the log's end, 5 s for one whose link broke: longer, and the end may be missed.
_SURE_TO_SEE_THE_END_S = 1.5
_PATIENCE_S = 20.0
# The programs that the client runs one after another before it follows the log.
_COMMANDS = ("prepare.py", "sync_code.py", "find_checkpoint.py", "launch.py")


def refuse(world: World, source: random.Random) -> Effect:
    """SSH is refused for a while; what is open stays, or is reset as well."""
    seconds = source.choice((source.uniform(0.2, 1.5), source.uniform(1.5, 6.0)))
    also_resets = source.random() < 0.6
    _trouble(world, running_pod(world), refuse_s=seconds, **({"reset": True} if also_resets else {}))
    what = f"SSH refused for {seconds:.1f} s" + (", open connections reset" if also_resets else "")
    return Effect(what, ends_command=seconds > _SURE_TO_SEE_THE_END_S)


def reset_in_command(world: World, source: random.Random) -> Effect:
    """All connections are reset while a program of the launch runs over one of them.

    Before that, it lies in wait. Raises Missed when the log is followed already.
    """
    program = source.choice(_COMMANDS)
    delay_s = source.uniform(0.0, 0.5 if program == "prepare.py" else 0.1)
    require_command(world)
    if is_following(world):
        raise Missed("the launch is over")

    def find() -> str | None:
        return running_pod(world) if processes(world, program) else None

    def strike(pod_id: str, pause: Callable[[float], None]) -> None:
        pause(delay_s)
        _trouble(world, pod_id, reset=True)

    ambush = lure(world, "network/reset_in_command", find, strike, _PATIENCE_S)
    what = f"a reset lies in wait for {program}, {delay_s:.2f} s after its start"
    return Effect(what, undo=ambush.end, undo_after_s=_PATIENCE_S)


def reset_in_log(world: World, _source: random.Random) -> Effect:
    """All connections are reset while the log is streamed."""
    pod_id = running_pod(world)
    if not is_following(world):
        raise Missed("nobody follows the log")
    _trouble(world, pod_id, reset=True)
    return Effect("connections reset while the log is streamed")


def stall(world: World, source: random.Random) -> Effect:
    """The bytes of one direction, or of both, wait for a while; no connection breaks."""
    direction = source.choice(("to_pod", "from_pod", "both"))
    short, middle, beyond_silence = source.uniform(0.2, 1.5), source.uniform(1.5, 6.0), source.uniform(17.0, 20.0)
    (seconds,) = source.choices((short, middle, beyond_silence), (10, 10, 1))
    _trouble(world, running_pod(world), stall=direction, stall_s=seconds)
    return Effect(f"stalled {direction}, {seconds:.1f} s", ends_command=seconds > _SURE_TO_SEE_THE_END_S)


def change_port(world: World, _source: random.Random) -> Effect:
    """The pod's public port becomes another one, at once."""
    pod_id = running_pod(world)
    before = control(world, "GET", f"pods/{pod_id}")["public_ports"].get("22")
    _trouble(world, pod_id, new_port=True)
    after = control(world, "GET", f"pods/{pod_id}")["public_ports"].get("22")
    if before == after:
        raise Missed("the port stayed: is the dial `relay` on?")
    return Effect(f"port {before} became {after}")


def _trouble(world: World, pod_id: str, **trouble: object) -> None:
    control(world, "POST", f"pods/{pod_id}/network", trouble)


STRIKES = (
    Strike("network/refuse", refuse),
    Strike("network/reset_in_command", reset_in_command, moments=("line", "call", "time")),
    Strike("network/reset_in_log", reset_in_log, moments=("line", "step", "time")),
    Strike("network/stall", stall),
    Strike("network/change_port", change_port),
)
