"""One request to the S3 API, taken apart once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import quote, unquote_to_bytes

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_UNRESERVED_IN_PATHS = "/-_.~"
_UNRESERVED = "-_.~"


class S3Request:
    """A request: the volume it names, the key, the query and the headers.

    Keys are file names, which need not be UTF-8: bytes that are not are kept as Python keeps them in paths.

    Args:
        scope: the ASGI scope; the path counts as it was sent.
        receive: gives the body.
    """

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self._receive = receive
        self.has_been_read = False
        path = unquote_to_bytes(scope["raw_path"])
        self.canonical_path = quote(path, safe=_UNRESERVED_IN_PATHS)
        self.query = _parse_query(scope["query_string"])
        self.headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            text = name.decode("latin-1")
            new = value.decode("latin-1")
            self.headers[text] = f"{self.headers[text]},{new}" if text in self.headers else new
        bucket, slash, key = decode(path[1:]).partition("/")
        self.bucket = bucket
        self.key: str | None = key if slash and key else None

    async def receive(self) -> MutableMapping[str, Any]:
        """Return the next ASGI message with a piece of the body; the first call bids the client to send it."""
        self.has_been_read = True
        return await self._receive()

    @property
    def holds_its_body_back(self) -> bool:
        """Whether the client waits for a word before it sends the body (Expect: 100-continue) and has had none."""
        return "expect" in self.headers and not self.has_been_read

    @property
    def resource(self) -> str:
        """What errors name: the path, without the query."""
        return self.canonical_path

    def canonical_query(self) -> str:
        """Return the query as it is signed."""
        pairs = [(quote_name(name), quote_name(value)) for name, value in self.query.items()]
        return "&".join(f"{name}={value}" for name, value in sorted(pairs))


def decode(name: bytes) -> str:
    """Return a file name as Python has it."""
    return name.decode("utf-8", "surrogateescape")


def quote_name(name: str) -> str:
    """Percent-encode a name, slashes included."""
    return quote(name.encode("utf-8", "surrogateescape"), safe=_UNRESERVED)


def quote_key(key: str) -> str:
    """Percent-encode a key for encoding-type=url; slashes stay."""
    return quote(key.encode("utf-8", "surrogateescape"), safe=_UNRESERVED_IN_PATHS)


def _parse_query(text: bytes) -> dict[str, str]:
    result: dict[str, str] = {}
    for item in text.split(b"&") if text else ():
        name, _, value = item.replace(b"+", b" ").partition(b"=")
        result[decode(unquote_to_bytes(name))] = decode(unquote_to_bytes(value))
    return result
