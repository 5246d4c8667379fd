"""How often a launch after a run failed and left no run on record: each may have cost a pod's start.

It is counted here and, by the S3 API, in `runs/<run_id>/failed-launches` on the volume: watchers that remember nothing,
in containers or on GitHub's machines, would start pods without end.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

from podtasks.doors.at_once import ask_at_once
from podtasks.flows.cloud import Cloud
from podtasks.flows.volume_store import open_s3_volume
from podtasks.flows.watch_notes import WatchNotes

if TYPE_CHECKING:
    from podtasks.doors.s3 import S3Volume  # boto3 costs 0.3 s, so not before it is needed

FILE = "failed-launches"
PATIENCE_S = 6.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Tries:
    """How many launches failed, and why no more are tried, "" where some are left."""

    count: int = 0
    given_up: str = ""


class LaunchTries:
    """Counts the launches after runs.

    Args:
        notes: of this machine, which count where the volume cannot be asked.
    """

    def __init__(self, cloud: Cloud, notes: WatchNotes) -> None:
        self._cloud = cloud
        self._notes = notes
        self._volume: S3Volume | None = None

    def read(self, run_id: str) -> Tries:
        """Return what is known of the launches after a run, here or on the volume."""
        there = _parse(self._ask(lambda volume: volume.read(_place(run_id))))
        count = max(there.count, self._notes.failed_launches(run_id))
        return Tries(count, there.given_up or self._notes.given_up(run_id))

    def note(self, run_id: str, tries: Tries) -> None:
        """Remember it, here and, as far as that can be written, on the volume."""
        self._notes.note_failed_launches(run_id, tries.count)
        data = json.dumps(asdict(tries)).encode() + b"\n"
        self._ask(lambda volume: volume.write(_place(run_id), data))

    def _ask(self, question: Callable[[S3Volume], Result]) -> Result | None:
        """Return the answer of the volume, None where it cannot be asked or does not answer in time."""

        def ask() -> tuple[Result] | None:
            if self._volume is None and self._cloud.s3_keys is not None:
                self._volume = open_s3_volume(self._cloud)
            return None if self._volume is None else (question(self._volume),)

        ((_, answer),) = ask_at_once({"": ask}, PATIENCE_S)
        return answer[0] if isinstance(answer, tuple) else None


def _place(run_id: str) -> str:
    return f"runs/{run_id}/{FILE}"


def _parse(content: bytes | None) -> Tries:
    """Return what the file says; what cannot be read so says nothing."""
    try:
        found = json.loads(content or b"")
        return Tries(max(0, int(found["count"])), str(found["given_up"]))
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError):
        return Tries()
