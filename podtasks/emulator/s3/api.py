"""HTTP for the S3 API: every request is checked, struck by faults, answered and logged."""

from __future__ import annotations

import asyncio
import sys
import traceback

from podtasks.emulator.account import NetworkVolume
from podtasks.emulator.calls import CallLog
from podtasks.emulator.catalogue import DATA_CENTERS
from podtasks.emulator.cloud import Cloud
from podtasks.emulator.faults import Fault, FaultQueue
from podtasks.emulator.pages import gateway_page
from podtasks.emulator.s3 import documents
from podtasks.emulator.s3.answer import Answer
from podtasks.emulator.s3.body import ClientGoneError
from podtasks.emulator.s3.errors import S3Error
from podtasks.emulator.s3.folder import Folder
from podtasks.emulator.s3.objects import Objects
from podtasks.emulator.s3.operations import check_batch_delete, check_supported, name_operation
from podtasks.emulator.s3.request import Receive, S3Request, Scope, Send
from podtasks.emulator.s3.signature import check_signature
from podtasks.emulator.usage import VolumeUsage


class S3Api:
    """The S3 API as an ASGI application.

    Args:
        cloud: the cloud, whose network volumes are the buckets.
        faults: the faults to come; S3's operations are named like "s3:PutObject".
        calls: the log of calls.
        usage: what the volumes hold.
    """

    def __init__(self, cloud: Cloud, faults: FaultQueue, calls: CallLog, usage: VolumeUsage) -> None:
        self._cloud = cloud
        self._faults = faults
        self._calls = calls
        self._usage = usage
        self._folders: dict[str, Folder] = {}
        self._objects = Objects(dials=lambda: cloud.dials, folder_of=self._folder, make_room=self._make_room)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = S3Request(scope, receive)
        operation = name_operation(request)
        fault = self._faults.take([f"s3:{operation}"], "account")
        self._cloud.note_call()
        try:
            if fault is None:
                answer = await self._answer(operation, request)
            else:
                answer = await self._answer_struck(fault, operation, request)
        except ClientGoneError:
            return
        is_account = answer.error not in ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch")
        self._calls.add_s3(
            f"s3:{operation}",
            "account" if is_account else "none",
            answer.status,
            None if fault is None else fault.kind,
            answer.error,
        )
        if request.holds_its_body_back:
            # The body will not come, so nothing can follow it on this connection.
            answer.headers["connection"] = "close"
        is_cut = fault is not None and fault.kind in ("malformed_json", "drop")
        await answer.send(send, has_body=request.method != "HEAD", is_cut=is_cut)

    async def _answer(self, operation: str, request: S3Request) -> Answer:
        try:
            return await self._perform(operation, request)
        except S3Error as error:
            return _refusal(error, request)
        except ClientGoneError:
            raise
        except Exception as problem:
            traceback.print_exception(type(problem), problem, problem.__traceback__, file=sys.stderr)
            return _refusal(S3Error("InternalError", "We encountered an internal error."), request)

    async def _perform(self, operation: str, request: S3Request) -> Answer:
        account = self._cloud.account
        region = check_signature(request, access_key=account.s3_access_key, secret_key=account.s3_secret_key)
        check_batch_delete(operation, redirects=self._cloud.dials.s3_batch_delete_redirects)
        check_supported(operation, request)
        if operation == "ListBuckets":
            return self._list_buckets(region)
        return await self._objects.perform(operation, request, self._checked_folder(request, region))

    def _list_buckets(self, region: str) -> Answer:
        if region not in DATA_CENTERS:
            raise _wrong_region(region, "a data center's id")
        account = self._cloud.account
        buckets = [(volume.id, volume.created_at) for volume in account.volumes if volume.data_center == region]
        content = documents.list_buckets(account.id, buckets)
        return Answer(headers={"content-type": "application/xml"}, content=content)

    def _checked_folder(self, request: S3Request, region: str) -> Folder:
        volume = self._cloud.account.find_volume(request.bucket)
        if volume is None:
            raise S3Error("NoSuchBucket", "The specified bucket does not exist.")
        if region != volume.data_center:
            raise _wrong_region(region, volume.data_center)
        return self._open(volume)

    def _folder(self, bucket: str) -> Folder | None:
        volume = self._cloud.account.find_volume(bucket)
        return None if volume is None else self._open(volume)

    def _open(self, volume: NetworkVolume) -> Folder:
        folder = self._folders.get(volume.id)
        if folder is None:
            folder = self._folders[volume.id] = Folder(str(self._cloud.layout.network_volume(volume.id)))
        return folder

    def _make_room(self, folder: Folder, size_bytes: int) -> None:
        """Refuse what a full volume cannot hold; RunPod does not look beforehand, a full disk refuses anyway."""
        if not self._cloud.dials.enforce_volume_size:
            return
        volume_id = next(name for name, item in self._folders.items() if item is folder)
        volume = self._cloud.account.find_volume(volume_id)
        if volume is not None and not self._usage.take(volume, size_bytes):
            raise S3Error("InternalError", "No space left on device.")

    async def _answer_struck(self, fault: Fault, operation: str, request: S3Request) -> Answer:
        """Answer a request as its fault wants; timeout_after and malformed_json do what was asked all the same."""
        if fault.kind == "unauthorized":
            return _refusal(S3Error("AccessDenied", "Access Denied."), request)
        if fault.kind == "error":
            return _refusal(S3Error("InternalError", fault.message), request)
        if fault.kind == "null":
            return Answer()
        if fault.kind == "http":
            return Answer(fault.status, {"content-type": "text/plain"}, fault.message.encode())
        if fault.kind == "html":
            return Answer(fault.status, {"content-type": "text/html"}, gateway_page(fault.status, fault.message))
        if fault.kind == "rate_limit":
            answer = _refusal(S3Error("SlowDown", "Please reduce your request rate."), request)
            answer.headers["retry-after"] = str(fault.retry_after_s)
            return answer
        if fault.kind == "malformed_json" or (fault.kind == "drop" and request.method == "GET"):
            return await self._answer(operation, request)
        if fault.kind == "drop":
            await request.receive()
            return Answer()
        if fault.kind == "timeout_after":
            (await self._answer(operation, request)).drop()
        await asyncio.sleep(fault.seconds)
        return Answer(504, {"content-type": "text/plain"}, b"upstream request timeout")


def _wrong_region(region: str, expected: str) -> S3Error:
    return S3Error("AuthorizationHeaderMalformed", f"The region {region!r} is wrong; expecting {expected!r}.")


def _refusal(error: S3Error, request: S3Request) -> Answer:
    content = error.to_xml(request.resource)
    return Answer(error.status, {"content-type": "application/xml"}, content, error=error.code)
