"""HTTP for tests and people: /_cloud, where the cloud is looked into and made to misbehave."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from podtasks.emulator.cloud import Cloud
from podtasks.emulator.errors import CloudError, InputError, PodNotFoundError
from podtasks.emulator.faults import Fault
from podtasks.emulator.gate import Gate, key_of, read_json_object
from podtasks.emulator.network_trouble import NetworkTrouble
from podtasks.emulator.pod import RUNNING, Pod
from podtasks.emulator.spending import read_meter, spend_usd_per_hour
from podtasks.emulator.start_troubles import StartTrouble
from podtasks.emulator.usage import VolumeUsage
from podtasks.emulator.views import view_runtime

Handler = Callable[[Request], Awaitable[Any]]


class ControlApi:
    """The control routes; all need the account's key.

    Args:
        cloud: the cloud.
        gate: what every call passes; its faults and calls are controlled and shown.
        usage: what the volumes hold.
        shut_down: ends the server.
    """

    def __init__(self, cloud: Cloud, gate: Gate, usage: VolumeUsage, shut_down: Callable[[], None]) -> None:
        self._cloud = cloud
        self._gate = gate
        self._usage = usage
        self._shut_down = shut_down

    def routes(self) -> list[Route]:
        """Return the routes under /_cloud."""
        return [
            self._route("GET", "/status", self._get_status),
            self._route("GET", "/dials", self._get_dials),
            self._route("POST", "/dials", self._post_dials),
            self._route("GET", "/faults", self._get_faults),
            self._route("POST", "/faults", self._post_faults),
            self._route("DELETE", "/faults", self._delete_faults),
            self._route("GET", "/starts", self._get_starts),
            self._route("POST", "/starts", self._post_starts),
            self._route("DELETE", "/starts", self._delete_starts),
            self._route("GET", "/meter", self._get_meter),
            self._route("GET", "/calls", self._get_calls),
            self._route("GET", "/pods/{pod_id}", self._get_pod),
            self._route("POST", "/pods/{pod_id}/preempt", self._post_preempt),
            self._route("POST", "/pods/{pod_id}/kill", self._post_kill),
            self._route("POST", "/pods/{pod_id}/network", self._post_network),
            self._route("POST", "/shutdown", self._post_shutdown),
        ]

    def _route(self, method: str, path: str, handler: Handler) -> Route:
        async def serve(request: Request) -> Response:
            caller = self._cloud.caller(key_of(request))
            if caller is None or caller.pod_id is not None:
                return JSONResponse({"error": "the account's API key is needed"}, 401)
            self._cloud.note_call()
            try:
                return JSONResponse(await handler(request))
            except PodNotFoundError as error:
                return JSONResponse({"error": error.text}, 404)
            except CloudError as error:
                return JSONResponse({"error": error.text}, 400)

        return Route(f"/_cloud{path}", serve, methods=[method])

    async def _get_status(self, _request: Request) -> Any:  # noqa: ANN401
        sandbox = self._cloud.host.sandbox
        pods = self._cloud.pods.listed()
        return {
            "sandbox": sandbox.name,
            "sandbox_note": sandbox.note,
            "ssh_user": sandbox.ssh_user,
            "pods": {pod.id: pod.desired for pod in pods},
            "running": sum(pod.desired == RUNNING for pod in pods),
            "spend_usd_per_hour": spend_usd_per_hour(self._cloud.account, self._cloud.pods.listed()),
            "network_volumes": {
                volume.id: str(self._cloud.layout.network_volume(volume.id)) for volume in self._cloud.account.volumes
            },
            "network_volume_usage": {
                volume.id: {"size_gb": volume.size_gb, "used_bytes": self._usage.used_bytes(volume)}
                for volume in self._cloud.account.volumes
            },
        }

    async def _get_dials(self, _request: Request) -> Any:  # noqa: ANN401
        return dataclasses.asdict(self._cloud.dials)

    async def _post_dials(self, request: Request) -> Any:  # noqa: ANN401
        return dataclasses.asdict(self._cloud.turn_dials(await _body(request)))

    async def _get_faults(self, _request: Request) -> Any:  # noqa: ANN401
        return [dataclasses.asdict(fault) for fault in self._gate.faults.pending()]

    async def _post_faults(self, request: Request) -> Any:  # noqa: ANN401
        self._gate.faults.add(Fault.from_json(await _body(request)))
        return await self._get_faults(request)

    async def _delete_faults(self, request: Request) -> Any:  # noqa: ANN401
        wanted = request.query_params
        self._gate.faults.clear(wanted.get("operation"), wanted.get("kind"))
        return await self._get_faults(request)

    async def _get_starts(self, _request: Request) -> Any:  # noqa: ANN401
        return [dataclasses.asdict(trouble) for trouble in self._cloud.start_troubles.pending()]

    async def _post_starts(self, request: Request) -> Any:  # noqa: ANN401
        self._cloud.start_troubles.add(StartTrouble.from_json(await _body(request)))
        return await self._get_starts(request)

    async def _delete_starts(self, request: Request) -> Any:  # noqa: ANN401
        self._cloud.start_troubles.clear()
        return await self._get_starts(request)

    async def _get_meter(self, _request: Request) -> Any:  # noqa: ANN401
        return read_meter(self._cloud.account, self._cloud.pods, time.time())

    async def _get_calls(self, request: Request) -> Any:  # noqa: ANN401
        return self._gate.calls.read(_seconds(request.query_params.get("after", "0")))

    async def _get_pod(self, request: Request) -> Any:  # noqa: ANN401
        return self._inside(self._cloud.pods.get(request.path_params["pod_id"], "show"))

    async def _post_preempt(self, request: Request) -> Any:  # noqa: ANN401
        return self._inside(self._cloud.preempt(request.path_params["pod_id"]))

    async def _post_kill(self, request: Request) -> Any:  # noqa: ANN401
        return self._inside(self._cloud.kill(request.path_params["pod_id"]))

    async def _post_network(self, request: Request) -> Any:  # noqa: ANN401
        trouble = NetworkTrouble.from_json(await _body(request))
        return self._inside(self._cloud.disturb_network(request.path_params["pod_id"], trouble))

    async def _post_shutdown(self, request: Request) -> Any:  # noqa: ANN401
        if (await _body(request)).get("pods", "leave") == "stop":
            await self._cloud.stop_all()
        self._shut_down()
        return {"pods": {pod.id: pod.desired for pod in self._cloud.pods.listed()}}

    def _inside(self, pod: Pod) -> dict[str, Any]:
        """Return what no client of RunPod sees of a pod, paths and process ids of this machine."""
        layout, container, relay = self._cloud.layout, pod.container, self._cloud.host.relay(pod)
        volume = layout.volume(pod)
        return {
            "id": pod.id,
            "desired_status": pod.desired,
            "last_status_change": pod.last_status_change,
            "process_id": None if container is None else container.process.pid,
            "hostname": None if container is None else container.hostname,
            "disk": str(layout.container_disk(pod)),
            "container_log": str(layout.container_log(pod)),
            "volume": None if volume is None else str(volume),
            "public_ports": {str(private): public for private, public in pod.public_ports.items()},
            "stale_ports": {str(private): public for private, public in pod.stale_ports.items()},
            "relay": None if relay is None else {"inner_port": relay.inner_port, "connections": relay.connections},
            "runtime": view_runtime(self._cloud, pod),
        }


async def _body(request: Request) -> dict[str, Any]:
    body = await read_json_object(request)
    return {} if body is None else body


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{text!r} is no number of seconds") from None
