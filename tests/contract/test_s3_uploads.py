"""Multipart uploads and their limits, through unmodified boto3."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

from tests.contract.local_cloud import Emulator, wait_for
from tests.contract.s3_client import RawS3, refused


def begin(s3: Any, bucket: str, key: str) -> str:  # noqa: ANN401
    return str(s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"])


def send(s3: Any, bucket: str, key: str, upload_id: str, number: int, body: bytes) -> dict[str, Any]:  # noqa: ANN401
    answer = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload_id, PartNumber=number, Body=body)
    return {"PartNumber": number, "ETag": answer["ETag"]}


def test_an_upload_goes_on_from_the_parts_that_arrived(s3: Any, bucket: str, volume: Path) -> None:  # noqa: ANN401
    key, parts = "dir/ü model.bin", [os.urandom(2_000_000), b"small", os.urandom(1_500_000)]
    upload_id = begin(s3, bucket, key)
    send(s3, bucket, key, upload_id, 1, parts[0])
    send(s3, bucket, key, upload_id, 3, b"an earlier try")
    send(s3, bucket, key, upload_id, 3, parts[2])
    assert not (volume / key).exists()
    arrived = s3.list_parts(Bucket=bucket, Key=key, UploadId=upload_id)["Parts"]
    assert [(part["PartNumber"], part["Size"]) for part in arrived] == [(1, 2_000_000), (3, 1_500_000)]
    assert arrived[0]["ETag"] == f'"{hashlib.md5(parts[0]).hexdigest()}"'
    wanted = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in arrived]
    wanted.insert(1, send(s3, bucket, key, upload_id, 2, parts[1]))
    done = s3.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id, MultipartUpload={"Parts": wanted})
    digests = b"".join(hashlib.md5(part).digest() for part in parts)
    assert done["ETag"] == f'"{hashlib.md5(digests).hexdigest()}-3"'
    assert s3.head_object(Bucket=bucket, Key=key)["ETag"] == done["ETag"]
    assert (volume / key).read_bytes() == b"".join(parts)
    assert list((volume / ".s3compat_uploads").iterdir()) == []
    with refused("NoSuchUpload", 404):
        s3.list_parts(Bucket=bucket, Key=key, UploadId=upload_id)


def test_parts_are_listed_in_pages(s3: Any, bucket: str) -> None:  # noqa: ANN401
    upload_id = begin(s3, bucket, "k")
    for number in (1, 2, 5, 9, 10):
        send(s3, bucket, "k", upload_id, number, b"%d" % number)
    pages = s3.get_paginator("list_parts").paginate(
        Bucket=bucket, Key="k", UploadId=upload_id, PaginationConfig={"PageSize": 2}
    )
    assert [[part["PartNumber"] for part in page["Parts"]] for page in pages] == [[1, 2], [5, 9], [10]]


def test_uploads_are_listed_in_pages_until_they_are_aborted(
    s3: Any,  # noqa: ANN401
    bucket: str,
    volume: Path,
) -> None:
    begun = {key: begin(s3, bucket, key) for key in ("a\n1", "b", "dir/c")}
    again = begin(s3, bucket, "b")
    pages = list(s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1}))
    found = [(upload["Key"], upload["UploadId"]) for page in pages for upload in page.get("Uploads", [])]
    assert sorted(found) == sorted([*begun.items(), ("b", again)])
    only = s3.list_multipart_uploads(Bucket=bucket, Prefix="dir/")["Uploads"]
    assert [upload["Key"] for upload in only] == ["dir/c"]
    for key, upload_id in found:
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert list((volume / ".s3compat_uploads").iterdir()) == []


def test_an_upload_belongs_to_its_key(s3: Any, bucket: str) -> None:  # noqa: ANN401
    upload_id = begin(s3, bucket, "mine")
    for key, other in (("yours", upload_id), ("mine", "0" * 32), ("mine", "../mine")):
        with refused("NoSuchUpload", 404):
            send(s3, bucket, key, other, 1, b"x")
        with refused("NoSuchUpload", 404):
            s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=other)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ([(2, 2), (1, 1)], "InvalidPartOrder"),
        ([(1, 1), (1, 1)], "InvalidPartOrder"),
        ([(1, 2)], "InvalidPart"),
        ([(1, 1), (3, 1)], "InvalidPart"),
        ([], "MalformedXML"),
    ],
)
def test_only_the_parts_that_arrived_can_be_put_together(
    s3: Any,  # noqa: ANN401
    bucket: str,
    volume: Path,
    wanted: list[tuple[int, int]],
    code: str,
) -> None:
    upload_id = begin(s3, bucket, "k")
    etags = {number: send(s3, bucket, "k", upload_id, number, b"%d" % number)["ETag"] for number in (1, 2)}
    parts = [{"PartNumber": number, "ETag": etags[of]} for number, of in wanted]
    with refused(code, 400):
        s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload_id, MultipartUpload={"Parts": parts})
    assert not (volume / "k").exists()
    assert len(s3.list_parts(Bucket=bucket, Key="k", UploadId=upload_id)["Parts"]) == 2


@pytest.mark.parametrize("number", [0, 10_001, -1])
def test_part_numbers_have_limits(s3: Any, bucket: str, number: int) -> None:  # noqa: ANN401
    upload_id = begin(s3, bucket, "k")
    with refused("InvalidArgument", 400):
        send(s3, bucket, "k", upload_id, number, b"x")


def test_sizes_have_limits(emulator: Emulator, s3: Any, bucket: str, volume: Path) -> None:  # noqa: ANN401
    upload_id = begin(s3, bucket, "k")
    raw = RawS3(emulator)
    part = f"partNumber=1&uploadId={upload_id}"
    for size, query, expected in (
        (500_000_000, "", 400),
        (499_999_999, "", 100),
        (500_000_001, part, 400),
        (500_000_000, part, 100),
    ):
        request = raw.sign("PUT", "k", b"", {"Content-Length": str(size), "Expect": "100-continue"}, query=query)
        assert raw.first_status(request) == expected, (size, query)
    wait_for(lambda: not list((volume / ".s3compat_uploads").glob("*.part")), "nothing is left of the bodies")


def test_the_transfer_manager_sends_and_fetches_big_files(
    s3: Any,  # noqa: ANN401
    bucket: str,
    volume: Path,
    tmp_path: Path,
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(9_000_001))
    config = TransferConfig(
        multipart_threshold=1 << 20, multipart_chunksize=1 << 20, preferred_transfer_client="classic"
    )
    s3.upload_file(str(source), bucket, "big", Config=config)
    s3.download_file(bucket, "big", str(target), Config=config)
    assert (volume / "big").read_bytes() == source.read_bytes() == target.read_bytes()
    assert s3.head_object(Bucket=bucket, Key="big")["ETag"].endswith('-2"')
