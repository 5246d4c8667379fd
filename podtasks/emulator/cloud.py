"""The cloud itself: the account's pods and what can be done with them. Knows no HTTP."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Coroutine
from datetime import datetime, timezone
from typing import Any

from podtasks.emulator import gpus
from podtasks.emulator.account import Account, new_id, new_key
from podtasks.emulator.caller import Caller, find_caller
from podtasks.emulator.dials import Dials
from podtasks.emulator.environment import LOOPBACK, pod_environment
from podtasks.emulator.errors import InputError, PodNotFoundError, SpotResumeError, StopRefusedError
from podtasks.emulator.files import read_json, write_json
from podtasks.emulator.host import Host
from podtasks.emulator.layout import Layout
from podtasks.emulator.network_trouble import NetworkTrouble
from podtasks.emulator.pod import RUNNING, Pod, PodOrder
from podtasks.emulator.pod_list import PodList
from podtasks.emulator.public_ports import choose_port, choose_ports
from podtasks.emulator.sandbox import Sandbox, is_port_free
from podtasks.emulator.start_troubles import DIES, StartTroubles
from podtasks.emulator.stock import Stock


class Cloud:
    """All state of the emulator and every operation on it.

    Must be used inside a running event loop; operations return at once, containers follow.

    Args:
        layout: the state directory, whose state is read.
        sandbox: how containers are run.
    """

    def __init__(self, layout: Layout, sandbox: Sandbox) -> None:
        self.layout = layout
        state = read_json(layout.state) or {}
        self.account = Account.from_state(state["account"]) if state else Account.opened_now()
        self.dials = Dials(**state.get("dials", {}))
        self.port: int = state.get("port", 0)
        self.pods = PodList(Pod.from_state(item) for item in state.get("pods", []))
        self.api_url = ""
        self.last_activity = time.monotonic()
        self.host = Host(
            sandbox,
            dials=lambda: self.dials,
            environment_of=self._environment_of,
            disk_made=self._report_gpus,
            changed=self._touched,
        )
        self.stock = Stock(lambda: self.dials, self.pods.listed)
        self.start_troubles = StartTroubles()
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, port: int) -> None:
        """Begin work at a port: take over the pods that are still there."""
        self.port = port
        self.api_url = f"http://{LOOPBACK}:{port}"
        for volume in self.account.volumes:
            self.layout.network_volume(volume.id)
        self.layout.sweep(self.pods.listed())
        self.save()
        await self.host.end_strays(self.pods.listed())
        for pod in self.pods.listed():
            self._take_over(pod)

    def save(self) -> None:
        """Write the state to disk."""
        state = {
            "account": self.account.to_state(),
            "dials": vars(self.dials),
            "port": self.port,
            "pods": [pod.to_state() for pod in self.pods],
        }
        write_json(self.layout.state, state)

    def caller(self, key: str) -> Caller | None:
        """Return whom an API key belongs to; a pod's key dies with the pod."""
        return find_caller(key, self.account, self.pods.listed())

    def note_call(self) -> None:
        """Remember that somebody uses the cloud."""
        self.last_activity = time.monotonic()

    def is_busy(self) -> bool:
        """Say whether any pod runs or still has a container."""
        return any(pod.desired == RUNNING or pod.container is not None for pod in self.pods.listed())

    def create_pod(self, order: PodOrder) -> Pod:
        """Rent a pod; it is RUNNING at once, its container comes later.

        Raises:
            CapacityError: too little is free (SpotCapacityError for a bid).
        """
        self.stock.check_order(order)
        now = time.time()
        pod = Pod(
            id=new_id(14),
            key=new_key(),
            host_suffix=secrets.token_hex(4),
            machine_id=new_id(12),
            order=order,
            created_at=now,
            gpu_count=order.gpu_count,
            usd_per_hour=order.usd_per_hour,
        )
        self.pods.add(pod)
        self._begin(pod, "Rented by User", now)
        return pod

    def stop_pod(self, pod_id: str) -> Pod:
        """Stop a pod; stopping a stopped one changes nothing.

        Raises:
            PodNotFoundError: there is none.
            StopRefusedError: it has a network volume and the dial forbids that.
        """
        pod = self.pods.get(pod_id, "stop")
        if pod.order.network_volume_id and not self.dials.allow_stop_with_network_volume:
            raise StopRefusedError
        if pod.desired == RUNNING:
            self._end(pod, "Exited by User", self.dials.stop_grace_s)
        return pod

    def resume_pod(self, pod_id: str, gpu_count: int | None, bid_usd: float | None = None) -> Pod:
        """Start a stopped pod on its own host.

        Args:
            pod_id: its id.
            gpu_count: how many GPUs from now on; None for as many as before.
            bid_usd: the new bid per GPU of a spot pod.

        Raises:
            PodNotFoundError: there is none, or it is being terminated.
            SpotResumeError: a spot pod without a bid.
            ResumeError, MachineError: the host has too little free, or the dial says so.
        """
        pod = self.pods.get(pod_id, "resume")
        if pod.is_terminating:
            raise PodNotFoundError("resume")
        if pod.is_spot and bid_usd is None:
            raise SpotResumeError
        if pod.desired == RUNNING:
            return pod
        self._set_gpus(pod, gpu_count, bid_usd)
        self._begin(pod, "Resumed by User", time.time())
        return pod

    def terminate_pod(self, pod_id: str) -> None:
        """Terminate a pod: first EXITED, then gone, with all but its network volume.

        Raises:
            PodNotFoundError: there is none.
        """
        pod = self.pods.get(pod_id, "terminate")
        if pod.is_terminating:
            return
        pod.is_terminating = True
        self._end(pod, "Terminated by User", self.dials.stop_grace_s)
        self._later(self._remove(pod))

    def preempt(self, pod_id: str) -> Pod:
        """Take a pod's machine away with the short warning of a spot market."""
        pod = self.pods.get(pod_id, "preempt")
        if pod.desired == RUNNING:
            self._end(pod, "Outbid", self.dials.preempt_grace_s)
        return pod

    def kill(self, pod_id: str) -> Pod:
        """Lose a pod's machine: everything in the pod is gone at once, without a signal to catch."""
        pod = self.pods.get(pod_id, "kill")
        if pod.desired == RUNNING:
            self._end(pod, "Exited by Runpod", 0.0)
        return pod

    def disturb_network(self, pod_id: str, trouble: NetworkTrouble) -> Pod:
        """Disturb the network in front of a pod's sshd.

        Raises:
            PodNotFoundError: there is none.
            InputError: it has no relay.
        """
        pod = self.pods.get(pod_id, "disturb")
        relay = self.host.relay(pod)
        if relay is None:
            raise InputError("the pod has no relay: turn the dial relay before it starts")
        trouble.strike(relay)
        if trouble.new_port:
            port = self._new_port()
            relay.move(port)
            pod.public_ports[22] = port
            self._touched()
        return pod

    async def stop_all(self) -> None:
        """Stop every pod and wait until nothing of them runs."""
        for pod in self.pods.listed():
            if pod.desired == RUNNING:
                self._end(pod, "Exited by Runpod", self.dials.stop_grace_s)
        await asyncio.gather(*(self.host.ended(pod) for pod in self.pods.listed()))

    def turn_dials(self, changes: dict[str, Any]) -> Dials:
        """Change dials and keep them over a restart.

        Raises:
            InputError: a dial is unknown or a value makes no sense.
        """
        self.dials = self.dials.changed(changes)
        if "gpu_util_percent" in changes:
            for pod in self.pods.listed():
                self._report_gpus(pod)
        self.save()
        return self.dials

    def _set_gpus(self, pod: Pod, gpu_count: int | None, bid_usd: float | None) -> None:
        count = pod.gpu_count if gpu_count is None else gpu_count
        self.stock.check_resume(pod, count)
        if pod.order.gpu_type_id is None:
            return
        if count < 1:
            raise InputError("gpuCount must be at least 1")
        per_gpu = bid_usd if bid_usd is not None else pod.order.usd_per_hour / pod.order.gpu_count
        pod.gpu_count, pod.usd_per_hour = count, round(per_gpu * count, 4)

    def _begin(self, pod: Pod, text: str, now: float) -> None:
        public_ports, inner_ssh_port = self._new_ports(pod)
        pod.begin(now, public_ports, inner_ssh_port)
        pod.last_status_change = dated(text, now)
        self._trouble(pod, now)
        self._touched()
        self.host.begin(pod)

    def _trouble(self, pod: Pod, now: float) -> None:
        trouble = self.start_troubles.take()
        if trouble is None:
            return
        pod.start_trouble = trouble.kind
        if trouble.kind == DIES:
            pod.dies_at = now + trouble.after_s
            self._later(self._die(pod, pod.version, trouble.after_s))

    async def _die(self, pod: Pod, version: int, after_s: float) -> None:
        """Lose the host of a pod's start after a while, unless that start is over."""
        await asyncio.sleep(after_s)
        if pod.version == version and pod.desired == RUNNING:
            self.kill(pod.id)

    def _end(self, pod: Pod, text: str, grace_s: float) -> None:
        now = time.time()
        pod.end(now, dated(text, now), grace_s)
        self._touched()
        self.host.end(pod, grace_s)

    def _take_over(self, pod: Pod) -> None:
        if pod.desired == RUNNING or pod.container is not None:
            if pod.inner_ssh_port is not None and not is_port_free(pod.public_ports[22], LOOPBACK):
                pod.public_ports[22] = self._new_port()
            self.host.attach(pod)
        if pod.dies_at is not None and pod.desired == RUNNING:
            self._later(self._die(pod, pod.version, max(0.0, pod.dies_at - time.time())))
        if pod.is_terminating:
            self._later(self._remove(pod))

    def _later(self, story: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(story)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _remove(self, pod: Pod) -> None:
        await self.host.ended(pod)
        await asyncio.sleep(self.dials.terminated_visible_s)
        pod.removed_at = time.time()
        self.host.forget(pod)
        self.pods.forget_oldest()
        self._touched()
        await asyncio.to_thread(self.layout.erase_pod, pod)

    def _new_ports(self, pod: Pod) -> tuple[dict[int, int], int | None]:
        public_ports = choose_ports(pod.order, self.pods.ports_in_use())
        inner = self._new_port(*public_ports.values()) if self.dials.relay else None
        return public_ports, inner

    def _new_port(self, *chosen: int) -> int:
        return choose_port({*self.pods.ports_in_use(), *chosen})

    def _environment_of(self, pod: Pod) -> dict[str, str]:
        return pod_environment(pod, api_url=self.api_url, account_public_key=self.account.public_key)

    def _report_gpus(self, pod: Pod) -> None:
        gpus.write_report(self.layout.container_disk(pod), pod, self.dials.gpu_util_percent)

    def _touched(self) -> None:
        self.note_call()
        self.save()


def dated(text: str, now: float) -> str:
    """Return a status text as RunPod dates it, like "Rented by User: Mon Nov 23 2026 11:13:00 GMT+0000 …"."""
    moment = datetime.fromtimestamp(now, timezone.utc)
    return f"{text}: {moment:%a %b %d %Y %H:%M:%S} GMT+0000 (Coordinated Universal Time)"
