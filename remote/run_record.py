#!/usr/bin/env python3
"""The record of a run: $PODTASKS_VOLUME/runs/<run_id>/run.json, and the end of the run's log.

    python3 run_record.py finish RUN_DIR --exit-code N --reason TEXT [--group PGID]

The record is written to a new file that then takes the old one's place, so that nobody reads half of one.
`finish` may be called again, by the guard after a supervisor that was killed at any point: the footer is
written once.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import failure
import notifications
import notify_text
import progress
import run_footer
import time_limit
import training_secrets
from sound_record import make_sound

POD_LOST = failure.POD_LOST
GROUP_TIMEOUT_S = 10.0
EXPLAIN_S = 5.0
LAST_STEP_S = 3.0


def create(run_dir: str, record: dict[str, Any]) -> None:
    """Make the folder of a run with its first record, and note it as the newest run."""
    os.makedirs(run_dir, exist_ok=True)
    write(run_dir, record)
    runs, run_id = os.path.split(os.path.abspath(run_dir))
    _replace(os.path.join(runs, "newest"), os.fsencode(run_id) + b"\n")


def read(run_dir: str) -> dict[str, Any]:
    """Return the record of a run; of a file that cannot be read, what its place tells."""
    try:
        with open(os.path.join(run_dir, "run.json"), encoding="utf-8") as file:
            record = json.load(file)
        if isinstance(record, dict):
            record = make_sound(record)
            return {**record, "run_id": _run_id(run_dir), "log": record.get("log") or _common_log(run_dir)}
    except (OSError, ValueError, RecursionError) as error:
        print(f"{run_dir}/run.json cannot be read: {error}", file=sys.stderr)
    return {"run_id": _run_id(run_dir), "log": _common_log(run_dir), "log_start": None}


def write(run_dir: str, record: dict[str, Any], is_wanted: Callable[[], bool] = lambda: True) -> None:
    """Write the record of a run as a whole, unless it is wanted no more by then.

    Raise OSError when the volume does not take it.
    """
    _replace(os.path.join(run_dir, "run.json"), json.dumps(record, indent=1).encode() + b"\n", is_wanted)


def update(run_dir: str, **fields: object) -> dict[str, Any]:
    """Change some fields of a run's record and return all of it."""
    record = {**read(run_dir), **fields}
    write(run_dir, record)
    return record


