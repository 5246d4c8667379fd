"""Strikes at the pod: it goes away, or something on it dies, loses its memory, its time or its way to the API."""

from __future__ import annotations

import random
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tests.campaign.strike import Effect, Missed, Strike
from tests.campaign.strikes.api import withdraw
from tests.campaign.strikes.targets import (
    container_disk,
    control,
    kill,
    pod_tree,
    processes,
    require_processes,
    running_pod,
    send,
    turn,
)
from tests.end_to_end.project import command_line, descendants

if TYPE_CHECKING:
    from tests.campaign.world import World

TRAINING = "scripts/train.py"
SUPERVISOR = "supervise.py"
GUARD = "guard.py"
_CGROUP_FILE = "sys/fs/cgroup/memory.events"
_CLOCK = Path(__file__).with_name("jumped_clock.py")
_OFFSET_FILE = "tmp/clock-offset-s"
# runpodctl, in both of its syntaxes, and GraphQL call podStop; the REST action is the third way.
_STOP_CALLS = ("podStop", "POST /v2/pods/{id}/action", "podTerminate", "DELETE /v2/pods/{id}")
_OFTEN = 10_000
# remote/guard_end.py: a new guard waits so long for a supervisor to come back, and for a launch at least so long.
_RECONNECT_S = 12.0
_LEAST_GRACE_S = 32.0


def preempt(world: World, _random: random.Random) -> Effect:
    """The pod is preempted: SIGTERM, and SIGKILL after 5 s."""
    pod_id = running_pod(world)
    control(world, "POST", f"pods/{pod_id}/preempt", {})
    return Effect(f"pod {pod_id} preempted", ends_command=True)


def preempt_without_notice(world: World, _random: random.Random) -> Effect:
    """The pod is preempted with SIGKILL at once."""
    pod_id = running_pod(world)
    turn_back = turn(world, preempt_grace_s=0)
    try:
        control(world, "POST", f"pods/{pod_id}/preempt", {})
    finally:
        turn_back()
    return Effect(f"pod {pod_id} preempted without notice", ends_command=True)


def lose_host(world: World, _random: random.Random) -> Effect:
    """The pod's host is lost: everything on it ends at once."""
    pod_id = running_pod(world)
    control(world, "POST", f"pods/{pod_id}/kill", {})
    return Effect(f"the host of pod {pod_id} lost", ends_command=True)


def kill_training(world: World, _random: random.Random) -> Effect:
    """SIGKILL to the training's processes."""
    return _kill(require_processes(world, TRAINING), "the training")


def kill_supervisor(world: World, _random: random.Random) -> Effect:
    """SIGKILL to the supervisor."""
    return _kill(require_processes(world, SUPERVISOR), "the supervisor")


def kill_guard(world: World, source: random.Random) -> Effect:
    """SIGKILL to the guard, in one case of three together with the supervisor."""
    also_supervisor = source.random() < 0.33
    guards, supervisors = require_processes(world, GUARD), processes(world, SUPERVISOR)
    if supervisors and also_supervisor:
        effect = _kill([*guards, *supervisors], "the guard and the supervisor")
        return replace(effect, excused_s=_RECONNECT_S)
    return replace(_kill(guards, "the guard"), excused_s=0.0 if supervisors else _LEAST_GRACE_S)


def kill_tmux_server(world: World, _random: random.Random) -> Effect:
    """SIGKILL to the tmux server: what runs in it gets SIGHUP."""
    return _kill(_tmux_servers(world), "the tmux server")


def kill_tmux_children(world: World, _random: random.Random) -> Effect:
    """SIGKILL to all below the tmux server, the training included."""
    below = [pid for server in _tmux_servers(world) for pid in descendants(server)[1:]]
    if not below:
        raise Missed("nothing runs in tmux")
    return _kill(below, "all below the tmux server")


