"""What strikes are aimed at: the cloud's control routes, pods, processes in pods, places on the volume.

Everything here goes over the control routes, which no ordered fault strikes, and raises Missed where there is
nothing to aim at.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.campaign import pipeline
from tests.campaign.strike import Missed
from tests.end_to_end.project import command_line, descendants

if TYPE_CHECKING:
    from tests.campaign.world import World

Blow = Callable[[Any, Callable[[float], None]], None]

_CONTROL_TIMEOUT_S = 10.0
_POLL_S = 0.03
_REVIVAL = threading.Lock()


def control(world: World, method: str, route: str, body: object = None) -> Any:  # noqa: ANN401 (JSON)
    """Call a control route. Raises Missed when the cloud is down, or refuses (a pod that is gone)."""
    try:
        server = world.project.server()
        request = urllib.request.Request(
            f"{server['url']}/_cloud/{route}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {server['key']}", "Content-Type": "application/json"},
            method=method,
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=_CONTROL_TIMEOUT_S) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        raise Missed(f"{method} {route}: {error.code} {error.read()[:200]!r}") from error
    except (OSError, ValueError) as error:
        raise Missed(f"{method} {route}: {error}") from error


def revive(world: World) -> None:
    """Start the cloud's server again, unless somebody has done so."""
    with _REVIVAL:
        try:
            control(world, "GET", "status")
        except Missed:
            world.restart_cloud()


def control_surely(world: World, method: str, route: str, body: object = None) -> Any:  # noqa: ANN401 (JSON)
    """Call a control route as an undo does, which must not fail because the cloud is down just then."""
    try:
        return control(world, method, route, body)
    except Missed:
        revive(world)
        return control(world, method, route, body)


def turn(world: World, **dials: object) -> Callable[[], None]:
    """Turn dials; return what turns them back to where they were."""
    known = control(world, "GET", "dials")
    before = {name: known[name] for name in dials}
    control(world, "POST", "dials", dials)

    def turn_back() -> None:
        control_surely(world, "POST", "dials", before)

    return turn_back


def list_pods(world: World) -> dict[str, str]:
    """Return the wanted status of each pod by its id."""
    pods: dict[str, str] = control(world, "GET", "status")["pods"]
    return pods


def running_pod(world: World) -> str:
    """Return the id of the pod that runs. Raises Missed without one."""
    return _first_with(world, "RUNNING", "no pod runs")


def stopped_pod(world: World) -> str:
    """Return the id of a stopped pod. Raises Missed without one."""
    return _first_with(world, "EXITED", "no pod is stopped")


def _first_with(world: World, status: str, why: str) -> str:
    for pod_id, desired in list_pods(world).items():
        if desired == status:
            return pod_id
    raise Missed(why)


def processes(world: World, words: str) -> list[int]:
    """Return this machine's ids of the running pods' processes whose command line holds `words`."""
    return [pid for pid in pod_tree(world) if words in command_line(pid)]


def pod_tree(world: World) -> list[int]:
    """Return this machine's ids of all processes of the running pods. Raises Missed when the cloud is down."""
    found: list[int] = []
    for pod_id in list_pods(world):
        root = control(world, "GET", f"pods/{pod_id}").get("process_id")
        found += descendants(root) if root else []
    return found


def require_processes(world: World, words: str) -> list[int]:
    """Return what `processes` does. Raises Missed when there is none."""
    return processes(world, words) or _missing(f"no process with {words!r} runs in a pod")


def _missing(why: str) -> list[int]:
    raise Missed(why)


def send(pids: Iterable[int], number: int) -> list[int]:
    """Send a signal to processes; return those that were still there."""
    reached = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            reached.append(pid)
    return reached


def kill(pids: Sequence[int]) -> list[int]:
    """SIGKILL processes. Raises Missed when all were gone already."""
    return send(pids, signal.SIGKILL) or _missing(f"processes {list(pids)} were gone")


def container_disk(world: World, pod_id: str) -> Path:
    """Return the directory that is the pod's /. Raises Missed before there is one."""
    disk = Path(control(world, "GET", f"pods/{pod_id}")["disk"])
    if not disk.is_dir():
        raise Missed("the pod has no container disk yet")
    return disk


def clone(world: World) -> Path:
    """Return the clone on the volume. Raises Missed before there is one."""
    return next((path.parent for path in sorted(volume(world).glob("*/.git"))), None) or _no_place("no clone yet")


def volume(world: World) -> Path:
    """Return the network volume's directory on this machine. Raises Missed before there is one."""
    try:
        return world.project.volume
    except (OSError, ValueError) as error:
        raise Missed("the cloud has no volume yet") from error


def _no_place(why: str) -> Path:
    raise Missed(why)


def is_running(pid: int) -> bool:
    """Return whether a process of this machine runs, zombies not counted."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def checkpoints(world: World) -> list[Path]:
    """Return the training's checkpoints, the newest first. Raises Missed before the first."""
    folders = [path for path in (volume(world) / "checkpoints/run").glob("checkpoint-*") if path.is_dir()]
    steps = {path: int(path.name.rpartition("-")[2]) for path in folders if path.name.rpartition("-")[2].isdigit()}
    newest_first = sorted((path for path in steps if steps[path] <= pipeline.STEPS), key=steps.__getitem__)[::-1]
    if not newest_first:
        raise Missed("no checkpoint yet")
    return newest_first


def require_command(world: World) -> int:
    """Return the process id of the running `inv train`. Raises Missed without one."""
    command = world.command
    if command.poll() is not None:
        raise Missed("the command has ended")
    return command.pid


def is_following(world: World) -> bool:
    """Return whether somebody reads the log over SSH now."""
    return bool(processes(world, "follow_log.py"))


class Ambush:
    """Waits, beside everything else, for a chance to strike, and strikes once.

    Args:
        chance: returns something true when it is there; Missed and OSError count as not yet.
        strike: gets what `chance` returned, and what lets some time pass first; Missed counts as not yet, too.
        patience_s: after which it is given up.
        told: called with whether it struck.
    """

    def __init__(
        self, chance: Callable[[], Any], strike: Blow, patience_s: float, told: Callable[[bool], None]
    ) -> None:
        self._chance = chance
        self._strike = strike
        self._patience_s = patience_s
        self._told = told
        self._over = threading.Event()
        self.has_struck = False
        self._thread = threading.Thread(target=self._lurk, daemon=True)
        self._thread.start()

    def _lurk(self) -> None:
        deadline = time.monotonic() + self._patience_s
        while not self._over.is_set() and time.monotonic() < deadline and not self.has_struck:
            with contextlib.suppress(Missed, OSError, KeyError):
                found = self._chance()
                if found:
                    self._strike(found, self.pause)
                    self.has_struck = True
            self._over.wait(_POLL_S)
        self._told(self.has_struck)

    def pause(self, seconds: float) -> None:
        """Let some time pass between chance and strike; less when it is given up."""
        self._over.wait(seconds)

    def end(self) -> None:
        """Give up, unless it has struck; return when nothing of it is left."""
        self._over.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()


def lure(world: World, kind: str, chance: Callable[[], Any], strike: Blow, patience_s: float) -> Ambush:
    """Lay an ambush that tells the timeline what became of it."""

    def tell(has_struck: bool) -> None:
        world.note(f"{kind}: " + ("the ambush struck" if has_struck else "the ambush came to nothing"))

    return Ambush(chance, strike, patience_s, tell)
