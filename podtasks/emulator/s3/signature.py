"""AWS Signature Version 4 in the Authorization header, checked as S3 checks it.

Sources: S3's API reference, "Authenticating Requests: Using the Authorization Header"; RunPod docs,
storage/s3-api (the region is the data center's id, the clock may be wrong by an hour at most).
"""

from __future__ import annotations

import hashlib
import hmac
import time
from calendar import timegm
from functools import lru_cache

from podtasks.emulator.s3.errors import S3Error, not_implemented
from podtasks.emulator.s3.request import S3Request

_ALGORITHM = "AWS4-HMAC-SHA256"
_LARGEST_SKEW_S = 3600
_DATE_FORMAT = "%Y%m%dT%H%M%SZ"


def check_signature(request: S3Request, *, access_key: str, secret_key: str) -> str:
    """Check who signed a request, and that nothing of what was signed has changed.

    Returns:
        the region it was signed for, which the caller must compare.

    Raises:
        S3Error: it is not signed, or not so.
    """
    credential, signed_names, signature = _parse_authorization(request)
    key_id, _, scope = credential.partition("/")
    if not hmac.compare_digest(key_id.encode(), access_key.encode()):
        raise S3Error("InvalidAccessKeyId", "The access key ID you provided does not exist in our records.")
    parts = scope.split("/")
    if len(parts) != 4 or parts[2:] != ["s3", "aws4_request"]:
        raise S3Error("AuthorizationHeaderMalformed", "The credential is not KEY/DATE/REGION/s3/aws4_request.")
    day, region = parts[0], parts[1]
    moment = _checked_date(request, day)
    text = "\n".join((_ALGORITHM, moment, scope, _hash_of(_canonical_request(request, signed_names))))
    expected = hmac.new(_signing_key(secret_key, day, region), text.encode(), hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise S3Error(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        )
    return region


def _parse_authorization(request: S3Request) -> tuple[str, list[str], str]:
    header = request.headers.get("authorization", "")
    if not header:
        if "X-Amz-Signature" in request.query or "Signature" in request.query:
            raise not_implemented("A presigned URL")
        raise S3Error("AccessDenied", "The request is not signed.")
    algorithm, _, rest = header.partition(" ")
    if algorithm != _ALGORITHM:
        raise S3Error("InvalidRequest", "The authorization mechanism you have provided is not supported.")
    fields = dict(item.strip().partition("=")[::2] for item in rest.split(","))
    try:
        return fields["Credential"], fields["SignedHeaders"].split(";"), fields["Signature"]
    except KeyError as error:
        raise S3Error("AuthorizationHeaderMalformed", f"The header has no {error.args[0]}.") from None


def _checked_date(request: S3Request, day: str) -> str:
    moment = request.headers.get("x-amz-date", "")
    try:
        sent_at = timegm(time.strptime(moment, _DATE_FORMAT))
    except ValueError:
        raise S3Error("AccessDenied", "A valid x-amz-date header is needed.") from None
    if moment[:8] != day:
        raise S3Error("AuthorizationHeaderMalformed", "The credential's date is not the one of x-amz-date.")
    if abs(time.time() - sent_at) > _LARGEST_SKEW_S:
        raise S3Error(
            "RequestTimeTooSkewed", "The difference between the request time and the current time is too large."
        )
    return moment


def _canonical_request(request: S3Request, signed_names: list[str]) -> str:
    headers = request.headers
    unsigned = [name for name in headers if name.startswith("x-amz-") and name not in signed_names]
    if unsigned or "host" not in signed_names:
        raise S3Error("AccessDenied", f"There were headers that must be signed and are not: {unsigned or 'host'}.")
    payload = headers.get("x-amz-content-sha256")
    if not payload:
        raise S3Error("InvalidRequest", "Missing required header for this request: x-amz-content-sha256.")
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}\n" for name in signed_names]
    return "\n".join(
        (
            request.method,
            request.canonical_path,
            request.canonical_query() if request.query else "",
            "".join(lines),
            ";".join(signed_names),
            payload,
        )
    )


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode("latin-1", "replace")).hexdigest()


@lru_cache(maxsize=64)
def _signing_key(secret_key: str, day: str, region: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key
