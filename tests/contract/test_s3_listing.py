"""Listings through unmodified boto3: order, pages, prefixes, delimiters and what RunPod's do wrong."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import PaginationError

from tests.contract.local_cloud import Emulator
from tests.contract.s3_client import refused

KEYS = ["a", "a-b/1", "a.b", "a/1", "a/2/x", "a/2/y", "a0", "b/1", "b/2", "ä/1", "😀"]


@pytest.fixture
def files(s3: Any, volume: Path) -> Path:  # noqa: ANN401
    """The volume with KEYS on it, without "a", which is a directory."""
    del s3
    for key in KEYS[1:]:
        (volume / key).parent.mkdir(parents=True, exist_ok=True)
        (volume / key).write_text(key)
    return volume


def read_all(s3: Any, operation: str, size: int, **wish: Any) -> tuple[list[str], list[str]]:  # noqa: ANN401
    pages = list(s3.get_paginator(operation).paginate(PaginationConfig={"PageSize": size}, **wish))
    assert all(len(page.get("Contents", [])) + len(page.get("CommonPrefixes", [])) <= size for page in pages)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return keys, [item["Prefix"] for page in pages for item in page.get("CommonPrefixes", [])]


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("size", [3, 1000])
def test_pages_hold_every_key_once_in_order(
    s3: Any,  # noqa: ANN401
    bucket: str,
    files: Path,
    operation: str,
    size: int,
) -> None:
    assert files
    expected = sorted(KEYS[1:], key=lambda key: key.encode())
    assert read_all(s3, operation, size, Bucket=bucket) == (expected, [])
    within = [key for key in expected if key.startswith("a")]
    assert read_all(s3, operation, size, Bucket=bucket, Prefix="a") == (within, [])
    assert read_all(s3, operation, size, Bucket=bucket, Prefix="a/2/") == (["a/2/x", "a/2/y"], [])
    assert read_all(s3, operation, size, Bucket=bucket, Prefix="nothing/") == ([], [])


@pytest.mark.parametrize("operation", ["list_objects", "list_objects_v2"])
@pytest.mark.parametrize("size", [2, 1000])
def test_a_delimiter_rolls_up(
    s3: Any,  # noqa: ANN401
    bucket: str,
    files: Path,
    operation: str,
    size: int,
) -> None:
    assert files
    rolled = (["a.b", "a0", "😀"], ["a-b/", "a/", "b/", "ä/"])
    assert read_all(s3, operation, size, Bucket=bucket, Delimiter="/") == rolled
    assert read_all(s3, operation, size, Bucket=bucket, Prefix="a/", Delimiter="/") == (["a/1"], ["a/2/"])
    assert read_all(s3, operation, size, Bucket=bucket, Prefix="a", Delimiter="b") == (
        ["a/1", "a/2/x", "a/2/y", "a0"],
        ["a-b", "a.b"],
    )


def test_a_listing_can_start_after_a_key(s3: Any, bucket: str, files: Path) -> None:  # noqa: ANN401
    assert files
    listed = s3.list_objects_v2(Bucket=bucket, StartAfter="a/2/x", Prefix="a")
    assert [item["Key"] for item in listed["Contents"]] == ["a/2/y", "a0"]
    assert listed["KeyCount"] == 2
    assert s3.list_objects_v2(Bucket=bucket, MaxKeys=0)["KeyCount"] == 0


def test_a_page_holds_a_thousand_keys_at_most(s3: Any, bucket: str, volume: Path) -> None:  # noqa: ANN401
    for number in range(1203):
        (volume / f"{number:05}").touch()
    page = s3.list_objects_v2(Bucket=bucket, MaxKeys=5000)
    assert (page["KeyCount"], page["IsTruncated"], page["MaxKeys"]) == (1000, True, 1000)
    keys, _ = read_all(s3, "list_objects_v2", 1000, Bucket=bucket)
    assert keys == [f"{number:05}" for number in range(1203)]


def test_a_token_of_anothers_is_refused(s3: Any, bucket: str) -> None:  # noqa: ANN401
    for token in ("nonsense", "###", "OnRva2Vu"):
        with refused("InvalidArgument", 400):
            s3.list_objects_v2(Bucket=bucket, ContinuationToken=token)


def test_long_listings_repeat_their_token_when_the_dial_says_so(
    emulator: Emulator,
    s3: Any,  # noqa: ANN401
    bucket: str,
    files: Path,
) -> None:
    assert files
    emulator.turn(s3_repeat_token_after=5)
    with pytest.raises(PaginationError, match="same next token was received twice"):
        read_all(s3, "list_objects_v2", 2, Bucket=bucket)
    assert len(read_all(s3, "list_objects_v2", 2, Bucket=bucket, Prefix="a/")[0]) == 3
    emulator.turn(s3_repeat_token_after=0)
    assert len(read_all(s3, "list_objects_v2", 2, Bucket=bucket)[0]) == 10


def test_listing_takes_time_when_the_dial_says_so(
    emulator: Emulator,
    s3: Any,  # noqa: ANN401
    bucket: str,
    files: Path,
) -> None:
    assert files
    emulator.turn(s3_list_10000_s=300)
    before = time.monotonic()
    s3.list_objects_v2(Bucket=bucket)
    assert 0.3 <= time.monotonic() - before < 3


def test_only_the_volumes_of_the_region_are_buckets(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    volumes = emulator.control("GET", "/status")["network_volumes"]
    assert len(volumes) == 2
    assert [item["Name"] for item in s3.list_buckets()["Buckets"]] == [bucket]
    assert s3.head_bucket(Bucket=bucket)["ResponseMetadata"]["HTTPStatusCode"] == 200
    other = next(iter(set(volumes) - {bucket}))
    for name, status in (("nothing", "404"), (other, "400")):
        with refused(status, int(status)):
            s3.head_bucket(Bucket=name)
