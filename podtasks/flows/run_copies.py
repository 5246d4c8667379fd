"""What this machine knows of runs: logs that were streamed or fetched, and records that were read.

`.podtasks/runs/<id>/` has `output.log` (what was streamed), `run.json` (how that ended) and `record.json` (the run's
own record, once it is final); `fetched/runs/<id>/` what `inv fetch` brought.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podtasks.doors.project_files import ProjectFiles, write_atomically
from podtasks.pure.run import Run
from podtasks.pure.run_ids import is_run_id
from podtasks.pure.run_record import parse_record

FETCHED = "fetched"
# What a record may hold of the project's secrets stays on the volume.
PRIVATE = ("script_env", "token", "notify")


@dataclass(frozen=True)
class RunCopy:
    """What can be read here of a run. `exit_code` is None where its end was not recorded or not seen here.

    `source` is where the log is from, `is_whole` whether it is all of it, `copied_at` when it was copied, seconds
    since 1970.
    """

    run_id: str
    source: str
    log: bytes
    exit_code: int | None
    reason: str
    is_whole: bool
    copied_at: float = 0.0


def begin(files: ProjectFiles, run: Run) -> Path:
    """Note that this run was launched or followed from here, and return the file for the copy of its log."""
    folder = files.run_folder(run.run_id)
    log_path = folder / "output.log"
    log_path.touch()
    _write_record(folder, run, None, "")
    return log_path


def finish(files: ProjectFiles, run: Run, exit_code: int | None, reason: str) -> None:
    """Note how the run ended."""
    _write_record(files.run_folder(run.run_id), run, exit_code, reason)


def remember_record(files: ProjectFiles, record: Mapping[str, Any]) -> None:
    """Keep the record of a run that has ended, so that it need not be read again."""
    run_id = str(record.get("run_id") or "")
    if is_run_id(run_id):
        public = {name: value for name, value in record.items() if name not in PRIVATE}
        write_atomically(files.run_folder(run_id) / "record.json", json.dumps(public).encode())


def read_records(files: ProjectFiles) -> dict[str, dict[str, Any]]:
    """Return what is known here of each run, by its id: its final record, else what was fetched or streamed."""
    found: dict[str, dict[str, Any]] = {}
    for path in _record_paths(files):
        record = _read_record(path)
        if record:
            found[path.parent.name] = {**record, "run_id": path.parent.name}
    return found


def find(files: ProjectFiles, run_id: str | None, volume_folder: Path | None) -> RunCopy | None:
    """Return a run that can be read here, the newest one without an id; None where there is none.

    `volume_folder` is the local cloud's volume, which has every run whole; None on RunPod.
    """
    if run_id and not is_run_id(run_id):
        return None
    return _find_on_volume(volume_folder, run_id) or _find_streamed(files, run_id) or _find_fetched(files, run_id)


def _record_paths(files: ProjectFiles) -> Iterator[Path]:
    """Yield the files with records, those that say more after those that say less."""
    yield from sorted((files.state_folder / "runs").glob("*/run.json"))
    yield from sorted((files.root / FETCHED / "runs").glob("*/run.json"))
    yield from sorted((files.state_folder / "runs").glob("*/record.json"))


def _find_on_volume(volume_folder: Path | None, run_id: str | None) -> RunCopy | None:
    if volume_folder is None:
        return None
    named = run_id or _read_text(volume_folder / "runs/newest").strip()
    if not is_run_id(named):
        return None
    folder = volume_folder / "runs" / named
    record = _read_record(folder / "run.json")
    log = _read_bytes(folder / "output.log") or _read_slice(volume_folder / "logs/current.log", record)
    if not record or log is None:
        return None
    code, reason = record.get("exit_code"), str(record.get("reason") or "")
    return RunCopy(folder.name, f"the volume, {folder}", log, code, reason, is_whole=True)


def _find_streamed(files: ProjectFiles, run_id: str | None) -> RunCopy | None:
    folder = files.state_folder / "runs" / run_id if run_id else files.newest_run_folder()
    log = _read_bytes(folder / "output.log") if folder else None
    if folder is None or log is None:
        return None
    record = {**_read_record(folder / "run.json"), **_read_record(folder / "record.json")}
    code = record.get("exit_code")
    return RunCopy(
        folder.name,
        f"what was streamed here, {folder / 'output.log'}",
        log,
        code,
        str(record.get("reason") or ""),
        # The stream's own note: the record alone would not say whether all of it came.
        is_whole=_read_record(folder / "run.json").get("exit_code") is not None,
        copied_at=(folder / "output.log").stat().st_mtime,
    )


def _find_fetched(files: ProjectFiles, run_id: str | None) -> RunCopy | None:
    """Return a run that `inv fetch` brought; a log of its own is made when a run has ended, so it is whole."""
    folders = (path.parent for path in (files.root / FETCHED / "runs").glob("*/output.log"))
    named = [folder for folder in folders if run_id in (None, folder.name)]
    folder = max(named, key=lambda folder: _read_record(folder / "run.json").get("launched_at") or 0, default=None)
    if folder is None:
        return None
    record = _read_record(folder / "run.json")
    log_path = folder / "output.log"
    return RunCopy(
        folder.name,
        f"what was fetched, {log_path}",
        _read_bytes(log_path) or b"",
        record.get("exit_code"),
        str(record.get("reason") or ""),
        is_whole=True,
        copied_at=log_path.stat().st_mtime,
    )


def _read_slice(path: Path, record: dict[str, Any]) -> bytes | None:
    data = _read_bytes(path)
    start = record.get("log_start")
    return None if data is None or start is None else data[start : record.get("log_end")]


def _read_record(path: Path) -> dict[str, Any]:
    return parse_record(_read_bytes(path)) or {}


def _read_text(path: Path) -> str:
    return (_read_bytes(path) or b"").decode(errors="replace")


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _write_record(folder: Path, run: Run, exit_code: int | None, reason: str) -> None:
    record = {"run_id": run.run_id, "run_dir": run.run_dir, "exit_code": exit_code, "reason": reason}
    write_atomically(folder / "run.json", json.dumps(record, indent=2).encode())
