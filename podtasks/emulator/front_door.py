"""One address for all APIs: GraphQL, REST and the control routes by their paths, S3 for the rest."""

from __future__ import annotations

from starlette.applications import Starlette

from podtasks.emulator.s3.api import S3Api
from podtasks.emulator.s3.request import Receive, Scope, Send

_FIRST_PARTS = frozenset(("graphql", "v2", "_cloud"))


class FrontDoor:
    """The whole server as one ASGI application.

    Args:
        routes: the APIs with fixed paths.
        s3: the S3 API, which has /<volume id>/<key> and /.
    """

    def __init__(self, routes: Starlette, s3: S3Api) -> None:
        self._routes = routes
        self._s3 = s3

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on to the API it is for."""
        if scope["type"] == "http" and scope["path"].lstrip("/").partition("/")[0] not in _FIRST_PARTS:
            await self._s3(scope, receive, send)
        else:
            await self._routes(scope, receive, send)
