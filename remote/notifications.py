"""The setting `notify` on the pod: kept for a run on the container disk, and called by notify.py.

The address of a webhook is all that is needed to post to it, so it is neither on the volume nor in a record,
an argument or a log.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, Any

from pod_environ import container_directory, read_pod_environ

LIMIT_S = 12.0  # how long a notification may hold up the end of a run


def keep(run_id: str, target: str | None) -> None:
    """Keep what is to be notified of a run, readable by its owner only; forget what was kept for earlier ones.

    Raise OSError when the disk does not take it.
    """
    path = _path()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    if target:
        _write(path, {"run_id": run_id, "target": target, "told": []})


def claim(run_id: str, event: str) -> str | None:
    """Return what is to be notified of this event; None where nothing is, or where it was done already.

    The event is noted as told first: whoever is killed from here on has told it at most once.
    """
    path = _path()
    try:
        with open(path, encoding="utf-8") as file:
            kept = json.load(file)
    except (OSError, ValueError):
        return None
    if kept["run_id"] != run_id or event in kept["told"]:
        return None
    _write(path, {**kept, "told": [*kept["told"], event]})
    return str(kept["target"])


def start(
    event: str, run_dir: str, key: str | None = None, record: dict[str, Any] | None = None
) -> subprocess.Popen[bytes] | None:
    """Start telling of an event in a process of its own, None where nothing is to be notified.

    An event that may come more than once has a `key` for each time, and the `record` to tell of.
    """
    if not os.path.exists(_path()):
        return None
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "notify.py")
    environ = {name: value for name, value in read_pod_environ().items() if name != "PODTASKS_HOST_KEY"}
    own = {name: value for name, value in os.environ.items() if name.startswith("PODTASKS_")}
    with contextlib.ExitStack() as stack:
        source: IO[bytes] | int = subprocess.DEVNULL
        if key is not None:
            source = stack.enter_context(tempfile.TemporaryFile())
            source.write(json.dumps(record).encode())
            source.seek(0)
        return subprocess.Popen(
            [sys.executable, program, event, run_dir, *([] if key is None else [key])],
            stdin=source,
            stdout=subprocess.PIPE,
            env={**environ, **own},
            cwd="/",
            start_new_session=True,
        )


def finish(event: str, process: subprocess.Popen[bytes], timeout_s: float = LIMIT_S) -> dict[str, Any] | None:
    """Return {"event", "ok", "detail", "at"}, None where there was nothing to tell; kill what takes longer."""
    try:
        output, _ = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    if process.returncode == 0 and not output.strip():
        return None
    with contextlib.suppress(ValueError):
        told: dict[str, Any] = json.loads(output)
        return told
    detail = f"it took longer than {timeout_s:g} s" if process.returncode < 0 else f"exit code {process.returncode}"
    return {"event": event, "ok": False, "detail": detail, "at": time.time()}


def _path() -> str:
    return os.path.join(container_directory(), "notify.json")


def _write(path: str, content: dict[str, Any]) -> None:
    new = f"{path}.{os.getpid()}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file)
    os.replace(new, path)
