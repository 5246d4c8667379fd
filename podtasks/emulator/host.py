"""The machines: they start, watch, restart and end the containers of pods."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import sys
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from podtasks.emulator.command import start_command
from podtasks.emulator.dials import Dials
from podtasks.emulator.pod import RUNNING, Container, Pod
from podtasks.emulator.relay import Relay
from podtasks.emulator.sandbox import Sandbox, SandboxError
from podtasks.emulator.start_troubles import NO_CONTAINER

# Docker's restart policy: 100 ms, doubled up to a minute, from the start again after 10 good seconds.
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 60.0
_GOOD_RUN_S = 10.0


class _Life:
    """One start of a pod until its end; it has a host name once it has a container disk.

    Args:
        pod: its ports say whether it has a relay, which listens from now on.
    """

    def __init__(self, pod: Pod) -> None:
        self.hostname = ""
        self.version = pod.version
        self.relay = Relay(pod.public_ports[22], pod.inner_ssh_port) if pod.inner_ssh_port else None
        self.ending = asyncio.Event()
        self.grace_s = 0.0
        self.task: asyncio.Task[None] | None = None

    def run(self, story: Coroutine[Any, Any, None]) -> None:
        """Let its story begin; the relay listens until the end of that."""
        self.task = asyncio.create_task(story)
        relay = self.relay
        if relay is not None:
            self.task.add_done_callback(lambda _: relay.close())


class Host:
    """Runs the containers of all pods.

    Args:
        sandbox: how containers are run.
        dials: gives the dials as they are now.
        environment_of: gives the environment of a pod's process 1.
        disk_made: called, in a thread, with a pod that has a new container disk and no process yet.
        changed: called when a pod's container has changed and the state should be saved.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        *,
        dials: Callable[[], Dials],
        environment_of: Callable[[Pod], dict[str, str]],
        disk_made: Callable[[Pod], None],
        changed: Callable[[], None],
    ) -> None:
        self.sandbox = sandbox
        self._dials = dials
        self._environment_of = environment_of
        self._disk_made = disk_made
        self._changed = changed
        self._lives: dict[str, _Life] = {}
        self._starting: set[asyncio.Task[Container | None]] = set()
        self._is_closing = False

    async def end_strays(self, pods: Collection[Pod]) -> None:
        """End what an emulator that was killed had started and not yet put on record (call before `attach`)."""
        await self.sandbox.end_strays(pods)

    def begin(self, pod: Pod) -> None:
        """Start a pod on a new container disk, once its last container is gone."""
        previous = self._lives.get(pod.id)
        life = self._lives[pod.id] = _Life(pod)
        life.run(self._begin(pod, life, previous))

    def attach(self, pod: Pod) -> None:
        """Take over a pod that another emulator process started."""
        life = self._lives[pod.id] = _Life(pod)
        life.run(self._attach(pod, life))
        if pod.desired != RUNNING:
            self.end(pod, pod.grace_left_s())

    def end(self, pod: Pod, grace_s: float) -> None:
        """End a pod's container: SIGTERM, SIGKILL after the grace time (0: at once). Returns at once."""
        life = self._lives.get(pod.id)
        if life is not None:
            life.grace_s = grace_s
            life.ending.set()

    def relay(self, pod: Pod) -> Relay | None:
        """Return the relay in front of a pod's sshd; None without one, or when nothing of the pod runs."""
        life = self._lives.get(pod.id)
        return None if life is None or life.task is None or life.task.done() else life.relay

    async def ended(self, pod: Pod) -> None:
        """Wait until nothing of a pod runs any more (call `end` first)."""
        life = self._lives.get(pod.id)
        if life is not None and life.task is not None:
            await asyncio.shield(life.task)

    def forget(self, pod: Pod) -> None:
        """Drop what is known of a pod that will never start again."""
        self._lives.pop(pod.id, None)

    async def close(self) -> None:
        """Start nothing more and wait for starts under way, so that every container is on record."""
        self._is_closing = True
        await asyncio.gather(*self._starting, return_exceptions=True)

    async def _begin(self, pod: Pod, life: _Life, previous: _Life | None) -> None:
        if previous is not None and previous.task is not None:
            await asyncio.wait([previous.task])
        if pod.start_trouble == NO_CONTAINER:
            await life.ending.wait()
        if not await _set_within(life.ending, pod.started_at_delay(self._dials().ssh_s)):
            await self._keep_running(pod, life, None)

    async def _attach(self, pod: Pod, life: _Life) -> None:
        container = pod.container
        if container is not None and container.version not in (None, pod.version):
            # It had not ended yet when the pod was resumed.
            await self.sandbox.stop(pod, container, 0.0)
            self._set_container(pod, container := None)
        if container is None:
            await self._begin(pod, life, None)
        else:
            life.hostname = container.hostname
            await self._keep_running(pod, life, container)

    async def _keep_running(self, pod: Pod, life: _Life, container: Container | None) -> None:
        """Keep process 1 running, as RunPod does: when it ends by itself, the container starts again."""
        pause_s = _FIRST_PAUSE_S
        while not life.ending.is_set():
            if self._is_closing:
                return
            began = asyncio.get_running_loop().time()
            container = container or await self._start(pod, life)
            if container is not None and await self._ended_first(container, life.ending):
                container = None
            if container is None:
                if asyncio.get_running_loop().time() - began >= _GOOD_RUN_S:
                    pause_s = _FIRST_PAUSE_S
                await _set_within(life.ending, pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        if container is not None:
            await self.sandbox.stop(pod, container, life.grace_s)
        self._set_container(pod, None)

    async def _start(self, pod: Pod, life: _Life) -> Container | None:
        """Start process 1; return None when that failed, which is tried again like a container that ended."""
        task = asyncio.create_task(self._start_on_record(pod, life))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return await asyncio.shield(task)

    async def _start_on_record(self, pod: Pod, life: _Life) -> Container | None:
        rule = self._dials().image_rule(pod.order.image)
        command = start_command(pod.order.docker_args, has_start_sh=bool(rule["start_sh"]))
        environment = self._environment_of(pod)
        try:
            if not life.hostname:
                hostname = secrets.token_hex(6)
                await asyncio.to_thread(self.sandbox.new_disk, pod, hostname, rule)
                await asyncio.to_thread(self._disk_made, pod)
                life.hostname = hostname
            container = await asyncio.to_thread(self.sandbox.start, pod, life.hostname, environment, command, rule)
        except (SandboxError, OSError, ValueError) as problem:
            print(f"pod {pod.id} cannot start: {problem}", file=sys.stderr)
            return None
        container = dataclasses.replace(container, version=life.version)
        self._set_container(pod, container)
        return container

    async def _ended_first(self, container: Container, ending: asyncio.Event) -> bool:
        """Wait for the container's end or for the order to end it; say whether it ended by itself."""
        return await _first(self.sandbox.ended(container), ending.wait())

    def _set_container(self, pod: Pod, container: Container | None) -> None:
        pod.container = container
        self._changed()


async def _first(one: Coroutine[Any, Any, object], other: Coroutine[Any, Any, object]) -> bool:
    """Wait for either; say whether it was the first that came, and drop the one that did not."""
    tasks = [asyncio.ensure_future(one), asyncio.ensure_future(other)]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0] in done
    finally:
        for task in tasks:
            task.cancel()


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event for some time; say whether it came."""
    if seconds <= 0:
        return event.is_set()
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        return False
    return True
