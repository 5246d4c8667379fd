"""The error page of the gateway before the API."""

from __future__ import annotations

_GATEWAY_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>api.runpod.io | {status}: Bad gateway</title></head>"
    "<body><h1>Error {status}</h1><p>{message}</p><p>cloudflare</p></body></html>\n"
)


def gateway_page(status: int, message: str) -> bytes:
    """Return the page that a client gets instead of an answer."""
    return _GATEWAY_PAGE.format(status=status, message=message).encode()
