"""RunPod's S3 API, call by call: the only importer of boto3 and botocore.

The keys are given, never looked up: neither ~/.aws nor any AWS_* variable is read. RunPod docs, storage/s3-api:
path-style addresses, signature 4, the region is the data center; no checksums beyond the ETag are documented;
502s are to be retried ten times in the standard mode, and CompleteMultipartUpload may take two hours.
"""

from __future__ import annotations

import contextlib
import email.utils
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from boto3.exceptions import S3UploadFailedError
from boto3.s3.transfer import S3Transfer, TransferConfig
from boto3.session import Session
from botocore import session as botocore_session
from botocore.config import Config
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    EndpointConnectionError,
    HTTPClientError,
    IncompleteReadError,
    ProxyConnectionError,
    SSLError,
)

from podtasks.pure.errors import ApiError, ApiUnreachableError, AuthenticationError, PlanError, PodtasksError
from podtasks.pure.s3_account import S3Account

THREADS = 24
MAX_ATTEMPTS = 10
CONNECT_TIMEOUT_S = 15
READ_TIMEOUT_S = 120
COMPLETE_TIMEOUT_S = 7200
MULTIPART_BYTES = 64 * 1024**2
# Doubled by the transfer manager until 10,000 parts are enough: 384 MiB for 4 TB, under RunPod's 500 MB.
PART_BYTES = 48 * 1024**2
SKEW_S = 900
MISSING_CODES = frozenset({"404", "NoSuchKey", "NotFound", "NoSuchUpload"})
KEY_CODES = frozenset({"401", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "Unauthorized"})
TRANSIENT = (ConnectionError, HTTPClientError, IncompleteReadError)


class S3FileError(Exception):
    """One file could not be read or written; the others may.

    Attributes:
        is_missing: there is no such file on the volume.
        is_transient: the same may well work when tried again.
        is_range: the file has no such bytes.
    """

    def __init__(
        self, why: str, *, is_missing: bool = False, is_transient: bool = False, is_range: bool = False
    ) -> None:
        super().__init__(why)
        self.is_missing = is_missing
        self.is_transient = is_transient
        self.is_range = is_range


