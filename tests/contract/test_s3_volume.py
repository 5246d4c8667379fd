"""The S3 door against the emulator: what RunPod's S3 API does, and what a volume looks like through it."""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from podtasks.doors import s3_client, s3_download, s3_upload
from podtasks.doors.s3 import S3Volume
from podtasks.pure.errors import ApiError, ApiUnreachableError, AuthenticationError, PlanError
from podtasks.pure.s3_account import S3Account
from podtasks.pure.secret import Secret
from podtasks.pure.transfer import LocalFile, VolumeFile
from tests.contract.local_cloud import Emulator

HOSTILE = ("a b", "it's", 'say "x"', "semi;colon", "$(id)", "`id`", "-rf", "ünïcödé", "two\nlines", "100%", "a+b?#&=")


class Counting:
    """A progress bar that only counts."""

    def __init__(self) -> None:
        self.files = 0
        self.size_bytes = 0

    def add(self, *, files: int = 0, size_bytes: int = 0) -> None:
        self.files += files
        self.size_bytes += size_bytes


def account_of(emulator: Emulator, **changes: str) -> S3Account:
    info = {**emulator.info, **changes}
    keys = Secret(info["s3_access_key"]), Secret(info["s3_secret_key"])
    return S3Account(info["url"], info["data_center"], info["volume_id"], *keys)


@pytest.fixture
def volume(emulator: Emulator) -> Iterator[S3Volume]:
    volume = S3Volume(account_of(emulator), use_proxies=False)
    yield volume
    volume.close()


@pytest.fixture
def folder(emulator: Emulator, tmp_path: Path) -> Path:
    """A folder on the volume, named after the test."""
    place = emulator.state / "volumes" / str(emulator.info["volume_id"]) / tmp_path.name
    place.mkdir()
    return place


def make_file(path: Path, place: str, data: bytes) -> LocalFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    found = path.stat()
    return LocalFile(path, place, found.st_size, found.st_mtime_ns)


def order(emulator: Emulator, **fault: object) -> None:
    emulator.control("POST", "/faults", fault)


def test_files_with_hostile_names_go_up_and_come_home(volume: S3Volume, folder: Path, tmp_path: Path) -> None:
    top = folder.name
    files = [make_file(tmp_path / "up" / name, f"{top}/{name}", name.encode() * 3) for name in HOSTILE]
    counting = Counting()
    tally = volume.upload(files, counting)
    assert (tally.sent_files, tally.failures) == (len(HOSTILE), [])
    assert (counting.files, counting.size_bytes) == (tally.sent_files, tally.sent_bytes)
    assert {path.name for path in folder.iterdir()} == set(HOSTILE)
    listed = list(volume.list_files(top))
    assert {file.place for file in listed} == {f"{top}/{name}" for name in HOSTILE}
    assert volume.download(listed, tmp_path / "down", Counting()).failures == []
    for name in HOSTILE:
        assert (tmp_path / "down" / top / name).read_bytes() == name.encode() * 3
    assert volume.download(listed, tmp_path / "down", Counting()).skipped_files == len(HOSTILE)
    assert volume.delete(file.place for file in listed) == []
    assert list(folder.iterdir()) == []


def test_one_level_of_a_folder_is_listed_and_parts_of_a_file_are_read(volume: S3Volume, folder: Path) -> None:
    top = folder.name
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/x").write_bytes(b"x")
    (folder / "log").write_bytes(b"0123456789")
    (folder / "empty").touch()
    folders, files = volume.list_folder(top)
    assert (folders, [file.place for file in files]) == (["deep"], [f"{top}/empty", f"{top}/log"])
    assert volume.read(f"{top}/log") == b"0123456789"
    assert volume.read_range(f"{top}/log", 2, 4) == b"234"
    assert volume.read_range(f"{top}/log", 8, None) == b"89"
    assert volume.read_range(f"{top}/log", 99, None) == b""
    assert volume.read_end(f"{top}/log", 3) == b"789"
    assert volume.read_end(f"{top}/log", 99) == b"0123456789"
    assert volume.read_end(f"{top}/empty", 5) == b""
    assert [volume.find(f"{top}/none"), volume.read(f"{top}/none"), volume.read_end(f"{top}/none", 5)] == [None] * 3
    assert [file.place for file in volume.list_files(f"{top}/log")] == [f"{top}/log"]
    assert list(volume.list_files(f"{top}/lo")) == []
    assert (volume.is_empty(top), volume.is_empty(f"{top}/none")) == (False, True)


