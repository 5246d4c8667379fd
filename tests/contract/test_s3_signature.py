"""Who may use the S3 API: signatures are really checked."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.contract.local_cloud import GPU, Emulator
from tests.contract.s3_client import RawS3, make_client, refused


def code_of(answer: tuple[int, bytes]) -> tuple[int, str]:
    status, body = answer
    return status, body.decode().partition("<Code>")[2].partition("</Code>")[0]


def test_what_was_signed_is_done(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    raw = RawS3(emulator)
    assert raw.call("PUT", "k", b"content")[0] == 200
    assert raw.call("GET", "k") == (200, b"content")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"content"


@pytest.mark.parametrize(
    "change",
    [
        {"method": "DELETE"},
        {"path": "/other"},
        {"path": "?acl"},
        {"headers": {"X-Amz-Date": "20200101T000000Z"}},
        {"headers": {"Host": "elsewhere:1"}},
        {"headers": {"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"}},
        {"signature": "0" * 64},
        {"signature": ""},
    ],
    ids=str,
)
def test_nothing_that_was_signed_can_be_changed(
    emulator: Emulator,
    s3: Any,  # noqa: ANN401
    bucket: str,
    change: dict[str, Any],
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    raw = RawS3(emulator)
    request = raw.sign("PUT", "k", b"forged")
    request.method = change.get("method", request.method)
    request.path += change.get("path", "")
    request.headers.update(change.get("headers", {}))
    if "signature" in change:
        head, _, _ = request.headers["Authorization"].rpartition("=")
        request.headers["Authorization"] = f"{head}={change['signature']}"
    status, code = code_of(raw.send(request))
    assert status in (400, 403)
    assert code in ("SignatureDoesNotMatch", "AuthorizationHeaderMalformed")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"
    assert "Contents" in s3.list_objects_v2(Bucket=bucket)


def test_a_body_that_was_changed_is_refused(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    raw = RawS3(emulator)
    for size in (10, 2_000_000):
        request = raw.sign("PUT", "k", b"a" * size)
        request.body = b"b" * size
        assert code_of(raw.send(request)) == (400, "XAmzContentSHA256Mismatch")
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="k")


def test_an_unsigned_body_is_taken_as_it_is(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    raw = RawS3(emulator)
    request = raw.sign("PUT", "k", b"aaa", payload_hash="UNSIGNED-PAYLOAD")
    request.body = b"bbb"
    assert raw.send(request)[0] == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"bbb"


def test_a_content_md5_is_compared(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    wrong = "1B2M2Y8AsgTpgAmY7PhCfg=="
    assert code_of(RawS3(emulator).call("PUT", "k", b"x", {"Content-MD5": wrong})) == (400, "BadDigest")
    assert RawS3(emulator).call("PUT", "k", b"", {"Content-MD5": wrong})[0] == 200
    assert s3.head_object(Bucket=bucket, Key="k")["ContentLength"] == 0


def test_headers_of_amazons_must_be_signed(emulator: Emulator, s3: Any, bucket: str) -> None:  # noqa: ANN401
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    raw = RawS3(emulator)
    request = raw.sign("PUT", "copy", b"")
    request.headers["x-amz-copy-source"] = f"{bucket}/k"
    assert code_of(raw.send(request)) == (403, "AccessDenied")


@pytest.mark.parametrize(("hours", "code"), [(-1.1, "RequestTimeTooSkewed"), (1.1, "RequestTimeTooSkewed"), (0.9, "")])
def test_a_clock_may_be_wrong_by_an_hour_at_most(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, hours: float, code: str
) -> None:
    import datetime

    shown = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=hours)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: shown.replace(tzinfo=None))
    status, found = code_of(RawS3(emulator).call("GET", ""))
    assert (status, found) == ((403, code) if code else (200, ""))
    assert abs(time.time() - shown.timestamp()) > 3000


def test_each_wrong_credential_has_its_own_error(emulator: Emulator, bucket: str) -> None:
    secret, account_key = emulator.info["s3_secret_key"], emulator.info["key"]
    wrong: list[tuple[dict[str, Any], str, int]] = [
        ({"aws_access_key_id": "user_someone"}, "InvalidAccessKeyId", 403),
        ({"aws_access_key_id": account_key, "aws_secret_access_key": account_key}, "InvalidAccessKeyId", 403),
        ({"aws_secret_access_key": secret[:-1]}, "SignatureDoesNotMatch", 403),
        ({"region_name": "US-KS-2"}, "AuthorizationHeaderMalformed", 400),
    ]
    for changes, code, status in wrong:
        client = make_client(emulator, **changes)
        with refused(code, status):
            client.list_objects_v2(Bucket=bucket)
        client.close()


def test_a_pods_own_key_does_not_work(emulator: Emulator, bucket: str) -> None:
    query = f'mutation {{ podFindAndDeployOnDemand(input: {{gpuTypeId: "{GPU}", imageName: "i"}}) {{ id }} }}'
    pod_id = emulator.graphql(query)["data"]["podFindAndDeployOnDemand"]["id"]
    state = (emulator.state / "state.json").read_text()
    key = state.partition(f'"id": "{pod_id}"')[2].partition('"key": "')[2].partition('"')[0]
    assert key.startswith("rpa_")
    client = make_client(emulator, aws_access_key_id=key, aws_secret_access_key=key)
    with refused("InvalidAccessKeyId", 403):
        client.list_objects_v2(Bucket=bucket)
    client.close()


@pytest.mark.parametrize("header", ["", "Bearer {key}", "AWS4-HMAC-SHA256 nonsense", "AWS key:signature"])
def test_other_ways_to_show_a_key_are_refused(emulator: Emulator, bucket: str, header: str) -> None:
    headers = {"Authorization": header.format(key=emulator.info["key"])} if header else {}
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(
            urllib.request.Request(f"{emulator.info['url']}/{bucket}/k", headers=headers), timeout=10
        )
    assert caught.value.code in (400, 403)
    assert b"<Error><Code>" in caught.value.read()


def test_presigned_urls_are_refused_by_name(s3: Any, bucket: str) -> None:  # noqa: ANN401
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, timeout=10)
    assert caught.value.code == 501
    assert b"presigned URL" in caught.value.read()
