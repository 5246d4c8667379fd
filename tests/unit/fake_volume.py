"""A network volume in memory, with the face of the S3 door, that remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from podtasks.pure.transfer import LocalFile, ProgressBar, Tally, VolumeFile

WRITTEN = 1_700_000_000.0


class CountingBar:
    """A progress bar that only counts."""

    def __init__(self) -> None:
        self.files = 0
        self.size_bytes = 0

    def add(self, *, files: int = 0, size_bytes: int = 0) -> None:
        """Count."""
        self.files += files
        self.size_bytes += size_bytes


class FakeVolume:
    """Files by place; `asked` and `sent` remember places, `broken` says which fail and why."""

    name = "S3 API"
    volume_id = "vol1"

    def __init__(self, files: dict[str, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.times: dict[str, float] = {}
        self.broken: dict[str, str] = {}
        self.asked: list[str] = []
        self.checks: list[str] = []
        self.sent: list[str] = []
        self.deleted: list[str] = []

    def close(self) -> None:
        """Nothing is open."""

    def find(self, place: str) -> VolumeFile | None:
        self.asked.append(place)
        return self._file(place) if place in self.files else None

    def find_many(self, places: Iterable[str]) -> dict[str, VolumeFile | None]:
        return {place: self.find(place) for place in places}

    def read(self, place: str) -> bytes | None:
        return self.files.get(place)

    def read_many(self, places: Iterable[str]) -> dict[str, bytes | None]:
        return {place: self.read(place) for place in places}

    def read_range(self, place: str, first_byte: int, last_byte: int | None) -> bytes | None:
        data = self.files.get(place)
        end = None if last_byte is None else last_byte + 1
        return None if data is None else data[first_byte:end]

    def is_empty(self, place: str) -> bool:
        return not any(each.startswith(place + "/") for each in self.files)

    def list_files(self, place: str) -> Iterator[VolumeFile]:
        inside = [each for each in self.files if each == place or each.startswith(place + "/" if place else "")]
        yield from (self._file(each) for each in sorted(inside))

    def list_everything(self, place: str) -> Iterator[VolumeFile]:
        return self.list_files(place)

    def list_folder(self, place: str) -> tuple[list[str], list[VolumeFile]]:
        below = place + "/" if place else ""
        names = {each[len(below) :] for each in self.files if each.startswith(below)}
        folders = {name.split("/")[0] for name in names if "/" in name}
        return sorted(folders), [self._file(below + name) for name in sorted(names) if "/" not in name]

    def upload(
        self,
        files: Sequence[LocalFile],
        progress: ProgressBar,
        *,
        check: str = "size",
        on_arrival: Callable[[LocalFile], None] = lambda _: None,
    ) -> Tally:
        tally = Tally()
        for file in files:
            self.checks.append(f"{check} {file.place}")
            if file.place in self.broken:
                tally.failures.append((str(file.path), self.broken[file.place]))
                continue
            there = self.files.get(file.place)
            if check != "nothing" and there is not None and len(there) == file.size_bytes:
                tally.skipped_files += 1
                tally.skipped_bytes += file.size_bytes
            else:
                self.sent.append(file.place)
                self.files[file.place] = file.path.read_bytes()
                tally.sent_files += 1
                tally.sent_bytes += file.size_bytes
            progress.add(files=1, size_bytes=file.size_bytes)
            on_arrival(file)
        return tally

    def download(self, files: Sequence[VolumeFile], target: Path, progress: ProgressBar) -> Tally:
        tally = Tally()
        for file in files:
            if file.place in self.broken:
                tally.failures.append((file.place, self.broken[file.place]))
                continue
            path = target / file.place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.files[file.place])
            progress.add(files=1, size_bytes=file.size_bytes)
            tally.sent_files += 1
            tally.sent_bytes += file.size_bytes
        return tally

    def delete(self, places: Iterable[str]) -> list[tuple[str, str]]:
        for place in places:
            self.deleted.append(place)
            del self.files[place]
        return []

    def _file(self, place: str) -> VolumeFile:
        return VolumeFile(place, len(self.files[place]), self.times.get(place, WRITTEN))