def test_a_small_file_is_written_and_written_over(volume: S3Volume, folder: Path) -> None:
    for data in (b"one", b"another"):
        volume.write(f"{folder.name}/note", data)
        assert (folder / "note").read_bytes() == volume.read(f"{folder.name}/note") == data
    with pytest.raises(ApiError, match="cannot be written"):
        volume.write(f"{folder.name}/note/below", b"x")


def test_unfinished_files_are_listed_only_with_everything(volume: S3Volume, folder: Path) -> None:
    (folder / ".rsync-partial").mkdir()
    (folder / ".rsync-partial/half").write_bytes(b"x")
    (folder / "whole").write_bytes(b"y")
    top, half = folder.name, f"{folder.name}/.rsync-partial/half"
    assert [file.place for file in volume.list_files(top)] == [f"{top}/whole"]
    assert volume.list_folder(top)[0] == []
    assert half in [file.place for file in volume.list_everything(top)]


def test_a_listing_goes_on_when_the_continuation_token_repeats(
    emulator: Emulator, volume: S3Volume, folder: Path
) -> None:
    names = [f"f{number:04d}" for number in range(2500)]
    for name in names:
        (folder / name).touch()
    emulator.turn(s3_repeat_token_after=1000)
    assert [Path(file.place).name for file in volume.list_files(folder.name)] == names
    assert len(volume.list_folder(folder.name)[1]) == len(names)


def test_a_file_that_is_there_with_its_size_is_not_sent(volume: S3Volume, folder: Path, tmp_path: Path) -> None:
    file = make_file(tmp_path / "x", f"{folder.name}/x", b"new")
    (folder / "x").write_bytes(b"old")
    assert volume.upload([file], Counting()).skipped_files == 1
    assert volume.upload([file], Counting(), check="content").sent_files == 1
    assert (folder / "x").read_bytes() == b"new"
    assert volume.upload([file], Counting(), check="content").skipped_files == 1


def test_502s_are_tried_again(emulator: Emulator, volume: S3Volume, folder: Path, tmp_path: Path) -> None:
    files = [make_file(tmp_path / str(n), f"{folder.name}/{n}", b"x" * n) for n in range(20)]
    order(emulator, operation="s3:PutObject", kind="http", status=502, times=8)
    tally = volume.upload(files, Counting(), check="nothing")
    assert (tally.sent_files, tally.failures) == (20, [])


