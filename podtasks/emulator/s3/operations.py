"""Which of S3's operations a request asks for, and which of them RunPod does not have.

Source: RunPod docs, storage/s3-api, "S3 API operations"; the rest of S3 is refused by name.
"""

from __future__ import annotations

from podtasks.emulator.s3.errors import S3Error, not_implemented
from podtasks.emulator.s3.request import S3Request

_BUCKET_NAMES = {"GET": "ListObjects", "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}
_OBJECT_NAMES = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
_VERBS = {"GET": "Get", "HEAD": "Head", "PUT": "Put", "DELETE": "Delete", "POST": "Post"}

# What a query name makes of an operation: S3's subresources.
_SUBRESOURCES = frozenset(
    (
        *("accelerate", "acl", "analytics", "attributes", "cors", "delete", "encryption", "intelligent-tiering"),
        *("inventory", "legal-hold", "lifecycle", "location", "logging", "metadataTable", "metrics", "notification"),
        *("object-lock", "ownershipControls", "policy", "policyStatus", "publicAccessBlock", "replication"),
        *("requestPayment", "restore", "retention", "select", "session", "tagging", "torrent", "versionId"),
        *("versioning", "versions", "website", "renameObject"),
    )
)
_SUPPORTED = frozenset(
    (
        *("ListBuckets", "HeadBucket", "ListObjects", "ListObjectsV2", "ListMultipartUploads"),
        *("GetObject", "HeadObject", "PutObject", "CopyObject", "DeleteObject"),
        *("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload", "ListParts"),
    )
)
_REFUSED_HEADERS = (
    *("x-amz-acl", "x-amz-grant-", "x-amz-tagging", "x-amz-server-side-encryption", "x-amz-object-lock-"),
    *("x-amz-website-redirect-location", "x-amz-copy-source-if-", "x-amz-copy-source-server-side-encryption"),
    *("x-amz-write-offset-bytes", "x-amz-mfa", "x-amz-bypass-governance-retention"),
)
_REFUSED_CONDITIONS = ("if-match", "if-none-match")


def name_operation(request: S3Request) -> str:
    """Return S3's name of what a request asks for; the subresource's, where it names one."""
    if not request.bucket:
        return "ListBuckets" if request.method == "GET" else f"{request.method} /"
    subresource = next((name for name in request.query if name in _SUBRESOURCES), None)
    if subresource is not None:
        if subresource == "delete":
            return "DeleteObjects"
        return f"{_VERBS.get(request.method, request.method)} ?{subresource}"
    return _name_in_bucket(request) if request.key is None else _name_of_object(request)


def check_supported(operation: str, request: S3Request) -> None:
    """Refuse what RunPod does not have.

    Raises:
        S3Error: NotImplemented, with the operation's or the header's name.
    """
    if operation not in _SUPPORTED:
        raise not_implemented(operation)
    headers = [name for name in request.headers if name.startswith(_REFUSED_HEADERS)]
    if request.method in ("PUT", "POST"):
        headers += [name for name in _REFUSED_CONDITIONS if name in request.headers]
    if headers:
        raise not_implemented(f"A header that you provided ({headers[0]})")


def check_batch_delete(operation: str, *, redirects: bool) -> None:
    """Answer a batch delete with a redirect to nowhere, as RunPod is reported to.

    Raises:
        S3Error: TemporaryRedirect.
    """
    if operation == "DeleteObjects" and redirects:
        raise S3Error("TemporaryRedirect", "Please re-send this request to the specified temporary endpoint.")


def _name_in_bucket(request: S3Request) -> str:
    if request.method == "GET" and "uploads" in request.query:
        return "ListMultipartUploads"
    if request.method == "GET" and request.query.get("list-type") == "2":
        return "ListObjectsV2"
    return _BUCKET_NAMES.get(request.method, f"{request.method} on a bucket")


def _name_of_object(request: S3Request) -> str:
    query, is_copy = request.query, "x-amz-copy-source" in request.headers
    if request.method == "POST":
        if "uploads" in query:
            return "CreateMultipartUpload"
        return "CompleteMultipartUpload" if "uploadId" in query else "POST on an object"
    if "uploadId" in query:
        upload_part = "UploadPartCopy" if is_copy else "UploadPart"
        names = {"GET": "ListParts", "PUT": upload_part, "DELETE": "AbortMultipartUpload"}
        return names.get(request.method, f"{request.method} on an upload")
    if request.method == "PUT" and is_copy:
        return "CopyObject"
    return _OBJECT_NAMES.get(request.method, f"{request.method} on an object")
