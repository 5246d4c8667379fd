"""The program rsync, here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from podtasks.pure.errors import InstallationError

OLDEST = (3, 1)  # the first with --info and --outbuf
_LINE_END = re.compile(rb"[\r\n]")
_running: set[subprocess.Popen[bytes]] = set()


@dataclass(frozen=True)
class RsyncOutcome:
    """How an rsync ended."""

    exit_code: int
    stderr: bytes


def require_rsync() -> None:
    """Raise InstallationError unless this machine has an rsync that can do what is asked of it."""
    advice = "install rsync 3 (Debian and Ubuntu: apt-get install rsync; macOS: brew install rsync)"
    if shutil.which("rsync") is None:
        raise InstallationError("This machine has no program rsync.", means="Nothing was copied.", next_step=advice)
    words = ["rsync", "--version"]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, env=_environment(), check=False)
    first = done.stdout.decode(errors="replace").partition("\n")[0]
    found = re.match(r"rsync\s+version v?(\d+)\.(\d+)", first)
    if not found or (int(found[1]), int(found[2])) < OLDEST:
        raise InstallationError(
            f"The rsync of this machine is another one than rsync 3.1 or newer: {first.strip() or 'it tells nothing'}.",
            means="Nothing was copied.",
            next_step=advice,
        )


def run_rsync(words: Sequence[str], names: Iterable[str], on_line: Callable[[bytes], None]) -> RsyncOutcome:
    """Run rsync to its end, with `names` on its standard input; `on_line` hears each line of its output.

    It dies with this process, however that ends, and is ended when `on_line` raises.
    """
    with tempfile.TemporaryFile() as listed, tempfile.TemporaryFile() as complaints:
        listed.write(b"".join(os.fsencode(name) + b"\0" for name in names))
        listed.seek(0)
        # A session of its own: Ctrl+C would end ssh as well, which looks like a broken link.
        process = subprocess.Popen(
            [*_mortal(), *words],
            stdin=listed,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=_environment(),
            start_new_session=True,
        )
        _running.add(process)
        try:
            _hear(process, on_line)
            exit_code = process.wait()
        finally:
            _running.discard(process)
            if process.poll() is None:
                process.terminate()
                process.wait()
            if process.stdout is not None:
                process.stdout.close()
        complaints.seek(0)
        return RsyncOutcome(exit_code, complaints.read())


def end_all() -> None:
    """End the rsyncs that run, whichever threads wait for them; each keeps the file on its way in part."""
    for process in list(_running):
        process.terminate()


def _hear(process: subprocess.Popen[bytes], on_line: Callable[[bytes], None]) -> None:
    assert process.stdout is not None
    rest = b""
    while data := os.read(process.stdout.fileno(), 1 << 16):
        *lines, rest = _LINE_END.split(rest + data)
        for line in lines:
            on_line(line)


def _mortal() -> list[str]:
    """Return the words that make a program end with the thread that starts it, where the system can. Linux: prctl(2).

    Elsewhere it ends when it writes its next line of progress to nobody.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []


def _environment() -> dict[str, str]:
    """Return this process's environment without what would change rsync's ways, its messages in English."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSYNC_")}
    return {**kept, "LC_ALL": "C"}
