"""Strikes at the API: what its next answers are, or how the pods behind it start."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from podtasks.emulator.errors import CapacityError, ResumeError
from tests.campaign.strike import Effect, Missed, Strike
from tests.campaign.strikes.targets import (
    control,
    control_surely,
    kill,
    list_pods,
    lure,
    processes,
    running_pod,
    send,
    stopped_pod,
    turn,
)

if TYPE_CHECKING:
    from tests.campaign.world import World

ANY = "*"
CREATE = "podFindAndDeployOnDemand"
RESUME = "podResume"
POD = "pod"
# The client tries six times before it gives up, with 15 s of pauses in all.
_TRIES = 6
_FAULTS_LOCK = threading.Lock()
_PATIENCE_S = 20.0
_NEVER_S = 1e6


def rate_limit(world: World, source: random.Random) -> Effect:
    """429 with Retry-After, once or some times."""
    return _order(world, source, ANY, "rate_limit", times=source.randint(1, 4), retry_after_s=source.randint(0, 2))


def server_error(world: World, source: random.Random) -> Effect:
    """500, 502, 503 or 504 with a page of HTML; in one case of twelve for longer than the client tries."""
    times = source.choice((1, 1, 1, 1, 1, 1, 2, 2, 2, 3, 3, _TRIES))
    return _order(world, source, ANY, "html", times=times, status=source.choice((500, 502, 503, 504)))


def created_and_timed_out(world: World, source: random.Random) -> Effect:
    """A pod is created, and the answer is a 504: nobody was told of it."""
    _require_no_running_pod(world)
    return _order(world, source, CREATE, "timeout_after", seconds=source.uniform(0.0, 2.0))


def resumed_and_timed_out(world: World, source: random.Random) -> Effect:
    """A pod is resumed, and the answer is a 504."""
    _require_resume(world)
    return _order(world, source, RESUME, "timeout_after", seconds=source.uniform(0.0, 2.0))


def dropped(world: World, source: random.Random) -> Effect:
    """What was asked is done, and the connection breaks off in the middle of the answer."""
    return _order(world, source, source.choice((ANY, _call_to_come(world))), "drop", times=source.randint(1, 2))


def silence(world: World, source: random.Random) -> Effect:
    """No answer for a while, then a 504."""
    return _order(world, source, ANY, "silence", seconds=source.uniform(1.0, 4.0))


def long_silence(world: World, source: random.Random) -> Effect:
    """No answer for longer than the client waits, 30 s."""
    return _order(world, source, ANY, "silence", seconds=32.0)


def malformed_json(world: World, source: random.Random) -> Effect:
    """What was asked is done; its answer is cut in half."""
    return _order(world, source, source.choice((ANY, _call_to_come(world))), "malformed_json")


def null_pod(world: World, source: random.Random) -> Effect:
    """One answer says null where there is a pod."""
    return _order(world, source, _call_to_come(world), "null")


def unauthorized(world: World, source: random.Random) -> Effect:
    """A good key is refused once with 401."""
    return _order(world, source, ANY, "unauthorized", ends_command=True)


def gone(world: World, source: random.Random) -> Effect:
    """410, as from an API that was switched off, for some calls."""
    times = source.randint(1, 3)
    return _order(world, source, ANY, "http", times=times, status=410, message="Gone", ends_command=True)


def no_capacity(world: World, source: random.Random) -> Effect:
    """There is no such GPU for the next one to three attempts to create a pod."""
    _require_no_running_pod(world)
    return _order(
        world, source, CREATE, "error", times=source.randint(1, 3), message=CapacityError().text, ends_command=True
    )


def no_resume(world: World, source: random.Random) -> Effect:
    """The host of the stopped pod has no free GPU, until that is undone."""
    _require_resume(world)
    del source
    return Effect(f"no resume: {ResumeError().text}", undo=turn(world, resume_fails=True), undo_after_s=30.0)


def stale_port(world: World, source: random.Random) -> Effect:
    """The pod is preempted; after its resume the API shows the old port for a while. Nothing undoes that."""
    seconds = source.uniform(0.3, 2.5)
    pod_id = _any_pod(world)
    if list_pods(world).get(pod_id) == "RUNNING":
        control(world, "POST", f"pods/{pod_id}/preempt", {})
    turn(world, stale_port_s=seconds)
    return Effect(f"pod {pod_id} stopped; the old port is shown for {seconds:.1f} s after a resume", ends_command=True)


def no_port(world: World, source: random.Random) -> Effect:
    """The API shows no port of any pod, until that is undone."""
    seconds = source.uniform(1.0, 6.0)
    _require_launch_to_come(world)
    undo = turn(world, ports_s=_NEVER_S)
    return Effect(f"no port is shown for {seconds:.1f} s", undo=undo, undo_after_s=seconds)


def dies_while_booting(world: World, source: random.Random) -> Effect:
    """A pod that has just been started loses its host, is preempted, or its process 1 ends, once or twice.

    Before that, it lies in wait for the start. Raises Missed when a training is being launched or runs.
    """
    way = source.choice(("kill", "preempt", "process 1"))
    delay_s, again = source.uniform(0.0, 1.0), source.random() < 0.3
    _require_launch_to_come(world)

    def strike(pod_id: str, pause: Callable[[float], None]) -> None:
        pause(delay_s)
        if way != "process 1":
            control(world, "POST", f"pods/{pod_id}/{way}", {})
            return
        _end_process_1(world, pod_id)
        if again:
            pause(0.5)
            _end_process_1(world, pod_id)

    ambush = lure(world, "api/dies_while_booting", lambda: running_pod(world), strike, _PATIENCE_S)
    what = f"{way} lies in wait for a pod, {delay_s:.1f} s after its start"
    return Effect(what, undo=ambush.end, undo_after_s=_PATIENCE_S, ends_command=True)


def _end_process_1(world: World, pod_id: str) -> None:
    container = control(world, "GET", f"pods/{pod_id}")["process_id"]
    if container is None:
        raise Missed("the container does not run yet")
    kill([container])


def _order(
    world: World,
    source: random.Random,
    operation: str,
    kind: str,
    *,
    times: int = 1,
    ends_command: bool = False,
    **more: object,
) -> Effect:
    """Order a fault for calls to come.

    While the log is followed, the client asks the API nothing. So that the fault need not wait for the pod's own call
    at the end, the log's link is broken as well: half the time, and always where the client's next look at the pod is
    meant.
    """
    is_provoked = source.random() < 0.5 or operation == POD
    fault = {"operation": operation, "kind": kind, "times": times, **more}
    readers = processes(world, "follow_log.py") if is_provoked and operation in (ANY, POD) else []
    control(world, "POST", "faults", fault)
    send(readers, signal.SIGKILL)
    what = f"{fault}" + (", and the link broken, so that the API is asked" if readers else "")
    return Effect(
        what,
        undo=lambda: withdraw(world, operation, kind, times),
        undo_after_s=30.0,
        ends_command=ends_command or times >= _TRIES,
        excused_s=_excuse_s(times, more),
    )


def _excuse_s(times: int, more: dict[str, Any]) -> float:
    """Return for how long the pod's own attempts to stop may be held up: its pauses double from 1 s."""
    rounds = times // 4 + 1
    return 2.0**rounds + min(float(more.get("seconds") or 0), 30.0)


