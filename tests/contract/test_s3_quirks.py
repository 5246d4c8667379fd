"""What RunPod's S3 API does not have or does wrong, faults that were ordered, and full volumes."""

from __future__ import annotations

import http.client
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, ResponseStreamingError

from tests.contract.local_cloud import Emulator, wait_for
from tests.contract.s3_client import CONFIG, RawS3, make_client, refused

Call = Callable[[Any, str], object]


@pytest.mark.parametrize(
    "call",
    [
        lambda s3, bucket: s3.create_bucket(Bucket=f"new-{bucket}"),
        lambda s3, bucket: s3.delete_bucket(Bucket=bucket),
        lambda s3, bucket: s3.get_bucket_location(Bucket=bucket),
        lambda s3, bucket: s3.get_bucket_versioning(Bucket=bucket),
        lambda s3, bucket: s3.get_bucket_acl(Bucket=bucket),
        lambda s3, bucket: s3.get_bucket_policy(Bucket=bucket),
        lambda s3, bucket: s3.list_object_versions(Bucket=bucket),
        lambda s3, bucket: s3.get_object_acl(Bucket=bucket, Key="k"),
        lambda s3, bucket: s3.get_object_tagging(Bucket=bucket, Key="k"),
        lambda s3, bucket: s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": []}, ContentMD5="x"),
        lambda s3, bucket: s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ETag"]),
        lambda s3, bucket: s3.put_object(Bucket=bucket, Key="k", Body=b"new", ACL="public-read"),
        lambda s3, bucket: s3.put_object(Bucket=bucket, Key="k", Body=b"new", Tagging="a=b"),
        lambda s3, bucket: s3.put_object(Bucket=bucket, Key="k", Body=b"new", ServerSideEncryption="AES256"),
        lambda s3, bucket: s3.put_object(Bucket=bucket, Key="k", Body=b"new", IfNoneMatch="*"),
        lambda s3, bucket: s3.delete_object(Bucket=bucket, Key="k", VersionId="1"),
        lambda s3, bucket: s3.upload_part_copy(
            Bucket=bucket, Key="k", UploadId="u", PartNumber=1, CopySource={"Bucket": bucket, "Key": "k"}
        ),
    ],
)
def test_what_runpod_does_not_have_is_refused_by_name(s3: Any, bucket: str, call: Call) -> None:  # noqa: ANN401
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    with refused("NotImplemented", 501):
        call(s3, bucket)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


def test_buckets_are_no_host_names(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    raw = RawS3(emulator)
    raw.info = {**raw.info, "volume_id": "k"}
    request = raw.sign("GET", "", headers={"Host": f"{bucket}.127.0.0.1"})
    assert raw.send(request)[0] == 404


def test_a_batch_delete_is_redirected_nowhere(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    with refused("TemporaryRedirect", 307):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})
    emulator.turn(s3_batch_delete_redirects=False)
    with refused("NotImplemented", 501):
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}]})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


def test_flexible_checksums_are_a_dial(emulator: Emulator, s3: Any, bucket: str, tmp_path: Path) -> None:  # noqa: ANN401
    modern = make_client(emulator, config={**CONFIG, "request_checksum_calculation": "when_supported"})
    (tmp_path / "file").write_bytes(bytes(range(256)) * 8000)
    with refused("NotImplemented", 501):
        modern.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    emulator.turn(s3_flexible_checksums=True)
    modern.put_object(Bucket=bucket, Key="k", Body=b"x")
    with (tmp_path / "file").open("rb") as file:
        modern.put_object(Bucket=bucket, Key="big", Body=file)
    modern.close()
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"x"
    assert s3.get_object(Bucket=bucket, Key="big")["Body"].read() == (tmp_path / "file").read_bytes()


def test_a_body_in_chunks_is_a_dial_too(
    emulator: Emulator,
    s3: Any,  # noqa: ANN401
    bucket: str,
) -> None:
    raw = RawS3(emulator)
    body = b"3\r\nabc\r\n4\r\ndefg\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    headers = {
        "X-Amz-Decoded-Content-Length": "7",
        "Content-Encoding": "aws-chunked",
        "X-Amz-Trailer": "x-amz-checksum-crc32",
    }
    streaming = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    request = raw.sign("PUT", "k", body, headers, payload_hash=streaming)
    assert raw.send(request)[0] == 501
    for kind in ("STREAMING-AWS4-HMAC-SHA256-PAYLOAD", streaming):
        bare = {"X-Amz-Decoded-Content-Length": "7"}
        assert raw.send(raw.sign("PUT", "k", body, bare, payload_hash=kind))[0] == 501
    emulator.turn(s3_flexible_checksums=True)
    assert raw.send(request)[0] == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"abcdefg"
    short = raw.sign("PUT", "cut", body, {**headers, "X-Amz-Decoded-Content-Length": "8"}, payload_hash=streaming)
    assert raw.send(short)[0] == 400
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="cut")


