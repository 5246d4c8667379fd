"""What is to be copied between this machine and the volume, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from podtasks.pure.rsync_output import PARTIAL_FOLDER


@dataclass(frozen=True)
class LocalFile:
    """A file here and its place on the volume.

    Args:
        path: where it is on this machine.
        place: its path below the volume's top, with slashes and none in front.
        size_bytes: its size when it was found.
        modified_ns: when it was written, nanoseconds since 1970.
    """

    path: Path
    place: str
    size_bytes: int
    modified_ns: int


@dataclass(frozen=True)
class VolumeFile:
    """A file on the volume: its path below the volume's top, its size, and when it was written (seconds since 1970)."""

    place: str
    size_bytes: int
    modified: float


@dataclass
class Tally:
    """What came of a transfer. `failures` names each file that did not arrive, and why."""

    sent_files: int = 0
    sent_bytes: int = 0
    skipped_files: int = 0
    skipped_bytes: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def count(self, size_bytes: int, *, was_sent: bool) -> None:
        """Count a file that was sent, or was there already."""
        if was_sent:
            self.sent_files += 1
            self.sent_bytes += size_bytes
        else:
            self.skipped_files += 1
            self.skipped_bytes += size_bytes

    @property
    def there_files(self) -> int:
        """How many files are known to be at the target now."""
        return self.sent_files + self.skipped_files

    @property
    def there_bytes(self) -> int:
        """How many bytes they have."""
        return self.sent_bytes + self.skipped_bytes


class ProgressBar(Protocol):
    """Who hears how a transfer gets on; may be called from any thread."""

    def add(self, *, files: int = 0, size_bytes: int = 0) -> None:
        """Count files and bytes that have arrived; negative bytes take back what must be sent again."""


class CountedProgress:
    """Passes on how a transfer gets on, and knows how many files have arrived."""

    def __init__(self, bar: ProgressBar) -> None:
        self._bar = bar
        self.files = 0

    def add(self, *, files: int = 0, size_bytes: int = 0) -> None:
        """Count files and bytes."""
        self.files += files
        self._bar.add(files=files, size_bytes=size_bytes)


class Carrier(Protocol):
    """A way to the volume: the S3 API, or rsync over SSH."""

    name: str

    def upload(self, files: Sequence[LocalFile], progress: ProgressBar) -> Tally:
        """Copy files to the volume, except those that are there; a file that fails is in the tally, not raised."""

    def list_files(self, place: str) -> Iterator[VolumeFile]:
        """Yield all files at or below a place on the volume, but for unfinished ones; none where there is nothing."""

    def list_everything(self, place: str) -> Iterator[VolumeFile]:
        """Yield the files at or below a folder on the volume, also what interrupted uploads left."""

    def list_folder(self, place: str) -> tuple[list[str], list[VolumeFile]]:
        """Return one level of a folder on the volume: the names of its folders, and its files."""

    def read(self, place: str) -> bytes | None:
        """Return a small file of the volume whole, None where there is none."""

    def download(self, files: Sequence[VolumeFile], target: Path, progress: ProgressBar) -> Tally:
        """Copy files to `target`, at their places below it, except those that are there with size and time."""

    def delete(self, places: Iterable[str]) -> list[tuple[str, str]]:
        """Delete files on the volume; return those that could not be, and why."""


def is_same_copy(size_bytes: int, modified: float, file: VolumeFile) -> bool:
    """Return whether a local file of this size and time (seconds since 1970) is the volume's.

    Times are compared by the second: HTTP tells no more.
    """
    return size_bytes == file.size_bytes and abs(modified - file.modified) < 1


def is_unfinished(place: str) -> bool:
    """Return whether a place on the volume is where rsync keeps the part of a file whose upload was interrupted."""
    return PARTIAL_FOLDER in place.split("/")


def is_safe_place(place: str) -> bool:
    """Return whether a place on the volume stays, as a path, inside the folder that it is put into."""
    return all(part not in ("", ".", "..") for part in place.split("/")) and "\0" not in place


def merge(*tallies: Tally) -> Tally:
    """Return what came of several transfers together."""
    whole = Tally()
    for tally in tallies:
        whole.sent_files += tally.sent_files
        whole.sent_bytes += tally.sent_bytes
        whole.skipped_files += tally.skipped_files
        whole.skipped_bytes += tally.skipped_bytes
        whole.failures += tally.failures
    return whole
