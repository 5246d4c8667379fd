"""Delete from the volume what a plan names, each thing only if it still may go.

A folder is renamed to `.deleting-...` beside it first: killed at any point, no half of it looks like a checkpoint,
and the next clean takes the rest.
"""

from __future__ import annotations

import glob
import os
import shutil
from typing import Any

import run_record
from checkpoints import list_newest_first, why_incomplete
from output_directories import (
    ARCHIVE,
    DELETING,
    Volume,
    find_directories,
    has_complete,
    list_archives,
    list_checkpoints,
)
from volume_paths import PARTIAL

# The folders that Hugging Face's libraries make in HF_HOME and fill again by themselves. What else is there (the
# login token, accelerate's configuration) is the user's. Hugging Face docs: huggingface_hub, environment variables.
CACHE_FOLDERS = ("assets", "datasets", "diffusers", "evaluate", "hub", "metrics", "modules", "transformers", "xet")


def list_logs(volume: Volume, live_run: str | None) -> list[dict[str, Any]]:
    """Return the runs' own logs, the newest first, and parts of the common log that were set aside.

    `keep` says why one must stay in any case.
    """
    found = []
    for record_path in glob.glob(os.path.join(glob.escape(volume.absolute("runs")), "*", "run.json")):
        run_dir = os.path.dirname(record_path)
        path = os.path.relpath(os.path.join(run_dir, "output.log"), volume.top)
        size_bytes = _size(volume, path)
        if size_bytes is not None:
            record = run_record.read(run_dir)
            is_live = os.path.basename(run_dir) == live_run or not run_record.has_ended(record)
            found.append((_launched(record, record_path), path, size_bytes, "its run goes on" if is_live else None))
    runs = [{"path": p, "size_bytes": s, "keep": k, "is_part": False} for _, p, s, k in sorted(found, reverse=True)]
    return runs + _list_parts(volume, live_run)


def _list_parts(volume: Volume, live_run: str | None) -> list[dict[str, Any]]:
    names = glob.glob(os.path.join(glob.escape(volume.absolute("logs")), "current.log[.-]*"))
    paths = sorted(os.path.relpath(name, volume.top) for name in names)
    keep = "a run goes on" if live_run else None
    sizes = [(path, _size(volume, path)) for path in paths]
    return [{"path": p, "size_bytes": s, "keep": keep, "is_part": True} for p, s in sizes if s is not None]


def _size(volume: Volume, path: str) -> int | None:
    """Return a file's size; None where it is none, or lies behind a link."""
    absolute = volume.absolute(path)
    return os.path.getsize(absolute) if volume.is_straight(path) and os.path.isfile(absolute) else None


def _launched(record: dict[str, Any], path: str) -> float:
    """Return when a run was launched; of a broken record, when it was written."""
    launched_at = record.get("launched_at")
    if isinstance(launched_at, (int, float)):
        return float(launched_at)
    try:
        return os.stat(path).st_mtime
    except OSError:
        return 0.0


def is_leftover(volume: Volume, path: str, request: dict[str, Any], directories: list[str]) -> bool:
    """Say whether an interrupted upload left a folder, or a killed clean: renamed, and where cleaning renames."""
    if os.path.basename(path) == PARTIAL:
        return True
    if not os.path.basename(path).startswith(DELETING):
        return False
    areas = [*filter(None, map(volume.inside, request["roots"])), *directories]
    beside = {os.path.dirname(directory) for directory in directories} | {request.get("hf_home")}
    return os.path.dirname(path) in beside or any(path.startswith(area + os.sep) for area in areas)


