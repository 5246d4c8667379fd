"""Command line: `python -m podtasks.emulator --state DIR [--port 0] [--idle-exit-s 1800]`."""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import sys
from pathlib import Path

from podtasks.emulator.files import read_json
from podtasks.emulator.layout import Layout

_ALREADY_RUNNING = 3


def main() -> int:
    """Run one emulator on a state directory.

    Returns:
        0 when it was told to end, 3 when another one already serves that directory.
    """
    options = _parse()
    layout = Layout(options.state)
    lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        other = (read_json(layout.server) or {}).get("pid", "unknown, it is just starting")
        print(f"an emulator already serves {layout.home} (pid {other})", file=sys.stderr)
        return _ALREADY_RUNNING
    layout.server.unlink(missing_ok=True)
    _serve(layout, options)
    return 0


def _serve(layout: Layout, options: argparse.Namespace) -> None:
    # Heavy imports come after the lock, so that a second start fails at once.
    from podtasks.emulator.processes import choose_sandbox
    from podtasks.emulator.server import serve

    sandbox = choose_sandbox(layout, options.sandbox)
    asyncio.run(serve(layout, sandbox, port=options.port, idle_exit_s=options.idle_exit_s))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m podtasks.emulator", description="A local RunPod.")
    parser.add_argument("--state", type=Path, required=True, help="directory for all state; made if missing")
    parser.add_argument("--port", type=int, default=0, help="0: the port of the last time, or any free one")
    parser.add_argument(
        "--idle-exit-s", type=float, default=1800.0, help="seconds without calls and pods before it ends"
    )
    parser.add_argument(
        "--sandbox",
        choices=("auto", "bubblewrap", "processes"),
        default="auto",
        help="how pods run; auto takes bubblewrap where it works",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
