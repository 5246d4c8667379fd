"""The S3 API as clients use it: boto3 as RunPod documents it, and single requests signed by botocore."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.contract.local_cloud import Emulator

CONFIG = {
    "signature_version": "s3v4",
    "s3": {"addressing_style": "path"},
    "retries": {"total_max_attempts": 1},
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}


def make_client(emulator: Emulator, *, config: Mapping[str, Any] = CONFIG, **changes: Any) -> Any:  # noqa: ANN401
    """Return an unmodified boto3 client of the S3 API."""
    info = emulator.info
    options = {
        "endpoint_url": info["url"],
        "region_name": info["data_center"],
        "aws_access_key_id": info["s3_access_key"],
        "aws_secret_access_key": info["s3_secret_key"],
        **changes,
    }
    return boto3.client("s3", config=Config(**config), **options)


@contextmanager
def refused(code: str, status: int) -> Iterator[None]:
    """Expect that a call is refused with an error code and HTTP status."""
    with pytest.raises(ClientError) as caught:
        yield
    answer = caught.value.response
    assert (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


@dataclass
class Request:
    """One request, signed and then, where a test wants it, changed."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


class _Auth(S3SigV4Auth):  # type: ignore[misc]
    """botocore's signature; over plain HTTP it hashes the body itself unless told what to say of it."""

    def __init__(self, credentials: Credentials, region: str, payload_hash: str | None) -> None:
        super().__init__(credentials, "s3", region)
        self._payload_hash = payload_hash

    def payload(self, request: AWSRequest) -> str:
        return self._payload_hash or str(super().payload(request))


class RawS3:
    """Signs single requests and sends them byte for byte, without boto3's care."""

    def __init__(self, emulator: Emulator) -> None:
        self.info = emulator.info
        self.host = urlsplit(self.info["url"]).netloc

    def sign(
        self,
        method: str,
        key: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        query: str = "",
        payload_hash: str | None = None,
    ) -> Request:
        """Return a signed request for a key that is percent-encoded but otherwise left as it is."""
        path = f"/{self.info['volume_id']}/{quote(key.encode('utf-8', 'surrogateescape'), safe='/-_.~')}"
        path += f"?{query}" if query else ""
        credentials = Credentials(self.info["s3_access_key"], self.info["s3_secret_key"])
        sent = {"Host": self.host, "Content-Length": str(len(body)), **(headers or {})}
        request = AWSRequest(method, f"http://{self.host}{path}", data=body, headers=sent)
        _Auth(credentials, self.info["data_center"], payload_hash).add_auth(request)
        return Request(method, path, {name: str(value) for name, value in request.headers.items()}, body)

    def first_status(self, request: Request) -> int:
        """Send the head of a request only; return the first status that comes, 100 for the body to be sent."""
        with self._send_head(request) as connection:
            return int(connection.recv(4096).split()[1])

    def send_and_hang_up(self, request: Request, size_bytes: int) -> None:
        """Send a request with only so many bytes of its body, and break the connection off."""
        with self._send_head(request) as connection:
            connection.sendall(request.body[:size_bytes])

    def _send_head(self, request: Request) -> socket.socket:
        host, _, port = self.host.partition(":")
        lines = [f"{request.method} {request.path} HTTP/1.1", *(f"{n}: {v}" for n, v in request.headers.items())]
        connection = socket.create_connection((host, int(port)), timeout=10)
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        return connection

    def send(self, request: Request) -> tuple[int, bytes]:
        """Send a request; return the status and the body."""
        connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers.items():
                connection.putheader(name, value)
            connection.endheaders(request.body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def call(
        self, method: str, key: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        return self.send(self.sign(method, key, body, headers))