def test_what_is_wrong_with_one_file_stops_no_other(volume: S3Volume, folder: Path, tmp_path: Path) -> None:
    top = folder.name
    good = make_file(tmp_path / "good", f"{top}/good", b"1")
    gone = make_file(tmp_path / "gone", f"{top}/gone", b"1")
    changed = make_file(tmp_path / "changed", f"{top}/changed", b"1")
    no_utf8 = make_file(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff")), os.fsdecode(b"t/\xff"), b"1")
    gone.path.unlink()
    changed.path.write_bytes(b"22")
    rewritten = make_file(tmp_path / "rewritten", f"{top}/rewritten", b"1")
    os.utime(rewritten.path, (1, 1))
    tally = volume.upload([good, gone, changed, rewritten, no_utf8], Counting(), check="nothing")
    assert tally.sent_files == 1
    assert dict(tally.failures) == {
        str(gone.path): "No such file or directory",
        str(changed.path): "it changed while it was being sent",
        str(rewritten.path): "it changed while it was being sent",
        str(no_utf8.path): "its name is no UTF-8, which the S3 API needs; --via ssh can send it",
    }


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files of a few MB be big ones."""
    monkeypatch.setattr(s3_upload, "WHOLE_BYTES", 1024**2)
    monkeypatch.setattr(s3_client, "MULTIPART_BYTES", 5 * 1024**2)
    monkeypatch.setattr(s3_client, "PART_BYTES", 5 * 1024**2)


@pytest.mark.usefixtures("small_parts")
def test_a_big_file_goes_in_parts_and_leftovers_of_a_killed_command_are_given_up(
    emulator: Emulator, volume: S3Volume, folder: Path, tmp_path: Path
) -> None:
    data = os.urandom(12 * 1024**2)
    file = make_file(tmp_path / "big", f"{folder.name}/big", data)
    middle = make_file(tmp_path / "middle", f"{folder.name}/middle", data[: 2 * 1024**2])
    client = boto3.client(
        "s3",
        endpoint_url=emulator.info["url"],
        region_name=emulator.info["data_center"],
        aws_access_key_id=emulator.info["s3_access_key"],
        aws_secret_access_key=emulator.info["s3_secret_key"],
    )
    bucket = emulator.info["volume_id"]
    client.create_multipart_upload(Bucket=bucket, Key=file.place)
    other = client.create_multipart_upload(Bucket=bucket, Key="somebody/else")
    counting = Counting()
    tally = volume.upload([file, middle], counting)
    assert (tally.sent_files, tally.failures) == (2, [])
    assert (counting.files, counting.size_bytes) == (2, 14 * 1024**2)
    assert (folder / "big").read_bytes() == data
    left = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert [upload["Key"] for upload in left] == ["somebody/else"]
    client.abort_multipart_upload(Bucket=bucket, Key="somebody/else", UploadId=other["UploadId"])
    client.close()


@pytest.mark.usefixtures("small_parts")
def test_a_big_file_that_is_late_after_its_upload_is_waited_for(
    emulator: Emulator, volume: S3Volume, folder: Path, tmp_path: Path
) -> None:
    file = make_file(tmp_path / "big", f"{folder.name}/big", os.urandom(6 * 1024**2))
    order(emulator, operation="s3:HeadObject", kind="http", status=404, times=2)
    tally = volume.upload([file], Counting(), check="nothing")
    assert (tally.sent_files, tally.failures) == (1, [])
    assert emulator.control("GET", "/faults") == []


def test_an_interrupted_download_goes_on_where_it_was(
    volume: S3Volume, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(3 * 1024**2)
    (folder / "weights").write_bytes(data)
    (file,) = volume.list_files(folder.name)
    target = tmp_path / "home"
    break_after(monkeypatch, volume, reads=1)
    with pytest.raises(KeyboardInterrupt):
        volume.download([file], target, Counting())
    monkeypatch.undo()
    assert not (target / file.place).exists()
    (partial,) = (target / s3_download.PARTIAL_FOLDER).iterdir()
    assert 0 < partial.stat().st_size < len(data)
    counting = Counting()
    ranges = remember_ranges(monkeypatch, volume)
    assert volume.download([file], target, counting).failures == []
    assert ranges == [f"bytes={s3_download.CHUNK_BYTES}-"]
    assert (counting.files, counting.size_bytes) == (1, len(data))
    assert (target / file.place).read_bytes() == data
    assert abs((target / file.place).stat().st_mtime - file.modified) < 1
    assert not (target / s3_download.PARTIAL_FOLDER).exists()


def test_a_beginning_of_another_content_is_not_built_upon(volume: S3Volume, folder: Path, tmp_path: Path) -> None:
    (folder / "x").write_bytes(b"right" * 1000)
    (file,) = volume.list_files(folder.name)
    partial = tmp_path / "home" / s3_download.PARTIAL_FOLDER / s3_download._partial_name(file)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"wrong" * 500)
    assert volume.download([file], tmp_path / "home", Counting()).failures == []
    assert (tmp_path / "home" / file.place).read_bytes() == b"right" * 1000


@pytest.mark.parametrize("fault", [{"kind": "html", "status": 200}, {"kind": "null"}])
def test_a_page_in_the_place_of_a_file_is_not_taken_for_it(
    emulator: Emulator, volume: S3Volume, folder: Path, tmp_path: Path, fault: dict[str, object]
) -> None:
    (folder / "a").write_bytes(b"weights" * 1000)
    (listed,) = volume.list_files(folder.name)
    order(emulator, operation="s3:GetObject", **fault)
    assert volume.read(listed.place) == b"weights" * 1000
    order(emulator, operation="s3:GetObject", times=9, **fault)
    tally = volume.download([listed], tmp_path / "home", Counting())
    assert tally.failures == [(listed.place, "the S3 API answered something else than the file")]
    emulator.control("DELETE", "/faults")
    volume.download([listed], tmp_path / "home", Counting())
    assert (tmp_path / "home" / listed.place).read_bytes() == b"weights" * 1000


def test_names_that_lead_out_of_the_target_are_refused(volume: S3Volume, tmp_path: Path) -> None:
    bad = ["../x", "a/../../x", "/etc/x", "a//x", "./x"]
    tally = volume.download([VolumeFile(place, 1, 0.0) for place in bad], tmp_path / "home", Counting())
    assert sorted(name for name, _ in tally.failures) == sorted(bad)
    assert list((tmp_path / "home").iterdir()) == []


def test_wrong_keys_say_where_right_ones_come_from(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", emulator.info["s3_access_key"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", emulator.info["s3_secret_key"])
    monkeypatch.setenv("AWS_PROFILE", "none-such")
    wrong = S3Volume(account_of(emulator, s3_secret_key="rps_nonsense"), use_proxies=False)
    asks: list[Callable[[], object]] = [lambda: wrong.find("x"), lambda: wrong.list_folder(""), lambda: wrong.read("x")]
    for ask in asks:
        with pytest.raises(AuthenticationError, match="S3 keys") as caught:
            ask()
        assert "S3 API Keys" in caught.value.next_step
        assert "rps_nonsense" not in str(caught.value)
    wrong.close()


def test_a_clock_that_is_off_is_told_from_wrong_keys(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    late = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=2)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: late)
    monkeypatch.setattr("time.time", late.timestamp)
    volume = S3Volume(account_of(emulator), use_proxies=False)
    for ask in (lambda: volume.list_folder(""), lambda: volume.find("x")):
        with pytest.raises(ApiError, match="clock") as caught:
            ask()
        assert caught.type is ApiError
    volume.close()


def test_a_volume_that_is_not_there_and_an_address_that_does_not_answer(emulator: Emulator) -> None:
    with pytest.raises(PlanError, match="knows no network volume"):
        S3Volume(account_of(emulator, volume_id="nowhere"), use_proxies=False).list_folder("")
    away = account_of(emulator, url="http://127.0.0.1:9")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(s3_client, "MAX_ATTEMPTS", 1)
        with pytest.raises(ApiUnreachableError):
            S3Volume(away, use_proxies=False).find("x")


def test_an_upload_that_arrives_damaged_is_sent_again(
    volume: S3Volume, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_file(tmp_path / "x", f"{folder.name}/x", b"whole")
    call = volume._client.call
    answers = iter([{"ETag": '"' + hashlib.md5(b"damaged").hexdigest() + '"'}])
    monkeypatch.setattr(
        volume._client,
        "call",
        lambda operation, **more: next(answers, None) or call(operation, **more),
    )
    tally = volume.upload([file], Counting(), check="nothing")
    assert (tally.sent_files, tally.failures) == (1, [])
    assert (folder / "x").read_bytes() == b"whole"


def break_after(monkeypatch: pytest.MonkeyPatch, volume: S3Volume, reads: int) -> None:
    """Let Ctrl+C come after so many readings of an answer's body."""
    read_body = volume._client.read_body
    left = [reads]

    def read(body: object, size_bytes: int | None = None) -> bytes:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        return read_body(body, size_bytes)

    monkeypatch.setattr(volume._client, "read_body", read)


def remember_ranges(monkeypatch: pytest.MonkeyPatch, volume: S3Volume) -> list[str]:
    call = volume._client.call
    ranges: list[str] = []

    def remember(operation: str, **parameters: str) -> dict[str, Any]:
        ranges.append(parameters.get("Range", ""))
        return call(operation, **parameters)

    monkeypatch.setattr(volume._client, "call", remember)
    return ranges
