"""The newest complete checkpoint on the volume, found without a pod.

The pod's own check decides: it is run here, over a copy in which big files have their true size and only their
beginning and end, which is all that the check reads of them.
"""

from __future__ import annotations

import fnmatch
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from podtasks.doors import programs_here
from podtasks.flows.pod_programs import PodPrograms
from podtasks.pure.transfer import Carrier, VolumeFile, is_safe_place

if TYPE_CHECKING:
    from podtasks.doors.s3 import S3Volume

PROGRAM = "find_checkpoint.py"
TRAINER_STATE = "trainer_state.json"
MIB = 1024**2
# The directory of a zip file, which torch.save writes, is at its end and grows with the number of tensors.
BEGINNING_BYTES, END_BYTES = MIB, 2 * MIB
WHOLE_BYTES = BEGINNING_BYTES + END_BYTES
# A larger JSON file is judged by its end only (remote/checkpoint_files.py).
WHOLE_JSON_BYTES = 32 * MIB
# safetensors' own limit for its header.
MOST_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class CheckpointChoice:
    """The newest complete checkpoint, and the newer ones that are not complete.

    Args:
        place: where it is on the volume, None where there is none.
        skipped: places of newer ones, and why each is not complete.
    """

    place: str | None
    step: int | None
    skipped: tuple[tuple[str, str], ...]


def choose_on_pod(programs: PodPrograms, directory: str, pattern: str) -> CheckpointChoice:
    """Return the newest complete checkpoint in a directory, a place on the volume, asked of a pod."""
    volume = programs.folders.volume
    answer = programs.run(PROGRAM, _build_request(volume, f"{volume}/{directory}", pattern))
    return _parse(answer, volume)


def choose_by_s3(volume: S3Volume, directory: str, pattern: str) -> CheckpointChoice:
    """Return the newest complete checkpoint in a directory, a place on the volume, by the S3 API."""
    names = list_candidates(volume, directory, pattern)
    if not names:
        return CheckpointChoice(None, None, ())
    with tempfile.TemporaryDirectory(prefix="podtasks-") as folder:
        return _Replica(volume, Path(folder), directory, pattern).choose(names)


def list_candidates(carrier: Carrier, directory: str, pattern: str) -> list[str]:
    """Return what in a directory has the name of a checkpoint, complete or not: paths below it.

    The pattern may go through several folders, as the pod's own does (remote/checkpoints.py).
    """
    parts = pattern.strip("/").split("/")
    return sorted({name for name in _match(carrier, directory, "", parts) if is_safe_place(name)})


def _match(carrier: Carrier, directory: str, inside: str, parts: Sequence[str]) -> Iterator[str]:
    """Yield what matches the parts of a pattern in the folder `inside` the directory; ** is any depth. See glob."""
    part, *rest = parts
    folders, files = carrier.list_folder(f"{directory}/{inside}".rstrip("/"))
    if part == "**" and rest:
        yield from _match(carrier, directory, inside, rest)
    for name in folders:
        if part == "**" and rest:
            yield from _match(carrier, directory, f"{inside}{name}/", parts)
        elif rest and fnmatch.fnmatchcase(name, part):
            yield from _match(carrier, directory, f"{inside}{name}/", rest)
    if not rest:
        names = [*folders, *(file.place.rsplit("/", 1)[-1] for file in files)]
        yield from (f"{inside}{name}" for name in names if fnmatch.fnmatchcase(name, part))


class _Replica:
    """A copy of a checkpoint directory that is filled as far as the check needs it."""

    def __init__(self, volume: S3Volume, folder: Path, directory: str, pattern: str) -> None:
        self._volume = volume
        self._programs = folder / "programs"
        self._top = folder / "volume"
        self._directory = directory
        self._pattern = pattern
        self._filled: set[str] = set()
        programs_here.install(self._programs)

    def choose(self, names: Sequence[str]) -> CheckpointChoice:
        """Fill the candidates, newest first, until one is found complete."""
        self._outline(names)
        while True:
            choice = self._check()
            unfilled = next((place for place, _ in choice.skipped if place not in self._filled), None)
            if unfilled is None:
                return choice
            self._fill(unfilled)

    def _outline(self, names: Sequence[str]) -> None:
        """Make each candidate with its step only, which is what the check orders them by."""
        places = [f"{self._directory}/{name}" for name in names]
        states = self._volume.read_many(f"{place}/{TRAINER_STATE}" for place in places)
        for place in places:
            state = states[f"{place}/{TRAINER_STATE}"]
            (self._top / place).mkdir(parents=True)
            if state is not None:
                (self._top / place / TRAINER_STATE).write_bytes(state)

    def _check(self) -> CheckpointChoice:
        request = _build_request(str(self._top), str(self._top / self._directory), self._pattern)
        return _parse(programs_here.run(self._programs, PROGRAM, request, self._top), str(self._top))

    def _fill(self, place: str) -> None:
        """Bring what the check reads of one candidate."""
        self._filled.add(place)
        files = list(self._volume.list_files(place))
        if [file.place for file in files] == [place]:
            (self._top / place).rmdir()
        for file in files:
            if is_safe_place(file.place):
                copy_for_check(self._volume, file, self._top)
        newest = max((file.modified for file in files), default=0.0)
        os.utime(self._top / place, (newest, newest))


def copy_for_check(volume: S3Volume, file: VolumeFile, top: Path) -> None:
    """Bring what the check reads of a file, to its place below `top`, with its true size."""
    path = top / file.place
    path.parent.mkdir(parents=True, exist_ok=True)
    if file.size_bytes <= (WHOLE_JSON_BYTES if file.place.endswith(".json") else WHOLE_BYTES):
        path.write_bytes(volume.read(file.place) or b"")
        return
    beginning = volume.read_range(file.place, 0, BEGINNING_BYTES - 1) or b""
    if file.place.endswith(".safetensors"):
        header_bytes = 8 + int.from_bytes(beginning[:8], "little")
        if BEGINNING_BYTES < header_bytes <= min(file.size_bytes, MOST_HEADER_BYTES):
            beginning = volume.read_range(file.place, 0, header_bytes - 1) or b""
    end = volume.read_range(file.place, file.size_bytes - END_BYTES, file.size_bytes - 1) or b""
    with open(path, "wb") as copy:
        copy.truncate(file.size_bytes)
        copy.write(beginning)
        copy.seek(file.size_bytes - END_BYTES)
        copy.write(end)


def _build_request(clone: str, directory: str, pattern: str) -> dict[str, Any]:
    return {"clone": clone, "directory": directory, "pattern": pattern, "resume_from": None}


def _parse(answer: dict[str, Any], volume: str) -> CheckpointChoice:
    found = answer["found"] or {"path": None, "step": None}
    skipped = tuple((_place(each["path"], volume), str(each["why"])) for each in answer["skipped"])
    place = None if found["path"] is None else _place(found["path"], volume)
    return CheckpointChoice(place, found["step"], skipped)


def _place(path: str, volume: str) -> str:
    return os.path.relpath(path, volume)
