"""Names and paths from anywhere: run ids, places on the volume, keys of the S3 API. None leads out, none is changed."""

from __future__ import annotations

import datetime
import io
import os
import posixpath
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import botocore.awsrequest
import pytest
import urllib3
import volume_paths
from hypothesis import example, given
from hypothesis import strategies as st

from podtasks.doors.s3_client import S3Client
from podtasks.pure.errors import UsageError
from podtasks.pure.pod_path import absolute_path, clean_path, is_inside, path_problem, relative_path_problem
from podtasks.pure.run import build_run_id
from podtasks.pure.run_ids import is_run_id, made_at, sort_newest_first
from podtasks.pure.s3_account import S3Account
from podtasks.pure.secret import Secret
from podtasks.pure.settings import Settings
from podtasks.pure.transfer import is_safe_place
from podtasks.pure.volume_place import place_of, possible_places
from tests.properties.hostile import NAMES, SAMPLES
from tests.properties.profile import examples

PARTS = st.one_of(st.sampled_from(["a", "b", "..", ".", "", "workspace", "demo", "out", " ", "~", "%2e%2e"]), NAMES)
PATHS = st.one_of(
    st.lists(PARTS, max_size=5).map("/".join),
    st.lists(PARTS, max_size=5).map(lambda parts: "/" + "/".join(parts)),
    st.sampled_from(SAMPLES),
    st.text(max_size=10),
)
MOMENTS = st.datetimes(datetime.datetime(2000, 1, 1), datetime.datetime(2099, 1, 1))


@examples(200)
@given(st.text(max_size=60), st.text("0123456789abcdef", min_size=7, max_size=40), MOMENTS)
def test_a_run_id_is_a_plain_name_with_its_moment(config: str, commit: str, now: datetime.datetime) -> None:
    run_id = build_run_id(config, commit, now.replace(tzinfo=datetime.timezone.utc))
    assert is_run_id(run_id) and not run_id.startswith("-")
    assert run_id == "".join(letter for letter in run_id if letter.isascii() and (letter.isalnum() or letter == "-"))
    assert made_at(run_id) == now.replace(microsecond=0, tzinfo=datetime.timezone.utc).timestamp()


@examples(300)
@given(PATHS)
def test_a_run_id_is_one_folder_and_no_other(text: str) -> None:
    if is_run_id(text):
        assert text.isprintable()
        assert posixpath.normpath(f"/volume/runs/{text}") == f"/volume/runs/{text}"
        assert posixpath.dirname(f"/volume/runs/{text}") == "/volume/runs"
    assert sorted(sort_newest_first([text, "a-20260101-000000-b"])) == sorted([text, "a-20260101-000000-b"])


@examples(300)
@given(PATHS, PATHS)
def test_a_path_without_a_problem_stays_in_its_folder(path: str, other: str) -> None:
    if relative_path_problem(path) is None:
        whole = absolute_path("/workspace/demo", path)
        assert whole == "/workspace/demo" or is_inside(whole, "/workspace/demo")
    if path_problem(path) is None and path_problem(other) is None:
        both = absolute_path(absolute_path("/workspace", other), path)
        assert both == clean_path(both) and ".." not in both.split("/")


@examples(300)
@given(PATHS)
def test_a_place_on_the_volume_does_not_climb(path: str) -> None:
    settings = Settings(project="demo")
    try:
        places = possible_places(path, settings)
    except UsageError as error:
        assert error.next_step
        return
    assert all(place in ("", ".") or is_safe_place(place) for place in places)
    if path.startswith("/"):
        assert places == [place_of(path, settings)]


@examples(300)
@given(PATHS)
def test_a_safe_place_stays_where_it_is_put(place: str) -> None:
    if is_safe_place(place):
        path = PurePosixPath("/fetched") / place
        assert path.parts[: 2] == ("/", "fetched") and len(path.parts) > 2
        assert posixpath.normpath(str(path)) == str(path)


@examples(150)
@given(st.one_of(PATHS, PATHS.map("a/".__add__)), st.sampled_from(["", "a"]), st.booleans())
@example("a/x", "a", True)
def test_a_path_on_the_volume_leads_nowhere_else_by_no_link(place: str, link: str, leads_out: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        volume = Path(root) / "volume"
        (volume / "b").mkdir(parents=True)
        if link:
            (volume / link).symlink_to(root if leads_out else "b")
        try:
            path = volume_paths.find_path(str(volume), place)
        except volume_paths.Outside:
            return
        folder = os.path.realpath(os.path.dirname(path) if place else path)
        assert folder == str(volume) or folder.startswith(f"{volume}/")


@pytest.fixture(scope="module")
def client() -> Iterator[S3Client]:
    """A client of the S3 API whose requests go nowhere."""
    client = S3Client(
        S3Account("http://127.0.0.1:9", "EU-RO-1", "vol1", Secret("user_x"), Secret("rps_x")), use_proxies=False
    )
    yield client
    client.close()


def _answer(request: botocore.awsrequest.AWSPreparedRequest, **_: Any) -> botocore.awsrequest.AWSResponse:  # noqa: ANN401
    SEEN.append(request.url)
    body = urllib3.HTTPResponse(io.BytesIO(), preload_content=False)
    return botocore.awsrequest.AWSResponse(request.url, 200, {"Content-Length": "3"}, body)


SEEN: list[str] = []


@examples(60)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(lambda key: not key.startswith("/")))
@example("a b+c%20d?e#f&g=h;i")
@example("\u00e9/\u4f60\U0001f600/e\u0301")
@example("a//b/./c")
@example("~-_.!*'()")
def test_a_key_of_any_text_goes_to_the_s3_api_as_it_is(client: S3Client, key: str) -> None:
    SEEN.clear()
    client._client.meta.events.register("before-send.s3.HeadObject", _answer, unique_id="props")
    client.call("head_object", Key=key)
    parts = urllib.parse.urlsplit(SEEN[-1])
    assert (parts.query, parts.fragment) == ("", "")
    assert urllib.parse.unquote(parts.path) == f"/vol1/{key}"
