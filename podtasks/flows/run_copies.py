"""Logs that can be read with no pod running: copies of what was streamed here, and the local cloud's volume."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podtasks.doors.project_files import ProjectFiles, write_atomically
from podtasks.pure.run import Run


@dataclass(frozen=True)
class RunCopy:
    """What can be read here of a run. `exit_code` is None where its end was not recorded or not seen here.

    `source` is where the log is from, `is_whole` whether it is all of it.
    """

    run_id: str
    source: str
    log: bytes
    exit_code: int | None
    reason: str
    is_whole: bool


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


def find(files: ProjectFiles, run_id: str | None, volume_folder: Path | None) -> RunCopy | None:
    """Return a run that can be read here, the newest one without an id; None where there is none.

    `volume_folder` is the local cloud's volume, which has every run whole; None on RunPod.
    """
    if run_id and Path(run_id).name != run_id:
        return None
    return _find_on_volume(volume_folder, run_id) or _find_streamed(files, run_id)


def _find_on_volume(volume_folder: Path | None, run_id: str | None) -> RunCopy | None:
    if volume_folder is None:
        return None
    folder = volume_folder / "runs" / (run_id or _read_text(volume_folder / "runs/newest").strip() or "none")
    record = _read_record(folder)
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
    record = _read_record(folder)
    code = record.get("exit_code")
    source = f"what was streamed here, {folder / 'output.log'}"
    return RunCopy(folder.name, source, log, code, str(record.get("reason") or ""), is_whole=code is not None)


def _read_slice(path: Path, record: dict[str, Any]) -> bytes | None:
    data = _read_bytes(path)
    start = record.get("log_start")
    return None if data is None or start is None else data[start : record.get("log_end")]


def _read_record(folder: Path) -> dict[str, Any]:
    try:
        record = json.loads(_read_text(folder / "run.json"))
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}


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