def out_of_memory(world: World, _random: random.Random) -> Effect:
    """What the kernel does when a container has used up its memory.

    SIGKILL to the pod's process with the highest oom_score, as the kernel itself reckons it, and one more
    `oom_kill` in the cgroup's memory.events as the pod sees it. Linux: admin-guide/cgroup-v2, proc_pid_oom_score(5).
    """
    require_processes(world, TRAINING)
    disk = container_disk(world, running_pod(world))
    victim = max(pod_tree(world), key=_oom_score)
    words = command_line(victim)
    _count_oom_kill(disk / _CGROUP_FILE)
    kill([victim])
    return Effect(f"out of memory: SIGKILL to {victim} ({words.strip()[:60]})")


def jump_clock(world: World, source: random.Random) -> Effect:
    """The pod's wall clock jumps by hours, forwards or backwards, and back again later.

    For every Python that is started on the pod from now on: jumped_clock.py, as its usercustomize. A pod shares
    this machine's real clock, so these do not jump: the kernel's own times (of files, of /proc), programs that are
    not Python, and a Python that runs already. So that the guard is among those that see it, half the time the guard
    is killed as well; its successor then reads the jumped clock.
    """
    hours = source.uniform(0.5, 30.0) * source.choice((-1, 1))
    restarts_guard, seconds = source.random() < 0.5, source.uniform(0.5, 10.0)
    disk = container_disk(world, running_pod(world))
    offset = disk / _OFFSET_FILE
    offset.write_text(f"{hours * 3600}\n")
    site = disk / f"root/.local/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
    site.mkdir(parents=True, exist_ok=True)
    (site / "usercustomize.py").write_text(_CLOCK.read_text())
    guards = processes(world, GUARD) if restarts_guard else []
    has_run = bool(processes(world, SUPERVISOR))
    send(guards, signal.SIGKILL)

    def undo() -> None:
        if offset.exists():
            offset.write_text("0\n")

    what = f"the pod's clock jumped by {hours:+.1f} h" + (", its guard killed" if guards else "")
    excused_s = _LEAST_GRACE_S if guards and not has_run else 0.0
    return Effect(what, undo=undo, undo_after_s=seconds, excused_s=excused_s)


def fail_to_stop(world: World, source: random.Random) -> Effect:
    """Every way in which a pod can stop itself fails for a while."""
    kind = source.choice(("html", "http", "error", "rate_limit"))
    seconds = source.uniform(0.5, 6.0)
    running_pod(world)
    for operation in _STOP_CALLS:
        control(world, "POST", "faults", {"operation": operation, "kind": kind, "times": _OFTEN})

    def undo() -> None:
        for operation in _STOP_CALLS:
            withdraw(world, operation, kind, _OFTEN)

    # The pod tries again after 1, 2, 4 ... s: at most as long again as the trouble lasted, and a round of calls.
    return Effect(
        f"no pod can be stopped ({kind}), for {seconds:.1f} s",
        undo=undo,
        undo_after_s=seconds,
        excused_s=2 * seconds + 4.0,
    )


def _kill(pids: list[int], what: str) -> Effect:
    return Effect(f"SIGKILL to {what}: {kill(pids)}")


def _tmux_servers(world: World) -> list[int]:
    found = [pid for pid in pod_tree(world) if _name(pid) == "tmux: server"]
    if not found:
        raise Missed("no tmux server runs")
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _oom_score(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/oom_score").read_text())
    except (OSError, ValueError):
        return -1


def _count_oom_kill(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = path.read_text().split() if path.exists() else []
    kills = int(lines[lines.index("oom_kill") + 1]) if "oom_kill" in lines else 0
    path.write_text(f"low 0\nhigh 0\nmax {kills + 1}\noom {kills + 1}\noom_kill {kills + 1}\n")


def _strike(name: str, hit: Callable[[World, random.Random], Effect], weight: float = 1.0) -> Strike:
    return Strike(f"pod/{name}", hit, weight=weight)


STRIKES = (
    _strike("preempt", preempt),
    _strike("preempt_without_notice", preempt_without_notice),
    _strike("lose_host", lose_host),
    _strike("kill_training", kill_training),
    _strike("kill_supervisor", kill_supervisor),
    _strike("kill_guard", kill_guard),
    _strike("kill_tmux_server", kill_tmux_server),
    _strike("kill_tmux_children", kill_tmux_children),
    _strike("out_of_memory", out_of_memory),
    _strike("jump_clock", jump_clock),
    _strike("fail_to_stop", fail_to_stop),
)
