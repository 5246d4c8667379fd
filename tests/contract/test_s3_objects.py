"""Files of the volume by key, through unmodified boto3."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.contract.local_cloud import Emulator, wait_for
from tests.contract.s3_client import RawS3, make_client, refused

HOSTILE_KEYS = [
    "a b/c+d.txt",
    "dir/ünïcode-😀.bin",
    "line\nbreak\r.txt",
    "tab\tand \x01 control",
    "quotes'\"&<>`;$(id).txt",
    "-leading-dash",
    "%41%2F%00",
    "..hidden/...",
    "~/x=y&z?w#v",
    "end /space ",
]


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_any_key_that_is_a_path_survives(s3: Any, bucket: str, volume: Path, key: str) -> None:  # noqa: ANN401
    content = key.encode()
    put = s3.put_object(Bucket=bucket, Key=key, Body=content)
    assert put["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
    assert (volume / key).read_bytes() == content
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == content
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(content)
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    assert [item["Key"] for item in s3.list_objects(Bucket=bucket)["Contents"]] == [key]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert (volume / "copy").read_bytes() == content
    s3.delete_object(Bucket=bucket, Key=key)
    assert not (volume / key).exists()


def test_a_file_name_that_is_not_utf8_can_be_listed_and_read(
    emulator: Emulator,
    s3: Any,  # noqa: ANN401
    bucket: str,
    volume: Path,
) -> None:
    Path(os.fsdecode(os.fsencode(volume) + b"/caf\xe9.txt")).write_bytes(b"latin")
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert [item["Size"] for item in listed] == [5]
    assert RawS3(emulator).call("GET", "caf\udce9.txt") == (200, b"latin")


@pytest.mark.parametrize(
    "key", ["../outside", "a/../../outside", "/etc/passwd", "a//b", "a/./b", "..", "nul\0byte", "a/..", "./a"]
)
@pytest.mark.parametrize("method", ["PUT", "GET", "HEAD"])
def test_a_key_that_is_no_path_below_the_top_is_refused(
    emulator: Emulator,
    s3: Any,  # noqa: ANN401
    volume: Path,
    method: str,
    key: str,
) -> None:
    (volume.parent / "outside").write_bytes(b"not yours")
    status, answer = RawS3(emulator).call(method, key, b"x" if method == "PUT" else b"")
    assert status == 400
    assert method == "HEAD" or b"<Code>InvalidArgument</Code>" in answer
    assert list(volume.iterdir()) == []
    assert (volume.parent / "outside").read_bytes() == b"not yours"
    assert "Contents" not in s3.list_objects_v2(Bucket=volume.name, Prefix=key.replace("\0", ""))


@pytest.mark.parametrize("key", ["x" * 256, "x/" * 600 + "y"])
def test_a_key_that_is_too_long_is_refused(s3: Any, bucket: str, key: str) -> None:  # noqa: ANN401
    with refused("KeyTooLongError", 400):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")


def test_links_that_leave_the_volume_lead_nowhere(
    s3: Any,  # noqa: ANN401
    bucket: str,
    volume: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (volume / "out").symlink_to(tmp_path)
    (volume / "file").symlink_to(tmp_path / "secret")
    (volume / "real").write_bytes(b"real")
    (volume / "inside").symlink_to("real")
    for key in ("out/secret", "file"):
        with refused("NoSuchKey", 404):
            s3.get_object(Bucket=bucket, Key=key)
    with refused("AccessDenied", 403):
        s3.put_object(Bucket=bucket, Key="out/new", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="inside")["Body"].read() == b"real"
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["inside", "real"]
    s3.put_object(Bucket=bucket, Key="file", Body=b"mine")
    assert (volume / "file").read_bytes() == b"mine"
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]
    assert (tmp_path / "secret").read_bytes() == b"secret"


def test_directories_are_no_objects(s3: Any, bucket: str, volume: Path) -> None:  # noqa: ANN401
    s3.put_object(Bucket=bucket, Key="dir/", Body=b"")
    assert (volume / "dir").is_dir()
    s3.put_object(Bucket=bucket, Key="dir/file", Body=b"1")
    for key in ("dir", "dir/file/below"):
        with refused("InvalidRequest", 400):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="dir")
    assert s3.head_object(Bucket=bucket, Key="dir/")["ContentLength"] == 0
    for key in ("dir", "dir/", "dir/file/below", "nothing"):
        s3.delete_object(Bucket=bucket, Key=key)
    assert (volume / "dir/file").read_bytes() == b"1"
    s3.delete_object(Bucket=bucket, Key="dir/file")
    s3.delete_object(Bucket=bucket, Key="dir/")
    assert not (volume / "dir").exists()


def test_the_folder_for_uploads_is_hidden(s3: Any, bucket: str, volume: Path) -> None:  # noqa: ANN401
    s3.create_multipart_upload(Bucket=bucket, Key="big")
    hidden = volume / ".s3compat_uploads"
    (hidden / "file").write_bytes(b"x")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix=".s3compat_uploads/")
    assert "CommonPrefixes" not in s3.list_objects_v2(Bucket=bucket, Delimiter="/")
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key=".s3compat_uploads/file")
    with refused("AccessDenied", 403):
        s3.put_object(Bucket=bucket, Key=".s3compat_uploads/file", Body=b"y")
    with refused("AccessDenied", 403):
        s3.delete_object(Bucket=bucket, Key=".s3compat_uploads/file")
    assert (hidden / "file").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-3", b"0123"),
        ("bytes=7-", b"789"),
        ("bytes=-2", b"89"),
        ("bytes=8-100", b"89"),
        ("bytes=-100", b"0123456789"),
    ],
)
def test_a_range_can_be_read(s3: Any, bucket: str, header: str, expected: bytes) -> None:  # noqa: ANN401
    s3.put_object(Bucket=bucket, Key="digits", Body=b"0123456789")
    answer = s3.get_object(Bucket=bucket, Key="digits", Range=header)
    start = b"0123456789".index(expected)
    assert answer["ContentRange"] == f"bytes {start}-{start + len(expected) - 1}/10"
    assert (answer["ResponseMetadata"]["HTTPStatusCode"], answer["Body"].read()) == (206, expected)


def test_a_range_beyond_the_end_is_refused(s3: Any, bucket: str) -> None:  # noqa: ANN401
    s3.put_object(Bucket=bucket, Key="digits", Body=b"0123456789")
    for header in ("bytes=10-", "bytes=-0"):
        with refused("InvalidRange", 416):
            s3.get_object(Bucket=bucket, Key="digits", Range=header)


def test_reads_can_depend_on_the_etag(s3: Any, bucket: str, volume: Path) -> None:  # noqa: ANN401
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"one")["ETag"]
    with refused("304", 304):
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="k", IfMatch=etag)["Body"].read() == b"one"
    (volume / "k").write_bytes(b"other")
    with refused("PreconditionFailed", 412):
        s3.get_object(Bucket=bucket, Key="k", IfMatch=etag)
    changed = hashlib.md5(b"other").hexdigest()
    assert s3.head_object(Bucket=bucket, Key="k")["ETag"] == f'"{changed}"'


def test_big_files_pass_through_without_being_held(
    emulator: Emulator,
    s3: Any,  # noqa: ANN401
    bucket: str,
) -> None:
    content = os.urandom(1 << 20) * 48
    s3.put_object(Bucket=bucket, Key="big", Body=content)
    assert s3.get_object(Bucket=bucket, Key="big")["Body"].read() == content
    status = Path(f"/proc/{emulator.info['pid']}/status").read_text()
    peak_kb = int(status.partition("VmHWM:")[2].split()[0])
    assert peak_kb < 160_000


def test_a_put_that_breaks_off_changes_nothing(
    emulator: Emulator,
    s3: Any,  # noqa: ANN401
    bucket: str,
    volume: Path,
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    raw = RawS3(emulator)
    for size in (1000, 3_000_000):
        request = raw.sign("PUT", "k", b"n" * size)
        raw.send_and_hang_up(request, size // 2)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"old"
    hidden = volume / ".s3compat_uploads"
    wait_for(lambda: not list(hidden.iterdir()), "nothing is left of them")


def test_puts_at_the_same_time_leave_one_of_them_whole(
    s3: Any,  # noqa: ANN401
    bucket: str,
    volume: Path,
) -> None:
    contents = [bytes([number]) * (300_000 * (1 + number % 6)) for number in range(24)]
    s3.put_object(Bucket=bucket, Key="same", Body=contents[0])
    with ThreadPoolExecutor(8) as threads:
        puts = [threads.submit(s3.put_object, Bucket=bucket, Key="same", Body=content) for content in contents]
        reads = [threads.submit(lambda: s3.get_object(Bucket=bucket, Key="same")["Body"].read()) for _ in range(24)]
        assert all(put.result()["ETag"] for put in puts)
        assert all(read.result() in contents for read in reads)
    assert (volume / "same").read_bytes() in contents
    assert [path.name for path in volume.iterdir() if path.name != ".s3compat_uploads"] == ["same"]
    assert list((volume / ".s3compat_uploads").iterdir()) == []


def test_many_small_files_arrive_whole(s3: Any, bucket: str, volume: Path) -> None:  # noqa: ANN401
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: s3.put_object(Bucket=bucket, Key=f"d{n % 7}/{n}", Body=b"%d" % n), range(300)))
    files = [path for path in volume.rglob("*") if path.is_file()]
    assert sorted(int(path.read_text()) for path in files) == list(range(300))
    assert all(path.name == path.read_text() for path in files)


def test_keys_and_objects_survive_a_restart(new_emulator: Callable[..., Emulator]) -> None:
    emulator = new_emulator().start()
    before = dict(emulator.info)
    assert before["s3_access_key"].startswith("user_")
    assert before["s3_secret_key"].startswith("rps_")
    client = make_client(emulator)
    client.put_object(Bucket=before["volume_id"], Key="kept", Body=b"kept")
    upload_id = client.create_multipart_upload(Bucket=before["volume_id"], Key="begun")["UploadId"]
    client.close()
    emulator.end()
    emulator.start()
    for name in ("s3_access_key", "s3_secret_key", "volume_id", "url"):
        assert emulator.info[name] == before[name]
    client = make_client(emulator)
    assert client.get_object(Bucket=before["volume_id"], Key="kept")["Body"].read() == b"kept"
    uploads = client.list_multipart_uploads(Bucket=before["volume_id"])["Uploads"]
    assert [(item["Key"], item["UploadId"]) for item in uploads] == [("begun", upload_id)]
    client.close()


def test_files_of_pods_are_objects_and_the_other_way_round(
    s3: Any,  # noqa: ANN401
    bucket: str,
    volume: Path,
) -> None:
    (volume / "checkpoints").mkdir()
    (volume / "checkpoints/model.bin").write_bytes(b"weights")
    assert s3.get_object(Bucket=bucket, Key="checkpoints/model.bin")["Body"].read() == b"weights"
    s3.put_object(Bucket=bucket, Key="data/new/file", Body=b"data")
    assert (volume / "data/new/file").read_bytes() == b"data"
