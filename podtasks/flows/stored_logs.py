"""A run's log as it lies on the volume: by the S3 API, or by a pod's shell; no more of it is read than is shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from podtasks.pure.run_ids import NO_RUNS, is_run_id, sort_newest_first
from podtasks.pure.run_record import parse_record
from podtasks.pure.transfer import VolumeFile

CURRENT_LOG = "logs/current.log"
PIECE_BYTES = 8 << 20
FIRST_LOOK_BYTES = 64 << 10
MOST_END_BYTES = 64 << 20


class VolumeReader(Protocol):
    """What can read parts of the volume's files: doors/s3.S3Volume, flows/shell_volume.ShellVolume."""

    name: str

    def find(self, place: str) -> VolumeFile | None:
        """Return one file's size and time, None where there is none."""

    def read(self, place: str) -> bytes | None:
        """Return a small file whole, None where there is none."""

    def read_range(self, place: str, first_byte: int, last_byte: int | None) -> bytes | None:
        """Return bytes from one to another, both included; None where there is no file."""

    def list_folder(self, place: str) -> tuple[list[str], list[VolumeFile]]:
        """Return the names of the folders in a folder, and its files."""


@dataclass(frozen=True)
class StoredLog:
    """A run's log on the volume: the file it is in, and its bytes there, from `start` up to and without `end`."""

    record: Mapping[str, Any]
    place: str
    start: int
    end: int

    @property
    def run_id(self) -> str:
        """Whose log it is."""
        return str(self.record.get("run_id"))


def list_run_ids(volume: VolumeReader) -> list[str]:
    """Return the ids of the runs on the volume, the newest first."""
    names = volume.list_folder("runs")[0]
    return sort_newest_first(name for name in names if name not in NO_RUNS and is_run_id(name))


def read_record(volume: VolumeReader, run_id: str) -> dict[str, Any] | None:
    """Return a run's record, None where the volume has none of that id that can be read."""
    if not is_run_id(run_id):
        return None
    record = parse_record(volume.read(f"runs/{run_id}/run.json"))
    return None if record is None else {**record, "run_id": run_id}


def read_newest_record(volume: VolumeReader) -> dict[str, Any] | None:
    """Return the record of the run launched last, None where there was none."""
    return read_record(volume, (volume.read("runs/newest") or b"").decode(errors="replace").strip())


def find_log(volume: VolumeReader, record: Mapping[str, Any]) -> StoredLog | None:
    """Return where a run's log is: its own file, made when it ended, else its part of the log of all runs."""
    own = f"runs/{record['run_id']}/output.log"
    found = volume.find(own)
    if found is not None:
        return StoredLog(record, own, 0, found.size_bytes)
    found = volume.find(CURRENT_LOG)
    start = record.get("log_start")
    if found is None or not isinstance(start, int):
        return None
    end = record.get("log_end")
    size_bytes = found.size_bytes
    return StoredLog(record, CURRENT_LOG, start, min(end, size_bytes) if isinstance(end, int) else size_bytes)


def read_log(volume: VolumeReader, log: StoredLog) -> Iterator[bytes]:
    """Yield the whole log, in pieces."""
    first = log.start
    while first < log.end:
        piece = volume.read_range(log.place, first, min(first + PIECE_BYTES, log.end) - 1)
        if not piece:
            return
        yield piece
        first += len(piece)


def read_last_lines(volume: VolumeReader, log: StoredLog, lines: int) -> bytes:
    """Return the last `lines` lines: the log's end is read, and more of it only where that has too few."""
    look_bytes = FIRST_LOOK_BYTES
    while lines > 0 and log.start < log.end:
        first = max(log.start, log.end - look_bytes)
        data = volume.read_range(log.place, first, log.end - 1) or b""
        # One line more than wanted: the first one of a part is cut.
        if first == log.start or data.count(b"\n") > lines or look_bytes >= MOST_END_BYTES:
            return last_lines(data, lines)
        look_bytes *= 8
    return b""


def last_lines(data: bytes, lines: int) -> bytes:
    """Return the last lines of a log. A carriage return ends none: a progress bar is one line."""
    if lines <= 0:
        return b""
    body = data[:-1] if data.endswith(b"\n") else data
    return b"\n".join(body.split(b"\n")[-lines:]) + data[len(body) :]
