"""What a watcher remembers on this machine: a help for the next one here, never a condition.

Where it is lost, or the folder cannot be written, times begin anew with the next watcher, and whoever is to be notified
may hear of the same end again. `.podtasks/watch.json`, readable by its owner only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from podtasks.doors.project_files import ProjectFiles, write_atomically
from podtasks.flows.run_copies import PRIVATE
from podtasks.pure.signs import Silence

NAME = "watch.json"


class WatchNotes:
    """The notes of this project's watchers on this machine.

    Args:
        cloud_name: which account they are about: the local cloud's runs are not RunPod's.
    """

    def __init__(self, files: ProjectFiles, cloud_name: str) -> None:
        self._files = files
        self._cloud_name = cloud_name
        # What the disk did not take: it counts for as long as this watcher lives.
        self._unwritten: dict[str, object] = {}

    def read_record(self) -> dict[str, Any] | None:
        """Return the record of the run that was seen last, as it was then; it may have ended since."""
        record = self._read().get("record")
        return record if isinstance(record, dict) else None

    def note_record(self, record: Mapping[str, Any]) -> None:
        """Remember a run's record, without what belongs on the volume only."""
        public = {name: value for name, value in record.items() if name not in PRIVATE}
        self._write(record=public)

    def read_silence(self, run_id: str) -> Silence | None:
        """Return the silence in which the run's pod was seen again and again, None where it was not."""
        found = self._of(run_id, "silence")
        try:
            return Silence(float(found["since"]), int(found["looks"]), str(found["heartbeat"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            return None

    def note_silence(self, run_id: str, silence: Silence | None) -> None:
        """Remember that a run's pod is silent; None: it is not."""
        if silence is None and "silence" not in self._read():
            return
        self._write(silence=None if silence is None else {"run_id": run_id, "value": asdict(silence)})

    def failed_launches(self, run_id: str) -> int:
        """Return how often a launch that was to go on after this run failed."""
        count = self._of(run_id, "failed_launches")
        return count if isinstance(count, int) else 0

    def note_failed_launches(self, run_id: str, count: int) -> None:
        """Remember how often it failed."""
        self._write(failed_launches={"run_id": run_id, "value": count})

    def given_up(self, run_id: str) -> str:
        """Return why it was told that nobody goes on after this run, "" where it was not."""
        return str(self._of(run_id, "given_up") or "")

    def note_given_up(self, run_id: str, reason: str) -> None:
        """Remember that it was told, and why."""
        self._write(given_up={"run_id": run_id, "value": reason})

    def _of(self, run_id: str, name: str) -> Any:  # noqa: ANN401 - whatever the file holds
        note = self._read().get(name)
        return note.get("value") if isinstance(note, dict) and note.get("run_id") == run_id else None

    def _read(self) -> dict[str, Any]:
        return {**self._read_file(), **self._unwritten}

    def _read_file(self) -> dict[str, Any]:
        try:
            notes = json.loads((self._files.state_folder / NAME).read_bytes())
        except (OSError, ValueError):
            return {}
        return notes if isinstance(notes, dict) and notes.get("cloud") == self._cloud_name else {}

    def _write(self, **notes: object) -> None:
        whole = {**self._read(), "cloud": self._cloud_name, **notes}
        try:
            write_atomically(self._files.ensure_state_folder() / NAME, json.dumps(whole).encode())
        except OSError:
            self._unwritten.update(notes)
        else:
            self._unwritten.clear()