class Cleaning:
    """One clean: its request, as storage.py takes it, and what came of it."""

    def __init__(self, volume: Volume, request: dict[str, Any], live_run: str | None) -> None:
        self._volume = volume
        self._request = request
        self._live_run = live_run
        self._pattern = request["pattern"]
        self._directories = find_directories(volume, request["roots"], request["exact"], self._pattern)
        self._checks = {
            "checkpoint": self._check_checkpoint,
            "archive": self._check_archive,
            "cache": self._check_cache,
            "log": self._check_log,
            "leftover": self._check_leftover,
        }

    def run(self) -> dict[str, Any]:
        """Delete what may go and return the answer."""
        deleted: list[str] = []
        left: list[dict[str, str]] = []
        failed: list[dict[str, str]] = []
        for item in self._request["items"]:
            path = item["path"]
            why = self._why_left(item["kind"], path)
            problem = None if why else self._delete(path)
            if why:
                left.append({"path": path, "why": why})
            elif problem:
                failed.append({"path": path, "why": problem})
            else:
                deleted.append(path)
        return {"deleted": deleted, "left": left, "failed": failed}

    def _why_left(self, kind: str, path: str) -> str | None:
        """Return why something that the plan names must not go, now that it is looked at again."""
        if not os.path.lexists(self._volume.absolute(path)):
            return "it is gone already"
        if not self._volume.is_straight(path):
            return "it is behind a link"
        return self._checks[kind](path)

    def _check_checkpoint(self, path: str) -> str | None:
        directory = self._directory_of(path)
        if directory is None:
            return "it is in no output directory"
        found = {entry.path: entry for entry in list_checkpoints(self._volume, directory, self._pattern)}.get(path)
        if found is None:
            return "it does not have a checkpoint's name"
        if found.keep:
            return found.keep
        newer = self._count_newer_complete(directory, path)
        if newer < self._request["keep"]:
            return "it is among the newest complete ones by now" if found.why is None else "no newer one is complete"
        return None

    def _count_newer_complete(self, directory: str, path: str) -> int:
        """Count the complete checkpoints that are newer; of an incomplete one, one such is enough."""
        count = 0
        entries = list_newest_first(self._volume.absolute(directory), self._pattern)
        states = any(os.path.isfile(os.path.join(entry.path, "trainer_state.json")) for entry in entries)
        is_whole = why_incomplete(self._volume.absolute(path), states) is None
        for entry in entries:
            if entry.path == self._volume.absolute(path) or count >= self._request["keep"]:
                break
            if why_incomplete(entry.path, states) is None:
                count += 1 if is_whole else self._request["keep"]
        return count

    def _directory_of(self, path: str) -> str | None:
        inside = [directory for directory in self._directories if path.startswith(directory + os.sep)]
        return max(inside, key=len, default=None)

    def _check_archive(self, path: str) -> str | None:
        parent, name = os.path.split(path)
        match = ARCHIVE.match(name)
        directory = match and (os.path.join(parent, match["base"]) if match["base"] else parent)
        if not directory or directory not in self._directories:
            return "it is no archive of an output directory"
        if self._volume.is_in_use(path):
            return "the run that goes on began from it"
        if not has_complete(self._volume, path, self._pattern):
            return None
        others = [directory, *(other for other in list_archives(self._volume, directory) if other != path)]
        if not any(has_complete(self._volume, other, self._pattern) for other in others):
            return "it holds the only complete checkpoint"
        return None

    def _check_cache(self, path: str) -> str | None:
        if os.path.dirname(path) != self._request.get("hf_home") or os.path.basename(path) not in CACHE_FOLDERS:
            return "it is no cache of Hugging Face"
        return "a run goes on" if self._live_run else None

    def _check_log(self, path: str) -> str | None:
        logs = list_logs(self._volume, self._live_run)
        found = next((log for log in logs if log["path"] == path), None)
        if found is None:
            return "it is no log of a run"
        newest = [log["path"] for log in logs if not log["is_part"]][: self._request["keep_logs"]]
        return found["keep"] or ("it is among the newest" if path in newest else None)

    def _check_leftover(self, path: str) -> str | None:
        if is_leftover(self._volume, path, self._request, self._directories):
            return None
        return "it is no leftover of a clean or an upload"

    def _delete(self, path: str) -> str | None:
        """Delete a file or a folder; return why it could not be."""
        absolute = self._volume.absolute(path)
        try:
            if not os.path.isdir(absolute):
                os.unlink(absolute)
                return None
            if not os.path.basename(path).startswith((DELETING, PARTIAL)):
                absolute = _set_aside(absolute)
            shutil.rmtree(absolute)
        except OSError as error:
            return f"{error.filename or path}: {error.strerror}"
        return None


def _set_aside(path: str) -> str:
    """Rename a folder to a name that stands for its deletion, and return the new path."""
    parent, name = os.path.split(path)
    base = os.path.join(parent, DELETING + name)
    target, number = base, 1
    while os.path.lexists(target):
        number += 1
        target = f"{base}-{number}"
    os.rename(path, target)
    return target
