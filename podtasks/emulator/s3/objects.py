"""S3's operations on the folders of the volumes. Knows no signatures and no faults."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from urllib.parse import unquote_to_bytes

from podtasks.emulator.dials import Dials
from podtasks.emulator.s3 import documents, uploads
from podtasks.emulator.s3.answer import Answer, Extent
from podtasks.emulator.s3.body import Body
from podtasks.emulator.s3.directories import Directories
from podtasks.emulator.s3.errors import S3Error, no_such_key
from podtasks.emulator.s3.folder import Folder, Found
from podtasks.emulator.s3.listing import Page, Wish, read_page, read_token, write_token
from podtasks.emulator.s3.ranges import parse_range
from podtasks.emulator.s3.request import S3Request, decode

# RunPod docs, storage/s3-api, "Limitations".
LARGEST_PUT_BYTES = 500_000_000
LARGEST_PART_BYTES = 500_000_000
LARGEST_FILE_BYTES = 4_000_000_000_000
_LARGEST_PART_LIST_BYTES = 4 << 20
_PAGE = 1000
_LISTED_AT_ONCE = 10_000

Operation = Callable[[S3Request, Folder], Awaitable[Answer]]


class Objects:
    """The operations by name, for requests that have been let in.

    Args:
        dials: gives the dials as they are now.
        folder_of: gives the folder of another volume of the same data center, or None.
        make_room: refuses, with S3Error, so many more bytes in a folder when the volume would be full.
    """

    def __init__(
        self,
        *,
        dials: Callable[[], Dials],
        folder_of: Callable[[str], Folder | None],
        make_room: Callable[[Folder, int], None],
    ) -> None:
        self._dials = dials
        self._folder_of = folder_of
        self._make_room = make_room
        self._directories: dict[str, Directories] = {}
        self._operations: dict[str, Operation] = {
            "HeadBucket": self._head_bucket,
            "ListObjects": self._list_objects,
            "ListObjectsV2": self._list_objects_v2,
            "ListMultipartUploads": self._list_uploads,
            "GetObject": self._get_object,
            "HeadObject": self._get_object,
            "PutObject": self._put_object,
            "CopyObject": self._copy_object,
            "DeleteObject": self._delete_object,
            "CreateMultipartUpload": self._begin_upload,
            "UploadPart": self._upload_part,
            "ListParts": self._list_parts,
            "CompleteMultipartUpload": self._complete_upload,
            "AbortMultipartUpload": self._abort_upload,
        }

    async def perform(self, operation: str, request: S3Request, folder: Folder) -> Answer:
        """Do what a request asks for.

        Raises:
            S3Error: it cannot be done.
            ClientGoneError: the client hung up before its body was whole.
        """
        return await self._operations[operation](request, folder)

    async def _head_bucket(self, _request: S3Request, _folder: Folder) -> Answer:
        return Answer()

    async def _list_objects(self, request: S3Request, folder: Folder) -> Answer:
        query = request.query
        wish = Wish(query.get("prefix", ""), query.get("marker", ""), query.get("delimiter", ""), _max_keys(request))
        encode = documents.encoder(query.get("encoding-type"))
        page = await self._read_page(folder, wish)
        fields = [documents.text("Marker", encode(wish.after))]
        if page.is_truncated and wish.delimiter:
            fields.append(documents.text("NextMarker", encode(page.last)))
        return _xml(documents.list_objects(request.bucket, wish, page, encode, *fields))

    async def _list_objects_v2(self, request: S3Request, folder: Folder) -> Answer:
        query, token = request.query, request.query.get("continuation-token")
        after, count = read_token(token) if token else (query.get("start-after", ""), 0)
        wish = Wish(query.get("prefix", ""), after, query.get("delimiter", ""), _max_keys(request))
        encode = documents.encoder(query.get("encoding-type"))
        page = await self._read_page(folder, wish)
        fields = [documents.text("KeyCount", len(page))]
        if "start-after" in query:
            fields.append(documents.text("StartAfter", encode(query["start-after"])))
        if token:
            fields.append(documents.text("ContinuationToken", token))
        if page.is_truncated:
            fields.append(documents.text("NextContinuationToken", self._next_token(token, page.last, count, len(page))))
        return _xml(documents.list_objects(request.bucket, wish, page, encode, *fields))

    async def _read_page(self, folder: Folder, wish: Wish) -> Page:
        directories = self._directories.setdefault(folder.path, Directories(folder))
        page = await asyncio.to_thread(read_page, folder, directories, wish)
        seconds = self._dials().s3_list_10000_s * len(page) / _LISTED_AT_ONCE
        if seconds:
            await asyncio.sleep(seconds)
        return page

    def _next_token(self, token: str | None, last: str, count: int, new: int) -> str:
        """Return where a listing goes on; past the dial's number of keys it repeats itself (runpod-python#505)."""
        limit = self._dials().s3_repeat_token_after
        if token and limit and count + new > limit:
            return token
        return write_token(last, count + new)

    async def _get_object(self, request: S3Request, folder: Folder) -> Answer:
        with await folder.find(_key(request)) as found:
            headers = _headers_of(found)
            if _is_same(request.headers.get("if-none-match"), found.etag):
                return Answer(304, headers)
            if "if-match" in request.headers and not _is_same(request.headers["if-match"], found.etag):
                raise S3Error("PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
            asked = parse_range(request.headers.get("range"), found.size_bytes)
            start, size_bytes = asked or (0, found.size_bytes)
            headers["content-length"] = str(size_bytes)
            if asked:
                headers["content-range"] = f"bytes {start}-{start + size_bytes - 1}/{found.size_bytes}"
            status = 206 if asked else 200
            if request.method == "HEAD" or not found.size_bytes:
                return Answer(status, headers)
            return Answer(status, headers, extent=Extent(os.dup(found.descriptor), start, size_bytes))

    async def _put_object(self, request: S3Request, folder: Folder) -> Answer:
        body = self._body(request)
        # Source: RunPod docs, storage/s3-api: less than 500 MB.
        if body.size_bytes >= LARGEST_PUT_BYTES:
            raise _too_large()
        self._make_room(folder, body.size_bytes)
        saved = await folder.put(_key(request), body)
        return Answer(headers={"etag": f'"{saved.md5}"'})

    async def _copy_object(self, request: S3Request, folder: Folder) -> Answer:
        source = unquote_to_bytes(request.headers["x-amz-copy-source"]).removeprefix(b"/")
        bucket, _, key = decode(source).partition("/")
        other = self._folder_of(bucket)
        if other is None:
            raise S3Error("NoSuchBucket", "The specified bucket does not exist.")
        if not key or key.endswith("/"):
            raise no_such_key()
        with await other.find(key) as found:
            self._make_room(folder, found.size_bytes)
            await folder.copy(found, _key(request))
        return _xml(documents.copied(found.etag, time.time()))

    async def _delete_object(self, request: S3Request, folder: Folder) -> Answer:
        folder.delete(_key(request))
        return Answer(204)

    async def _begin_upload(self, request: S3Request, folder: Folder) -> Answer:
        return _xml(documents.upload_begun(request.bucket, uploads.begin_upload(folder, _key(request))))

    async def _upload_part(self, request: S3Request, folder: Folder) -> Answer:
        number = request.query.get("partNumber", "")
        if not number.isdecimal() or not 1 <= int(number) <= uploads.LARGEST_PART_NUMBER:
            raise S3Error("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
        upload, body = _upload(request, folder), self._body(request)
        if body.size_bytes > LARGEST_PART_BYTES:
            raise _too_large()
        self._make_room(folder, body.size_bytes)
        saved = await uploads.save_part(folder, upload, int(number), body)
        return Answer(headers={"etag": f'"{saved.md5}"'})

    async def _list_parts(self, request: S3Request, folder: Folder) -> Answer:
        upload = _upload(request, folder)
        after = _number(request, "part-number-marker", 0)
        parts = [part for part in uploads.list_parts(upload) if part.number > after]
        count = min(_number(request, "max-parts", _PAGE), _PAGE)
        is_truncated = len(parts) > count
        return _xml(documents.list_parts(request.bucket, upload, parts[:count], is_truncated=is_truncated))

    async def _complete_upload(self, request: S3Request, folder: Folder) -> Answer:
        upload = _upload(request, folder)
        wanted = documents.read_part_list(await self._body(request).read(_LARGEST_PART_LIST_BYTES))
        etag = await uploads.complete_upload(folder, upload, wanted, LARGEST_FILE_BYTES)
        return _xml(documents.upload_completed(request.bucket, upload.key, etag))

    async def _abort_upload(self, request: S3Request, folder: Folder) -> Answer:
        await asyncio.to_thread(uploads.abort_upload, _upload(request, folder))
        return Answer(204)

    async def _list_uploads(self, request: S3Request, folder: Folder) -> Answer:
        query = request.query
        prefix, marker = query.get("prefix", ""), (query.get("key-marker", ""), query.get("upload-id-marker", "\uffff"))
        begun = [item for item in uploads.list_uploads(folder) if item.key.startswith(prefix)]
        begun.sort(key=lambda item: (item.key, item.id))
        found = [item for item in begun if (item.key, item.id) > marker]
        count = min(_number(request, "max-uploads", _PAGE), _PAGE)
        encode = documents.encoder(query.get("encoding-type"))
        is_truncated = len(found) > count > 0
        return _xml(
            documents.list_uploads(request.bucket, prefix, found[:count], is_truncated=is_truncated, encode=encode)
        )

    def _body(self, request: S3Request) -> Body:
        return Body(request, allows_checksums=self._dials().s3_flexible_checksums)


def _key(request: S3Request) -> str:
    assert request.key is not None, "the operation's name says that there is a key"
    return request.key


def _upload(request: S3Request, folder: Folder) -> uploads.Upload:
    return uploads.find_upload(folder, request.query["uploadId"], _key(request))


def _number(request: S3Request, name: str, default: int) -> int:
    value = request.query.get(name, str(default))
    if not value.isdecimal():
        raise S3Error("InvalidArgument", f"Provided {name} not an integer or within integer range")
    return int(value)


def _max_keys(request: S3Request) -> int:
    return min(_number(request, "max-keys", _PAGE), _PAGE)


def _too_large() -> S3Error:
    return S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")


def _headers_of(found: Found) -> dict[str, str]:
    return {
        "etag": f'"{found.etag}"',
        "last-modified": formatdate(found.modified_at, usegmt=True),
        "accept-ranges": "bytes",
        "content-type": "application/x-directory" if found.is_directory else "binary/octet-stream",
    }


def _is_same(header: str | None, etag: str) -> bool:
    tags = [item.strip().strip('"') for item in (header or "").split(",") if item.strip()]
    return etag in tags or "*" in tags


def _xml(content: bytes) -> Answer:
    return Answer(headers={"content-type": "application/xml"}, content=content)
