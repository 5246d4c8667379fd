"""HTTP for clients: /graphql, and REST v2 beside it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from podtasks.emulator.caller import Caller
from podtasks.emulator.cloud import Cloud
from podtasks.emulator.gate import Gate, errors, read_json_object
from podtasks.emulator.graphql_api import GraphQLApi
from podtasks.emulator.rest_api import RestApi


class HttpApi:
    """The routes clients call.

    Args:
        cloud: the cloud.
        gate: what every call passes.
    """

    def __init__(self, cloud: Cloud, gate: Gate) -> None:
        self._gate = gate
        self._graphql = GraphQLApi(cloud)
        self._rest = RestApi(cloud, gate)

    def routes(self) -> list[Route]:
        """Return the routes of the public API."""
        return [Route("/graphql", self._post_graphql, methods=["POST"]), *self._rest.routes()]

    async def _post_graphql(self, request: Request) -> Response:
        body = await read_json_object(request)
        query = body.get("query") if body is not None else None
        operations = self._graphql.operations(query) if isinstance(query, str) else []

        def answer(caller: Caller) -> Response:
            if body is None or not isinstance(query, str):
                return JSONResponse(errors("POST body missing, invalid or without a query."), 400)
            return JSONResponse(self._graphql.answer(caller, query, body.get("variables"), body.get("operationName")))

        return await self._gate.serve(request, operations, answer, _unauthorized)


def _unauthorized() -> Response:
    return JSONResponse(errors("Unauthorized"), 401)
