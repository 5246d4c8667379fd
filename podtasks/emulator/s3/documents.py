"""The XML that the S3 API answers with and reads."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timezone
from xml.etree import ElementTree

from podtasks.emulator.s3.errors import S3Error
from podtasks.emulator.s3.listing import Page, Wish
from podtasks.emulator.s3.request import quote_key
from podtasks.emulator.s3.uploads import Part, Upload

_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
# What XML 1.0 cannot hold at all; keys with such characters survive only under encoding-type=url.
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#13;", "\n": "&#10;"})

Encode = Callable[[str], str]


def element(name: str, *content: str) -> str:
    """Return an element around XML."""
    return f"<{name}>{''.join(content)}</{name}>"


def text(name: str, value: object) -> str:
    """Return an element around a text."""
    return element(name, _UNPRINTABLE.sub("\ufffd", str(value)).translate(_ESCAPES))


def document(name: str, *content: str) -> bytes:
    """Return a whole document of S3's."""
    body = "".join(content)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{_NAMESPACE}">{body}</{name}>'.encode()


def moment(seconds: float) -> str:
    """Return an epoch time as S3 writes it in XML."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def encoder(encoding_type: str | None) -> Encode:
    """Return how names are written: as they are, or percent-encoded.

    Raises:
        S3Error: an encoding type other than url.
    """
    if encoding_type not in (None, "url"):
        raise S3Error("InvalidArgument", "Invalid Encoding Method specified in Request")
    return quote_key if encoding_type else str


def list_buckets(owner_id: str, buckets: Iterable[tuple[str, float]]) -> bytes:
    """Return the answer of ListBuckets, from ids and times of creation."""
    items = [element("Bucket", text("Name", name), text("CreationDate", moment(made))) for name, made in buckets]
    return document("ListAllMyBucketsResult", element("Owner", text("ID", owner_id)), element("Buckets", *items))


def list_objects(bucket: str, wish: Wish, page: Page, encode: Encode, *fields: str) -> bytes:
    """Return the answer of ListObjects or ListObjectsV2; `fields` are what only one of them has."""
    parts = [
        text("Name", bucket),
        text("Prefix", encode(wish.prefix)),
        text("MaxKeys", wish.max_keys),
        text("IsTruncated", "true" if page.is_truncated else "false"),
        *fields,
    ]
    if wish.delimiter:
        parts.append(text("Delimiter", encode(wish.delimiter)))
    if encode is quote_key:
        parts.append(text("EncodingType", "url"))
    for item in page.items:
        parts.append(
            element(
                "Contents",
                text("Key", encode(item.key)),
                text("LastModified", moment(item.modified_at)),
                text("ETag", f'"{item.etag}"'),
                text("Size", item.size_bytes),
                text("StorageClass", "STANDARD"),
            )
        )
    parts += [element("CommonPrefixes", text("Prefix", encode(prefix))) for prefix in page.prefixes]
    return document("ListBucketResult", *parts)


def copied(etag: str, modified_at: float) -> bytes:
    """Return the answer of CopyObject."""
    return document("CopyObjectResult", text("LastModified", moment(modified_at)), text("ETag", f'"{etag}"'))


def upload_begun(bucket: str, upload: Upload) -> bytes:
    """Return the answer of CreateMultipartUpload."""
    return document(
        "InitiateMultipartUploadResult", text("Bucket", bucket), text("Key", upload.key), text("UploadId", upload.id)
    )


def upload_completed(bucket: str, key: str, etag: str) -> bytes:
    """Return the answer of CompleteMultipartUpload."""
    return document(
        "CompleteMultipartUploadResult",
        text("Location", f"/{bucket}/{key}"),
        text("Bucket", bucket),
        text("Key", key),
        text("ETag", f'"{etag}"'),
    )


def list_uploads(bucket: str, prefix: str, uploads: Sequence[Upload], *, is_truncated: bool, encode: Encode) -> bytes:
    """Return the answer of ListMultipartUploads."""
    parts = [text("Bucket", bucket), text("Prefix", encode(prefix)), text("MaxUploads", 1000)]
    if encode is quote_key:
        parts.append(text("EncodingType", "url"))
    parts.append(text("IsTruncated", "true" if is_truncated else "false"))
    if is_truncated:
        parts.append(text("NextKeyMarker", encode(uploads[-1].key)))
        parts.append(text("NextUploadIdMarker", uploads[-1].id))
    for upload in uploads:
        parts.append(
            element(
                "Upload",
                text("Key", encode(upload.key)),
                text("UploadId", upload.id),
                text("StorageClass", "STANDARD"),
                text("Initiated", moment(upload.begun_at)),
            )
        )
    return document("ListMultipartUploadsResult", *parts)


def list_parts(bucket: str, upload: Upload, parts: Sequence[Part], *, is_truncated: bool) -> bytes:
    """Return the answer of ListParts."""
    items = [
        element(
            "Part",
            text("PartNumber", part.number),
            text("LastModified", moment(part.modified_at)),
            text("ETag", f'"{part.etag}"'),
            text("Size", part.size_bytes),
        )
        for part in parts
    ]
    return document(
        "ListPartsResult",
        text("Bucket", bucket),
        text("Key", upload.key),
        text("UploadId", upload.id),
        text("StorageClass", "STANDARD"),
        text("NextPartNumberMarker", parts[-1].number if parts else 0),
        text("MaxParts", 1000),
        text("IsTruncated", "true" if is_truncated else "false"),
        *items,
    )


def read_part_list(body: bytes) -> list[tuple[int, str]]:
    """Return number and ETag of each part that a CompleteMultipartUpload names.

    Raises:
        S3Error: the body is no such document.
    """
    try:
        root = ElementTree.fromstring(body)
        parts = [item for item in root if _local_name(item) == "Part"]
        fields = [{_local_name(field): (field.text or "").strip() for field in part} for part in parts]
        result = [(int(item["PartNumber"]), item["ETag"].strip('"').lower()) for item in fields]
    except (ElementTree.ParseError, KeyError, ValueError):
        result = []
    if not result:
        raise S3Error("MalformedXML", "The XML you provided was not well-formed or names no part.")
    return result


def _local_name(item: ElementTree.Element) -> str:
    return item.tag.rpartition("}")[2]
