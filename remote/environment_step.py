#!/usr/bin/env python3
"""Prepare the Python environment of a run, as a process the supervisor can watch and end.

    python3 environment_step.py RUN_DIR RESULT

Everything printed goes to the run's log. The Python to run is written to the file RESULT. The exit code is
0, or the one the failure carries.
"""

from __future__ import annotations

import os
import sys

import run_record
from environment import EnvironmentFailure, prepare_environment
from pod_environ import container_directory, volume_directory


def main() -> int:
    """Run the step."""
    run_dir, result = sys.argv[1:]
    record = run_record.read(run_dir)
    try:
        python = prepare_environment(
            record["clone"],
            record["requirements"],
            record["venv"],
            record["python"],
            record.get("volume") or volume_directory(),
            container_directory(),
            write_log,
        )
    except EnvironmentFailure as failure:
        write_log(f"podtasks: {failure}\n")
        return failure.exit_code
    with open(result, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(python)
    return 0


def write_log(text: str | bytes) -> None:
    """Write to the run's log, which is this process's standard output."""
    run_record.write_all(sys.stdout.fileno(), text if isinstance(text, bytes) else os.fsencode(text))


if __name__ == "__main__":
    sys.exit(main())
