"""Copies of runs' logs on this machine, so that a log can be read when its pod is stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from podtasks.doors.project_files import ProjectFiles, write_atomically
from podtasks.pure.run import Run


@dataclass(frozen=True)
class RunCopy:
    """What this machine has of a run. `exit_code` is None where its end was not seen here."""

    run_id: str
    log_path: Path
    exit_code: int | None
    reason: str


def begin(files: ProjectFiles, run: Run) -> Path:
    """Make sure there is a file for the copy of this run's log, and return its path."""
    folder = files.run_folder(run.run_id)
    log_path = folder / "output.log"
    log_path.touch()
    _write_record(folder, run, None, "")
    return log_path


def finish(files: ProjectFiles, run: Run, exit_code: int | None, reason: str) -> None:
    """Note how the run ended."""
    _write_record(files.run_folder(run.run_id), run, exit_code, reason)


def find(files: ProjectFiles, run_id: str | None) -> RunCopy | None:
    """Return the copy of a run, of the one followed last without an id; None where there is none."""
    folder = files.state_folder / "runs" / run_id if run_id else files.newest_run_folder()
    if folder is None or not (folder / "output.log").is_file():
        return None
    try:
        record = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError):
        record = {}
    return RunCopy(folder.name, folder / "output.log", record.get("exit_code"), record.get("reason") or "")


def _write_record(folder: Path, run: Run, exit_code: int | None, reason: str) -> None:
    record = {"run_id": run.run_id, "run_dir": run.run_dir, "exit_code": exit_code, "reason": reason}
    write_atomically(folder / "run.json", json.dumps(record, indent=2).encode())
