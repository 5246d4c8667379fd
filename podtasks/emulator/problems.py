"""REST v2's errors: application/problem+json (RunPod REST v2, ErrorResponse)."""

from __future__ import annotations

from collections.abc import Callable

from starlette.responses import JSONResponse, Response

from podtasks.emulator.errors import CloudError, ForbiddenError, PodNotFoundError

_TITLES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    422: "Unprocessable Entity",
}


class MissingError(CloudError):
    """A thing with an id does not exist (own words)."""


class SchemaError(CloudError):
    """A value has not the type or form that the specification gives it (own words)."""


def problem(status: int, detail: str) -> Response:
    """Return a refusal."""
    body = {"title": _TITLES[status], "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")


def unauthorized() -> Response:
    """Return the refusal of a wrong key."""
    return problem(401, "the API key is missing or not valid")


def answer_or_problem(act: Callable[[], Response]) -> Response:
    """Return what an action answers, or its error as a problem."""
    try:
        return act()
    except (PodNotFoundError, MissingError) as error:
        return problem(404, error.text)
    except ForbiddenError as error:
        return problem(403, error.text)
    except SchemaError as error:
        return problem(422, error.text)
    except CloudError as error:
        return problem(400, error.text)