def test_a_gateway_fails_now_and_then(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    emulator.control("POST", "/faults", {"operation": "s3:PutObject", "kind": "html", "status": 502, "times": 2})
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    status, page = RawS3(emulator).call("PUT", "k", b"x")
    assert (status, page[:15]) == (502, b"<!DOCTYPE html>")
    patient = make_client(emulator, config={**CONFIG, "retries": {"mode": "standard", "total_max_attempts": 3}})
    patient.put_object(Bucket=bucket, Key="k", Body=b"x")
    patient.close()
    assert emulator.control("GET", "/faults") == []
    assert [(call["operation"], call["status"], call["fault"]) for call in emulator.control("GET", "/calls")[-3:]] == [
        ("s3:PutObject", 502, "html"),
        ("s3:PutObject", 502, "html"),
        ("s3:PutObject", 200, None),
    ]


@pytest.mark.parametrize(
    ("fault", "code", "status"),
    [
        ({"kind": "error", "message": "out of order"}, "InternalError", 500),
        ({"kind": "rate_limit", "retry_after_s": 3}, "SlowDown", 503),
        ({"kind": "unauthorized"}, "AccessDenied", 403),
        ({"kind": "silence", "seconds": 0}, "504", 504),
        ({"kind": "http", "status": 503, "message": "no"}, "503", 503),
    ],
)
def test_faults_answer_in_the_apis_own_way(
    emulator: Emulator,
    s3: Any,  # noqa: ANN401
    bucket: str,
    fault: dict[str, Any],
    code: str,
    status: int,
) -> None:
    emulator.control("POST", "/faults", {"operation": "s3:PutObject", **fault})
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == status
    assert response["Error"]["Code"] == code
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_put_can_be_done_though_its_answer_never_comes(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    emulator.control("POST", "/faults", {"operation": "s3:PutObject", "kind": "timeout_after", "seconds": 0})
    with refused("504", 504):
        s3.put_object(Bucket=bucket, Key="k", Body=b"done")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"done"


def test_a_read_whose_answer_never_comes_leaves_no_file_open(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    assert emulator.process is not None
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    emulator.control("POST", "/faults", {"operation": "s3:GetObject", "kind": "timeout_after", "seconds": 0})
    with refused("504", 504):
        s3.get_object(Bucket=bucket, Key="k")
    opened = [os.path.realpath(entry) for entry in Path(f"/proc/{emulator.process.pid}/fd").iterdir()]
    assert [path for path in opened if path.endswith("/k")] == []


def test_a_connection_can_break_off_in_the_middle(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    content = bytes(1_000_000)
    s3.put_object(Bucket=bucket, Key="k", Body=content)
    emulator.control("POST", "/faults", {"operation": "s3:GetObject", "kind": "drop"})
    with pytest.raises(ResponseStreamingError):
        s3.get_object(Bucket=bucket, Key="k")["Body"].read()
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == content
    emulator.control("POST", "/faults", {"operation": "s3:PutObject", "kind": "drop"})
    with pytest.raises(http.client.IncompleteRead):
        RawS3(emulator).call("PUT", "never", b"x" * 100)
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="never")


def test_status_tells_what_a_volume_holds(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    # A count that took long, on a busy machine, is good for a while.
    def told() -> dict[str, Any]:
        return dict(emulator.control("GET", "/status")["network_volume_usage"][bucket])

    wait_for(lambda: told() == {"size_gb": 100, "used_bytes": 0}, "the volume to be empty")
    s3.put_object(Bucket=bucket, Key="dir/k", Body=bytes(12345))
    wait_for(lambda: told()["used_bytes"] == 12345, "the file to be counted")


def test_a_volume_can_be_full(emulator: Emulator, s3: Any, bucket: str, volume: Path) -> None:  # noqa: ANN401
    with (volume / "ballast").open("wb") as file:
        file.truncate(100_000_000_000 - 1000)
    s3.put_object(Bucket=bucket, Key="k", Body=bytes(2000))
    emulator.turn(enforce_volume_size=True)
    with refused("InternalError", 500):
        s3.put_object(Bucket=bucket, Key="more", Body=b"x")
    (volume / "ballast").unlink()
    s3.delete_object(Bucket=bucket, Key="k")
    s3.put_object(Bucket=bucket, Key="more", Body=b"x")
