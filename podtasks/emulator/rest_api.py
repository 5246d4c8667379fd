"""REST v2: how pods end themselves, the bills, the CPU catalogue and the network volumes.

Source: RunPod's REST v2 specification (paths, parameters, shapes).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from podtasks.emulator import catalogue
from podtasks.emulator.bills import list_all, list_pods, list_volumes
from podtasks.emulator.caller import Caller
from podtasks.emulator.cloud import Cloud
from podtasks.emulator.cpu_catalogue import parse_availability, view_cpu
from podtasks.emulator.errors import ForbiddenError
from podtasks.emulator.gate import Gate, read_json_object
from podtasks.emulator.problems import MissingError, answer_or_problem, problem, unauthorized
from podtasks.emulator.views import view_rest_volume

Query = Mapping[str, str]
Read = Callable[[Request], dict[str, Any]]


class RestApi:
    """The routes under /v2.

    Args:
        cloud: the cloud.
        gate: what every call passes.
    """

    def __init__(self, cloud: Cloud, gate: Gate) -> None:
        self._cloud = cloud
        self._gate = gate

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v2/pods/{id}/action", self._post_pod_action, methods=["POST"]),
            Route("/v2/pods/{id}", self._delete_pod, methods=["DELETE"]),
            self._reading("/v2/billing", lambda request: list_all(self._cloud, request.query_params, time.time())),
            self._reading(
                "/v2/billing/pods", lambda request: list_pods(self._cloud, request.query_params, time.time())
            ),
            self._reading(
                "/v2/billing/network-volumes",
                lambda request: list_volumes(self._cloud, request.query_params, time.time()),
            ),
            self._reading("/v2/catalog/cpus", self._get_cpus),
            self._reading("/v2/catalog/cpus/{id}", self._get_cpu),
            self._reading("/v2/network-volumes", self._get_volumes),
            self._reading("/v2/network-volumes/{id}", self._get_volume),
        ]

    def _reading(self, path: str, read: Read) -> Route:
        """Return a route that shows something of the account's."""

        async def serve(request: Request) -> Response:
            def answer(caller: Caller) -> Response:
                caller.require_account()
                return JSONResponse(read(request))

            return await self._gate.serve(
                request,
                [f"GET {path}"],
                lambda caller: answer_or_problem(lambda: answer(caller)),
                unauthorized,
            )

        return Route(path, serve, methods=["GET"])

    async def _post_pod_action(self, request: Request) -> Response:
        body = await read_json_object(request)
        pod_id = request.path_params["id"]

        def answer(caller: Caller) -> Response:
            action = body.get("action") if body is not None else None
            if action not in ("stop", "terminate"):
                return problem(422, "action must be stop or terminate")
            return answer_or_problem(lambda: self._end_pod(caller, pod_id, action))

        return await self._gate.serve(request, ["POST /v2/pods/{id}/action"], answer, unauthorized)

    async def _delete_pod(self, request: Request) -> Response:
        pod_id = request.path_params["id"]
        return await self._gate.serve(
            request,
            ["DELETE /v2/pods/{id}"],
            lambda caller: answer_or_problem(lambda: self._end_pod(caller, pod_id, "terminate")),
            unauthorized,
        )

    def _end_pod(self, caller: Caller, pod_id: str, action: str) -> Response:
        if not caller.may_touch(pod_id):
            raise ForbiddenError
        pod = self._cloud.pods.get(pod_id, action)
        if action == "terminate":
            self._cloud.terminate_pod(pod_id)
            return Response(status_code=204)
        if pod.desired != "RUNNING":
            return problem(409, f"a pod that is {pod.desired} cannot be stopped")
        self._cloud.stop_pod(pod_id)
        return JSONResponse({"id": pod.id, "name": pod.order.name, "status": pod.desired})

    def _get_cpus(self, request: Request) -> dict[str, Any]:
        wish = parse_availability(request.query_params)
        return {"cpus": [view_cpu(self._cloud, flavour, wish) for flavour in catalogue.CPU_FLAVOURS.values()]}

    def _get_cpu(self, request: Request) -> dict[str, Any]:
        wish = parse_availability(request.query_params)
        flavour = catalogue.CPU_FLAVOURS.get(request.path_params["id"])
        if flavour is None:
            raise MissingError("CPU flavor not found")
        return view_cpu(self._cloud, flavour, wish)

    def _get_volumes(self, _request: Request) -> dict[str, Any]:
        return {"networkVolumes": [view_rest_volume(volume) for volume in self._cloud.account.volumes]}

    def _get_volume(self, request: Request) -> dict[str, Any]:
        volume = self._cloud.account.find_volume(request.path_params["id"])
        if volume is None:
            raise MissingError("network volume not found")
        return view_rest_volume(volume)
