"""What every call of the public API passes: its key is checked, faults strike it, it is logged."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from podtasks.emulator.caller import Caller
from podtasks.emulator.calls import CallLog
from podtasks.emulator.cloud import Cloud
from podtasks.emulator.errors import CloudError
from podtasks.emulator.faults import Fault, FaultQueue
from podtasks.emulator.pages import gateway_page


class Gate:
    """Lets calls through to the cloud.

    Args:
        cloud: the cloud.
    """

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.faults = FaultQueue()
        self.calls = CallLog()

    async def serve(
        self,
        request: Request,
        operations: list[str],
        answer: Callable[[Caller], Response],
        unauthorized: Callable[[], Response],
    ) -> Response:
        """Answer a call.

        Args:
            request: the call.
            operations: GraphQL fields or one REST operation, for faults and the log.
            answer: does what is asked.
            unauthorized: refuses a wrong key.
        """
        caller = self._cloud.caller(key_of(request))
        fault = self.faults.take(operations, _kind_of(caller))
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
        key = _kind_of(caller) if caller is None or caller.pod_id is None else f"pod {caller.pod_id}"
        kind = None if fault is None else fault.kind
        self.calls.add(operations, key, response.status_code, kind, _first_error(response))


def _kind_of(caller: Caller | None) -> str:
    return "none" if caller is None else "account" if caller.pod_id is None else "pod"


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


def errors(message: str) -> dict[str, Any]:
    """Return GraphQL's answer to a call that was not executed."""
    return {"errors": [{"message": message, "extensions": {"code": CloudError.code}}]}


class _BrokenOff(Response):
    """An answer that says how long it is and ends, with the connection, in the middle."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = bytes(self.body)[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})


async def _struck(
    fault: Fault, operations: list[str], answer: Callable[[], Response], unauthorized: Callable[[], Response]
) -> Response:
    """Answer a call as its fault wants; timeout_after, malformed_json and drop do what was asked all the same."""
    if fault.kind == "unauthorized":
        return unauthorized()
    if fault.kind == "error":
        return JSONResponse({**errors(fault.message), "data": dict.fromkeys(operations)})
    if fault.kind == "null":
        return JSONResponse({"data": dict.fromkeys(operations)})
    if fault.kind == "http":
        return PlainTextResponse(fault.message, fault.status)
    if fault.kind == "html":
        return HTMLResponse(gateway_page(fault.status, fault.message), fault.status)
    if fault.kind == "rate_limit":
        headers = {"Retry-After": str(fault.retry_after_s)}
        return JSONResponse(errors("Too Many Requests"), 429, headers)
    if fault.kind == "malformed_json":
        whole = bytes(answer().body)
        return Response(whole[: len(whole) // 2], 200, media_type="application/json")
    if fault.kind == "drop":
        return _BrokenOff(bytes(answer().body) or b"  ", 200, media_type="application/json")
    if fault.kind == "timeout_after":
        answer()
    await asyncio.sleep(fault.seconds)
    return PlainTextResponse("upstream request timeout", 504)


def _first_error(response: Response) -> str | None:
    try:
        body = json.loads(bytes(response.body))
    except ValueError:
        return None
    if isinstance(body, dict) and body.get("errors"):
        return str(body["errors"][0].get("message"))
    return str(body["detail"]) if isinstance(body, dict) and "detail" in body else None