def newest(volume: str) -> str | None:
    """Return the folder of the run launched last, None when there is none."""
    runs = os.path.join(volume, "runs")
    # Not blocking, and no way out of the folder: what stands there may be a pipe, or anybody's words.
    with contextlib.suppress(OSError, ValueError):
        with open(os.open(os.path.join(runs, "newest"), os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            name = os.fsdecode(file.read(1 << 12).rstrip(b"\n"))
        run_dir = os.path.join(runs, name)
        if os.path.basename(os.path.abspath(run_dir)) == name and os.path.isfile(os.path.join(run_dir, "run.json")):
            return run_dir
    return _newest_by_time(runs)


def _run_id(run_dir: str) -> str:
    return os.path.basename(os.path.abspath(run_dir))


def _common_log(run_dir: str) -> str:
    volume = os.path.dirname(os.path.dirname(os.path.abspath(run_dir)))
    return os.path.join(volume, "logs", "current.log")


def has_ended(record: dict[str, Any]) -> bool:
    """Say whether the record is complete."""
    return record.get("ended_at") is not None


def finish(run_dir: str, exit_code: int | None, reason: str) -> dict[str, Any]:
    """End a run: what went wrong, footer in the log, its slice as output.log, the record complete.

    Return the record.

    An end that was recorded before stands, except for "pod lost", which is a guess. A volume that takes
    nothing more costs the footer or the copy, not the rest.
    """
    training_secrets.forget(os.path.basename(os.path.abspath(run_dir)))
    record = read(run_dir)
    if has_ended(record) and record.get("reason") != POD_LOST:
        if not os.path.exists(os.path.join(run_dir, "output.log")):  # whoever wrote the end was killed right then
            copy_slice(run_dir, record)
        return record
    if record.get("exit_code") is None or record.get("reason") == POD_LOST:
        record.update(exit_code=exit_code, reason=reason)
        record.update(failure=_explain(record), last_step=_find_last_step(record))
    with _noting(f"the footer of {record['log']} could not be written"):
        _write_footer(run_dir, record)
    record.update(log_end=_size(record["log"]), ended_at=time.time())
    with _noting(f"the record of {run_dir} could not be written"):
        write(run_dir, record)
    copy_slice(run_dir, record)
    return record


def finish_and_tell(run_dir: str, exit_code: int | None, reason: str) -> None:
    """End a run as `finish` does, then tell whoever is to be notified, which fails nothing and takes 12 s at most."""
    record = finish(run_dir, exit_code, reason)
    try:
        event = notify_text.event_of(record)
        process = notifications.start(event, run_dir)
        told = None if process is None else notifications.finish(event, process)
        if told is not None:
            note_told(run_dir, told)
    except Exception:
        traceback.print_exc()


def note_told(run_dir: str, told: dict[str, Any]) -> None:
    """Note on standard error and on record what came of a notification."""
    print(
        f"notify: {told['event']}: {'done' if told['ok'] else 'failed'}: {told['detail']}", file=sys.stderr, flush=True
    )
    with _noting(f"the record of {run_dir} could not be written"):
        update(run_dir, notified=[*(read(run_dir).get("notified") or []), told])


def finish_lost(volume: str) -> str | None:
    """Complete the record of the newest run if it has no end; return its id.

    To be called when no guard holds that run: its pod went away under it. Nothing is added to the log.
    """
    run_dir = newest(volume)
    record = None if run_dir is None else read(run_dir)
    if run_dir is None or record is None or has_ended(record):
        return None
    try:
        ended_at = os.stat(record["log"]).st_mtime
    except OSError:
        ended_at = time.time()
    record.update(log_end=_size(record["log"]), ended_at=ended_at)
    if record.get("exit_code") is None:
        # One that was asked to end, say by inv stop, has ended for that reason, whatever became of the pod then.
        record.update(exit_code=None, reason=record.get("ending") or POD_LOST)
        record.update(failure=_explain(record), last_step=_find_last_step(record))
    with _noting(f"the record of {run_dir} could not be written"):
        write(run_dir, record)
    copy_slice(run_dir, record)
    return str(record["run_id"])


def copy_slice(run_dir: str, record: dict[str, Any]) -> None:
    """Copy this run's part of the log to output.log in its folder, as far as the volume takes it."""
    start, end = record.get("log_start"), record.get("log_end")
    if start is None or end is None:
        return
    target = os.path.join(run_dir, "output.log")
    try:
        with open(record["log"], "rb") as log, open(f"{target}.new", "wb") as copy:
            _copy(log, copy, start, end)
        os.replace(f"{target}.new", target)
    except OSError as error:
        print(f"{target} could not be written: {error}", file=sys.stderr)
        with contextlib.suppress(OSError):
            os.unlink(f"{target}.new")


def append(log: str, text: bytes) -> None:
    """Append to the log in one write, beginning on a fresh line."""
    descriptor = os.open(log, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        fresh = size == 0 or os.pread(descriptor, 1, size - 1) == b"\n"
        write_all(descriptor, text if fresh else b"\n" + text)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def kill_group(pgid: int, timeout_s: float = GROUP_TIMEOUT_S) -> bool:
    """Kill a process group and what is left of its session; say whether all of it went in time."""
    deadline = time.monotonic() + timeout_s
    while True:
        members = group_members(pgid)
        for pid in members:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not members:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def group_members(pgid: int) -> list[int]:
    """Return the live processes of a process group or of the session of the same number."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in pids if pid > 1 and _belongs(pid, pgid)]


def _belongs(pid: int, pgid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            state, _, group, session = file.read().rpartition(")")[2].split()[:4]
    except (OSError, ValueError):
        return False
    return state not in "ZX" and str(pgid) in (group, session)


def _explain(record: dict[str, Any]) -> dict[str, Any] | None:
    """Return what went wrong, without the log where that cannot be read in a few seconds.

    That it cannot be told must neither stop nor fail the end of a run.
    """
    for known in (record, {**record, "log_start": None}):
        try:
            with time_limit.limit(EXPLAIN_S):
                return failure.explain(known)
        except Exception:
            traceback.print_exc()
    return None


def _find_last_step(record: dict[str, Any]) -> int | None:
    """Return how far the training came, None where nothing tells; as _explain, it holds up no end."""
    try:
        with time_limit.limit(LAST_STEP_S):
            step = (progress.find_progress(record) or {}).get("step")
            return step if isinstance(step, int) else None
    except Exception:
        traceback.print_exc()
        return None


def _write_footer(run_dir: str, record: dict[str, Any]) -> None:
    text, start = run_footer.render(record), record.get("footer_start")
    if start is not None and _has_footer(record["log"], start, text):
        return
    record["footer_start"] = _size(record["log"]) or 0
    # The intent is on record first: whoever comes after a kill at this point knows what to look for.
    with _noting(f"the record of {run_dir} could not be written"):
        write(run_dir, record)
    try:
        append(record["log"], text)
    except OSError:
        if record.get("failure"):  # the end itself is short, and may still fit
            append(record["log"], run_footer.render_end(record))
        raise


@contextlib.contextmanager
def _noting(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        print(f"{what}: {error}", file=sys.stderr)


def _size(path: str) -> int | None:
    try:
        return os.path.getsize(path)
    except OSError:
        return None


def _has_footer(log: str, start: int, text: bytes) -> bool:
    with open(log, "rb") as file:
        file.seek(start)
        return file.read(len(text) + 1).lstrip(b"\n").startswith(text)


def _copy(source: BinaryIO, target: BinaryIO, start: int, end: int) -> None:
    source.seek(start)
    left = end - start
    while left > 0:
        block = source.read(min(left, 1 << 20))
        if not block:
            return
        target.write(block)
        left -= len(block)


def _replace(path: str, data: bytes, is_wanted: Callable[[], bool] = lambda: True) -> None:
    new = f"{path}.{threading.get_native_id()}.new"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if is_wanted():
            os.replace(new, path)
        else:
            os.unlink(new)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise


def _newest_by_time(runs: str) -> str | None:
    try:
        folders = [entry.path for entry in os.scandir(runs) if entry.is_dir() and entry.name != "saved"]
    except OSError:
        return None
    known = [folder for folder in folders if os.path.isfile(os.path.join(folder, "run.json"))]
    return max(known, key=lambda folder: read(folder).get("launched_at") or 0, default=None)


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Finish the record of a run.")
    parser.add_argument("command", choices=["finish"])
    parser.add_argument("run_dir")
    parser.add_argument("--exit-code", type=int, required=True)
    parser.add_argument("--reason", required=True)
    parser.add_argument("--group", type=int)
    arguments = parser.parse_args()
    if arguments.group is not None and not kill_group(arguments.group):
        print(f"process group {arguments.group} does not die", file=sys.stderr)
    finish_and_tell(arguments.run_dir, arguments.exit_code, arguments.reason)
    return 0


if __name__ == "__main__":
    sys.exit(main())