class S3Client:
    """The operations of the S3 API on one volume, with our errors.

    Raises, from every call: S3FileError for what concerns one file; AuthenticationError, ApiUnreachableError,
    PlanError or ApiError for what concerns them all.
    """

    def __init__(self, account: S3Account, *, use_proxies: bool) -> None:
        self._account = account
        self._use_proxies = use_proxies
        self._session = _make_session()
        self._client = self._make_client(READ_TIMEOUT_S)

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:  # noqa: ANN401
        """Call an operation by boto3's name for it and return its answer."""
        with self._told():
            answer: dict[str, Any] = getattr(self._client, operation)(Bucket=self._account.bucket, **parameters)
            return answer

    def read_body(self, body: Any, size_bytes: int | None = None) -> bytes:  # noqa: ANN401
        """Return up to `size_bytes` more of an answer's body, b"" at its end; None: all that is left."""
        with self._told():
            data: bytes = body.read(size_bytes)
            return data

    @contextlib.contextmanager
    def open_uploader(self) -> Iterator[Callable[[str, str, Callable[[int], None]], None]]:
        """Give a function that sends a file (path, key, hears of bytes) in parts; an exception ends all it sends."""
        config = TransferConfig(
            multipart_threshold=MULTIPART_BYTES,
            multipart_chunksize=PART_BYTES,
            preferred_transfer_client="classic",
        )
        client = self._make_client(COMPLETE_TIMEOUT_S)
        with contextlib.closing(client), S3Transfer(client, config) as transfer:

            def send(path: str, key: str, on_bytes: Callable[[int], None]) -> None:
                with self._told():
                    transfer.upload_file(path, self._account.bucket, key, callback=on_bytes)

            yield send

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _make_client(self, read_timeout_s: int) -> Any:  # noqa: ANN401
        return self._session.client(
            "s3",
            endpoint_url=self._account.endpoint_url,
            region_name=self._account.region,
            aws_access_key_id=self._account.access_key.reveal(),
            aws_secret_access_key=self._account.secret_key.reveal(),
            config=Config(
                signature_version="s3v4",
                s3={"addressing_style": "path"},
                retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=read_timeout_s,
                max_pool_connections=THREADS,
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                proxies=None if self._use_proxies else {},
            ),
        )

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (ClientError, BotoCoreError, HTTPClientError, S3UploadFailedError) as error:
            raise self._translate(error) from None
        except RecursionError:
            # botocore asks for the bucket's region whenever it is sent elsewhere, also by the answer to that.
            raise self._unreachable("it sends whoever asks round in circles") from None

    def _translate(self, error: Exception) -> Exception:
        if isinstance(error, S3UploadFailedError) and error.__context__ is not None:
            error = error.__context__
        if isinstance(error, ClientError):
            return self._refused(error)
        if isinstance(error, (EndpointConnectionError, ProxyConnectionError, SSLError)):
            return self._unreachable(str(error))
        return S3FileError(str(error), is_transient=isinstance(error, TRANSIENT))

    def _refused(self, error: ClientError) -> Exception:
        told = error.response.get("Error", {})
        code, text = str(told.get("Code", "")), str(told.get("Message", ""))
        metadata = error.response.get("ResponseMetadata", {})
        status = int(metadata.get("HTTPStatusCode", 0))
        if code == "NoSuchBucket":
            return self._no_volume()
        if code in MISSING_CODES:
            return S3FileError("it is not on the volume", is_missing=True)
        if code == "RequestTimeTooSkewed" or (status in (401, 403) and _is_skewed(metadata.get("HTTPHeaders", {}))):
            return self._skewed()
        if code in KEY_CODES or status in (401, 403):
            return self._wrong_keys(code)
        if status == 416:
            return S3FileError("it has no such bytes", is_range=True)
        why = f"the S3 API answered {status} {code}: {text}".rstrip(": ")
        return S3FileError(why, is_transient=status >= 500 or status in (408, 429))

    def _wrong_keys(self, code: str) -> PodtasksError:
        return AuthenticationError(
            f"The S3 API of {self._account.region} refused the S3 keys ({code}).",
            means="S3 keys are no API key: they are a pair of their own. Nothing is billed for this.",
            next_step="make a pair in RunPod's console under Settings > S3 API Keys and put it into .runpod.env as "
            "RUNPOD_S3_ACCESS_KEY (user_...) and RUNPOD_S3_SECRET_KEY (rps_...); --via ssh works without",
        )

    def _skewed(self) -> PodtasksError:
        return ApiError(
            "The S3 API refuses this machine's clock: it is too far off.",
            means="Signed requests are good for a limited time only.",
            next_step="set this machine's clock (sudo timedatectl set-ntp true), then the same command again",
        )

    def _no_volume(self) -> PodtasksError:
        return PlanError(
            f"The S3 API of {self._account.region} knows no network volume {self._account.bucket}.",
            means="It may be deleted, lie in another data center, or belong to another account than the S3 keys.",
            next_step="inv settings shows NETWORK_VOLUME_ID and data_center; RunPod's console lists the volumes",
        )

    def _unreachable(self, why: str) -> PodtasksError:
        return ApiUnreachableError(
            f"The S3 API at {self._account.endpoint_url} cannot be reached: {why}",
            means="What had arrived on either side stays there.",
            next_step="the same command again in a minute; it goes on where it was",
        )


def _make_session() -> Session:
    """Return a session that reads no file and no variable of the AWS tools."""
    variables = {
        name: (None, None, default, convert)
        for name, (_, _, default, convert) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()
    }
    for name in ("config_file", "credentials_file"):
        variables[name] = (None, None, os.devnull, None)
    return Session(botocore_session=botocore_session.Session(session_vars=variables))


def _is_skewed(headers: dict[str, str]) -> bool:
    """Return whether this clock and the answer's differ so much that the signature was refused for it."""
    try:
        there = email.utils.parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (TypeError, ValueError):
        return False
    return abs(time.time() - there) > SKEW_S
