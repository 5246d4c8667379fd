"""A network volume through RunPod's S3 API: no pod, nothing billed by the hour."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from podtasks.doors.many import run_many
from podtasks.doors.s3_client import THREADS, S3Client, S3FileError
from podtasks.doors.s3_download import S3Download
from podtasks.doors.s3_upload import Check, S3Upload
from podtasks.pure.errors import ApiError
from podtasks.pure.s3_account import S3Account
from podtasks.pure.s3_listing import as_folder, parse_file, parse_files, parse_folders
from podtasks.pure.transfer import LocalFile, ProgressBar, Tally, VolumeFile, is_unfinished

LAST = "\U0010ffff"


class S3Volume:
    """The files of one network volume. Safe to be used by several threads.

    Args:
        account: which volume, and the keys to it.
        use_proxies: whether the environment's proxies count; not for the local cloud.
    """

    name = "S3 API"

    def __init__(self, account: S3Account, *, use_proxies: bool) -> None:
        self.volume_id = account.bucket
        self._client = S3Client(account, use_proxies=use_proxies)

    def close(self) -> None:
        """Close the connections; a volume that goes out of use without it loses nothing."""
        self._client.close()

    def find(self, place: str) -> VolumeFile | None:
        """Return one file's size and time, None where there is no such file."""
        answer = self._ask("head_object", place)
        return None if answer is None else parse_file(place, answer, "ContentLength")

    def read(self, place: str) -> bytes | None:
        """Return a file whole, None where there is none."""
        return self._read(place, "")

    def read_range(self, place: str, first_byte: int, last_byte: int | None) -> bytes | None:
        """Return the bytes of a file from one to another, both included, None: to its end; b"" where it is shorter.

        Returns None where there is no such file.
        """
        return self._read(place, f"bytes={first_byte}-{'' if last_byte is None else last_byte}")

    def read_end(self, place: str, size_bytes: int) -> bytes | None:
        """Return the last bytes of a file, all of it where it is shorter, None where there is none."""
        found = self.find(place)
        if found is None or found.size_bytes == 0 or size_bytes <= 0:
            return None if found is None else b""
        return self.read_range(place, max(0, found.size_bytes - size_bytes), found.size_bytes - 1)

    def write(self, place: str, data: bytes) -> None:
        """Write a small file whole."""
        try:
            self._client.call("put_object", Key=place, Body=data)
        except S3FileError as error:
            raise ApiError(
                f"{place} cannot be written to the volume: {error}.",
                means="What was there before is there still.",
                next_step="the same command again in a minute",
            ) from None

    def list_files(self, place: str) -> Iterator[VolumeFile]:
        """Yield all files at or below a place, but for unfinished ones; none where there is nothing."""
        is_folder = False
        for file in self.list_everything(place):
            is_folder = True
            if not is_unfinished(file.place):
                yield file
        found = None if is_folder else self.find(place)
        if found is not None:
            yield found

    def list_everything(self, place: str) -> Iterator[VolumeFile]:
        """Yield all files below a folder, also what interrupted uploads left."""
        for page in self._list_pages(as_folder(place)):
            yield from parse_files(page)

    def list_folder(self, place: str) -> tuple[list[str], list[VolumeFile]]:
        """Return one level of a folder: the names of its folders, and its files, both sorted."""
        folders: set[str] = set()
        files: dict[str, VolumeFile] = {}
        for page in self._list_pages(as_folder(place), Delimiter="/"):
            folders.update(name for name in parse_folders(page) if not is_unfinished(name))
            files.update((file.place, file) for file in parse_files(page))
        return sorted(folders), [files[place] for place in sorted(files)]

    def upload(
        self,
        files: Sequence[LocalFile],
        progress: ProgressBar,
        *,
        check: Check = "size",
        on_arrival: Callable[[LocalFile], None] = lambda _: None,
    ) -> Tally:
        """Send files to the volume, each of them confirmed.

        `check` says what is asked before: whether a file of this size, or with this content, is there already, or
        nothing. `on_arrival` hears of each file that is known to be there, from any thread.
        """
        return S3Upload(self._client, progress, check, on_arrival).run(files)

    def download(self, files: Sequence[VolumeFile], target: Path, progress: ProgressBar) -> Tally:
        """Copy files to `target`, at their places below it, except those that are there with size and time."""
        return S3Download(self._client, target, progress).run(files)

    def find_many(self, places: Iterable[str]) -> dict[str, VolumeFile | None]:
        """Return `find` of many places, asked at once."""
        found: dict[str, VolumeFile | None] = {}
        run_many(lambda place: found.update({place: self.find(place)}), places, THREADS)
        return found

    def read_many(self, places: Iterable[str]) -> dict[str, bytes | None]:
        """Return `read` of many small files, read at once."""
        found: dict[str, bytes | None] = {}
        run_many(lambda place: found.update({place: self.read(place)}), places, THREADS)
        return found

    def delete(self, places: Iterable[str]) -> list[tuple[str, str]]:
        """Delete files on the volume, one by one, for RunPod has no batch delete; return those that remain, and why."""
        failures: list[tuple[str, str]] = []

        def delete(place: str) -> None:
            try:
                self._client.call("delete_object", Key=place)
            except S3FileError as error:
                if not error.is_missing:
                    failures.append((place, str(error)))

        run_many(delete, places, THREADS)
        return sorted(failures)

    def is_empty(self, place: str) -> bool:
        """Return whether nothing lies below a place, by one short question."""
        page = self._list_page(Prefix=as_folder(place), MaxKeys=1)
        return not page.get("Contents")

    def _list_pages(self, prefix: str, **more: str) -> Iterator[dict[str, Any]]:
        """Yield the pages of a listing, each key once.

        RunPod may give a continuation token twice (runpod-python#505): the listing then goes on after the last key.
        """
        tokens: set[str] = set()
        seen: set[str] = set()
        where: dict[str, str] = {}
        while True:
            page = self._list_page(Prefix=prefix, **more, **where)
            fresh = [entry for entry in page.get("Contents", ()) if entry["Key"] not in seen]
            names = [str(entry["Key"]) for entry in fresh]
            names += [str(e["Prefix"]) for e in page.get("CommonPrefixes", ()) if e["Prefix"] not in seen]
            seen.update(names)
            yield {**page, "Contents": fresh}
            if not page.get("IsTruncated"):
                return
            token = str(page.get("NextContinuationToken") or "")
            if token and token not in tokens:
                where = {"ContinuationToken": token}
            elif names or "ContinuationToken" in where:
                # Behind a folder is what comes after all that is in it.
                where = {"StartAfter": max((name + LAST if name.endswith("/") else name for name in seen), default="")}
            else:
                raise self._stuck(prefix)
            tokens.add(token)

    def _list_page(self, **wanted: Any) -> dict[str, Any]:  # noqa: ANN401
        try:
            return self._client.call("list_objects_v2", **wanted)
        except S3FileError as error:
            raise ApiError(
                f"{wanted['Prefix'] or 'The volume'} cannot be listed by the S3 API: {error}.",
                means="Nothing was changed on the volume.",
                next_step="the same command again in a minute, or with --via ssh",
            ) from None

    def _stuck(self, prefix: str) -> ApiError:
        return ApiError(
            f"The S3 API does not get on with the listing of {prefix or 'the volume'}: it gives the same page again.",
            means="RunPod's listings of many files are known for it. Nothing was changed.",
            next_step="the same command with --via ssh",
        )

    def _read(self, place: str, wanted: str) -> bytes | None:
        # A body that breaks off is not among what boto3 tries again.
        for attempt in range(3):
            try:
                answer = self._client.call("get_object", Key=place, **({"Range": wanted} if wanted else {}))
                if "LastModified" not in answer:
                    answer["Body"].close()
                    raise S3FileError("the S3 API answered something else than the file", is_transient=True)
                return self._client.read_body(answer["Body"])
            except S3FileError as error:
                if error.is_missing or error.is_range:
                    return b"" if error.is_range else None
                if attempt == 2 or not error.is_transient:
                    raise _unreadable(place, error) from None
        return None

    def _ask(self, operation: str, place: str) -> dict[str, Any] | None:
        """Return an operation's answer for a file, None where there is no such file."""
        if not place:
            return None
        try:
            return self._client.call(operation, Key=place)
        except S3FileError as error:
            if error.is_missing:
                return None
            raise _unreadable(place, error) from None


def _unreadable(place: str, error: S3FileError) -> ApiError:
    return ApiError(
        f"{place} on the volume cannot be read: {error}.",
        means="Nothing was changed on the volume.",
        next_step="the same command again in a minute",
    )
