"""What the S3 API answers when it refuses, under S3's own error codes.

Sources: the list of error codes of S3's API reference; RunPod docs, storage/s3-api, for what is not supported.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

_STATUS = {
    "AccessDenied": 403,
    "AuthorizationHeaderMalformed": 400,
    "BadDigest": 400,
    "EntityTooLarge": 400,
    "IncompleteBody": 400,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidPart": 400,
    "InvalidPartOrder": 400,
    "InvalidRange": 416,
    "InvalidRequest": 400,
    "KeyTooLongError": 400,
    "MalformedXML": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "SignatureDoesNotMatch": 403,
    "SlowDown": 503,
    "TemporaryRedirect": 307,
    "XAmzContentSHA256Mismatch": 400,
}


class S3Error(Exception):
    """A refusal.

    Args:
        code: one of S3's error codes.
        message: what the client is told.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = _STATUS[code]

    def to_xml(self, resource: str) -> bytes:
        """Return the body of the answer."""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f"<Error><Code>{self.code}</Code><Message>{escape(self.message)}</Message>"
            f"<Resource>{escape(resource)}</Resource></Error>"
        ).encode("utf-8", "replace")


def not_implemented(what: str) -> S3Error:
    """Return the refusal of something that RunPod's S3 API does not have."""
    return S3Error("NotImplemented", f"{what} is not implemented.")


def no_such_key() -> S3Error:
    """Return the refusal of a key that is not there."""
    return S3Error("NoSuchKey", "The specified key does not exist.")
