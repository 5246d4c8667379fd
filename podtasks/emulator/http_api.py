"""HTTP for clients: /graphql and the part of REST v2 that pods use to end themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from podtasks.emulator.calls import CallLog
from podtasks.emulator.cloud import Caller, Cloud
from podtasks.emulator.errors import CloudError, ForbiddenError, PodNotFoundError
from podtasks.emulator.faults import Fault, FaultQueue
from podtasks.emulator.graphql_api import GraphQLApi
from podtasks.emulator.pages import gateway_page


class HttpApi:
    """The routes clients call; every call is checked for its key, struck by faults and logged."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._graphql = GraphQLApi(cloud)
        self.faults = FaultQueue()
        self.calls = CallLog()

    def routes(self) -> list[Route]:
        """Return the routes of the public API."""
        return [
            Route("/graphql", self._post_graphql, methods=["POST"]),
            Route("/v2/pods/{pod_id}/action", self._post_pod_action, methods=["POST"]),
            Route("/v2/pods/{pod_id}", self._delete_pod, methods=["DELETE"]),
        ]

    async def _post_graphql(self, request: Request) -> Response:
        body = await read_json_object(request)
        query = body.get("query") if body is not None else None
        operations = self._graphql.operations(query) if isinstance(query, str) else []

        def answer(caller: Caller) -> Response:
            if body is None or not isinstance(query, str):
                return JSONResponse(_errors("POST body missing, invalid or without a query."), 400)
            return JSONResponse(self._graphql.answer(caller, query, body.get("variables"), body.get("operationName")))

        return await self._serve(request, operations, answer, _unauthorized)

    async def _post_pod_action(self, request: Request) -> Response:
        body = await read_json_object(request)
        pod_id = request.path_params["pod_id"]

        def answer(caller: Caller) -> Response:
            action = body.get("action") if body is not None else None
            if action not in ("stop", "terminate"):
                return _problem(422, "action must be stop or terminate")
            return self._end_pod(caller, pod_id, action)

        operations = ["POST /v2/pods/{id}/action"]
        return await self._serve(request, operations, answer, _unauthorized_problem)

    async def _delete_pod(self, request: Request) -> Response:
        pod_id = request.path_params["pod_id"]
        return await self._serve(
            request,
            ["DELETE /v2/pods/{id}"],
            lambda caller: self._end_pod(caller, pod_id, "terminate"),
            _unauthorized_problem,
        )

    def _end_pod(self, caller: Caller, pod_id: str, action: str) -> Response:
        try:
            if not caller.may_touch(pod_id):
                raise ForbiddenError
            pod = self._cloud.get_pod(pod_id, action)
            if action == "terminate":
                self._cloud.terminate_pod(pod_id)
                return Response(status_code=204)
            if pod.desired != "RUNNING":
                return _problem(409, f"a pod that is {pod.desired} cannot be stopped")
            self._cloud.stop_pod(pod_id)
        except PodNotFoundError as error:
            return _problem(404, error.text)
        except ForbiddenError as error:
            return _problem(403, error.text)
        except CloudError as error:
            return _problem(400, error.text)
        return JSONResponse({"id": pod.id, "name": pod.order.name, "status": pod.desired})

    async def _serve(
        self,
        request: Request,
        operations: list[str],
        answer: Callable[[Caller], Response],
        unauthorized: Callable[[], Response],
    ) -> Response:
        caller = self._cloud.caller(key_of(request))
        fault = self.faults.take(operations)
        self._cloud.note_call()
        if caller is None:
            response = unauthorized()
        elif fault is None:
            response = answer(caller)
        else:
            response = await _struck(fault, operations, lambda: answer(caller), unauthorized)
        self._log(operations, caller, response, fault)
        return response

    def _log(self, operations: list[str], caller: Caller | None, response: Response, fault: Fault | None) -> None:
        key = "none" if caller is None else "account" if caller.pod_id is None else f"pod {caller.pod_id}"
        kind = None if fault is None else fault.kind
        self.calls.add(operations, key, response.status_code, kind, _first_error(response))


def key_of(request: Request) -> str:
    """Return the API key of a request, from its header or `?api_key=`; empty without one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else request.query_params.get("api_key", "")


async def read_json_object(request: Request) -> dict[str, Any] | None:
    """Return the JSON object in a request's body, or None when there is none."""
    try:
        body = json.loads(await request.body())
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


async def _struck(
    fault: Fault, operations: list[str], answer: Callable[[], Response], unauthorized: Callable[[], Response]
) -> Response:
    """Answer a call as its fault wants; timeout_after and malformed_json do what was asked all the same."""
    if fault.kind == "unauthorized":
        return unauthorized()
    if fault.kind == "error":
        return JSONResponse({**_errors(fault.message), "data": dict.fromkeys(operations)})
    if fault.kind == "null":
        return JSONResponse({"data": dict.fromkeys(operations)})
    if fault.kind == "http":
        return PlainTextResponse(fault.message, fault.status)
    if fault.kind == "html":
        return HTMLResponse(gateway_page(fault.status, fault.message), fault.status)
    if fault.kind == "rate_limit":
        headers = {"Retry-After": str(fault.retry_after_s)}
        return JSONResponse(_errors("Too Many Requests"), 429, headers)
    if fault.kind == "malformed_json":
        whole = bytes(answer().body)
        return Response(whole[: len(whole) // 2], 200, media_type="application/json")
    if fault.kind == "timeout_after":
        answer()
    await asyncio.sleep(fault.seconds)
    return PlainTextResponse("upstream request timeout", 504)


def _errors(message: str) -> dict[str, Any]:
    return {"errors": [{"message": message, "extensions": {"code": CloudError.code}}]}


def _unauthorized() -> Response:
    return JSONResponse(_errors("Unauthorized"), 401)


def _unauthorized_problem() -> Response:
    return _problem(401, "the API key is missing or not valid")


def _problem(status: int, detail: str) -> Response:
    titles = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict"}
    body = {"title": titles.get(status, "Unprocessable Entity"), "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


def _first_error(response: Response) -> str | None:
    try:
        body = json.loads(bytes(response.body))
    except ValueError:
        return None
    if isinstance(body, dict) and body.get("errors"):
        return str(body["errors"][0].get("message"))
    return str(body["detail"]) if isinstance(body, dict) and "detail" in body else None
