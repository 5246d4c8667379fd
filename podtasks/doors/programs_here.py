"""The pod's own programs, run on this machine over a copy of what is on the volume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
