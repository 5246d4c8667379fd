"""A network volume in memory, as those see it who read parts of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from podtasks.pure.transfer import VolumeFile


class FakeReader:
    """Files by their places. `reads` has each question about a file's bytes, `error` is raised by every question."""

    name = "S3 API"

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.reads: list[tuple[str, int, int | None]] = []
        self.error: Exception | None = None

    def add_run(self, run_id: str, *, log: bytes | None = None, newest: bool = False, **record: Any) -> None:  # noqa: ANN401
        """Put a run's record there, and its own log."""
        self.files[f"runs/{run_id}/run.json"] = json.dumps({"run_id": run_id, **record}).encode()
        if log is not None:
            self.files[f"runs/{run_id}/output.log"] = log
        if newest:
            self.files["runs/newest"] = f"{run_id}\n".encode()

    def find(self, place: str) -> VolumeFile | None:
        """Return one file."""
        self._fail()
        return VolumeFile(place, len(self.files[place]), 1.0) if place in self.files else None

    def read(self, place: str) -> bytes | None:
        """Return a file whole."""
        return self.read_range(place, 0, None)

    def read_range(self, place: str, first_byte: int, last_byte: int | None) -> bytes | None:
        """Return a part of a file."""
        self._fail()
        self.reads.append((place, first_byte, last_byte))
        data = self.files.get(place)
        return None if data is None else data[first_byte : None if last_byte is None else last_byte + 1]

    def list_folder(self, place: str) -> tuple[list[str], list[VolumeFile]]:
        """Return one level of a folder."""
        self._fail()
        below = [each.removeprefix(f"{place}/") for each in self.files if each.startswith(f"{place}/")]
        return sorted({name.split("/")[0] for name in below if "/" in name}), []

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error
