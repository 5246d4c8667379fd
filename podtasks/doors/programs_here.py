"""The pod's own programs, run on this machine over a copy of what is on the volume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from podtasks.doors.project_files import read_pod_programs
from podtasks.pure.pod_programs import parse_answer


def install(folder: Path) -> None:
    """Write the programs into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in read_pod_programs().items():
        (folder / name).write_bytes(content)


def run(folder: Path, program: str, request: Mapping[str, Any], volume: Path) -> dict[str, Any]:
    """Run a program to its end, with `volume` as its volume, and return its answer.

    Raises what the program's refusal stands for, RemoteCommandError.
    """
    done = subprocess.run(
        [sys.executable, str(folder / program)],
        input=json.dumps(request).encode() + b"\n",
        capture_output=True,
        check=False,
        env={**os.environ, "PODTASKS_VOLUME": str(volume), "PODTASKS_ENVIRON_FILE": os.devnull},
    )
    return parse_answer(program, done.returncode, done.stdout, done.stderr)


def notify(target: str, event: str, record: Mapping[str, Any], timeout_s: float) -> str:
    """Tell `target`, which the setting `notify` names, of an event of this run; return what came of it, in words."""
    with tempfile.TemporaryDirectory(prefix="podtasks-") as name:
        folder = Path(name)
        install(folder / "kit")
        # The folder's name is the run's id to the program, and comes from elsewhere: only its last part can count.
        run_dir = folder / "runs" / Path(str(record.get("run_id"))).name
        run_dir.mkdir(parents=True)
        (run_dir / "run.json").write_text(json.dumps(record))
        note: dict[str, Any] = {"run_id": record.get("run_id"), "target": target, "told": []}
        (folder / "notify.json").write_text(json.dumps(note))
        try:
            done = subprocess.run(
                [sys.executable, str(folder / "kit/notify.py"), event, str(run_dir)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=timeout_s,
                env={**os.environ, "PODTASKS_DIR": str(folder), "PODTASKS_ENVIRON_FILE": os.devnull},
            )
            told = json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            return f"it took longer than {timeout_s:g} s"
        except ValueError:
            return f"the program that tells it ended with {done.returncode}"
    return "told" if told.get("ok") else str(told.get("detail"))