def withdraw(world: World, operation: str, kind: str, times: int) -> None:
    """Drop the faults of this kind that have struck nothing, and note how many have; others stay."""
    with _FAULTS_LOCK:
        pending = control_surely(world, "GET", "faults")
        left = [fault for fault in pending if (fault["operation"], fault["kind"]) != (operation, kind)]
        unused = sum(fault["times"] for fault in pending if fault not in left)
        world.note(f"{kind} of {operation}: {max(0, times - unused)} calls struck")
        if len(left) < len(pending):
            control(world, "DELETE", "faults")
            for fault in left:
                control(world, "POST", "faults", fault)


def _call_to_come(world: World) -> str:
    """Return which call the client makes next of those that matter: to create, resume or look at the pod."""
    pods = list_pods(world)
    return POD if "RUNNING" in pods.values() else RESUME if pods else CREATE


def _any_pod(world: World) -> str:
    try:
        return running_pod(world)
    except Missed:
        return stopped_pod(world)


def _require_no_running_pod(world: World) -> None:
    if "RUNNING" in list_pods(world).values():
        raise Missed("a pod runs already, so none is created")


def _require_resume(world: World) -> None:
    """Raise Missed unless the next start is that of a stopped pod."""
    _require_no_running_pod(world)
    stopped_pod(world)


def _require_launch_to_come(world: World) -> None:
    if processes(world, "prepare.py") or processes(world, "supervise.py"):
        raise Missed("the pod has been reached already")


def _strike(name: str, hit: Callable[[World, random.Random], Effect], weight: float = 1.0) -> Strike:
    return Strike(f"api/{name}", hit, weight=weight)


def _early(name: str, hit: Callable[[World, random.Random], Effect], weight: float = 1.0) -> Strike:
    """Return a strike at what happens before the training."""
    return Strike(f"api/{name}", hit, moments=("line", "call", "time"), weight=weight)


STRIKES = (
    _strike("rate_limit", rate_limit),
    _strike("server_error", server_error),
    _early("created_and_timed_out", created_and_timed_out),
    _early("resumed_and_timed_out", resumed_and_timed_out),
    _strike("dropped", dropped),
    _strike("silence", silence),
    _strike("long_silence", long_silence, 0.03),
    _strike("malformed_json", malformed_json),
    _strike("null_pod", null_pod),
    _strike("unauthorized", unauthorized),
    _strike("gone", gone, 0.7),
    _early("no_capacity", no_capacity),
    _early("no_resume", no_resume),
    _strike("stale_port", stale_port),
    _early("no_port", no_port),
    _early("dies_while_booting", dies_while_booting),
)
