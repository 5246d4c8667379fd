#!/usr/bin/env python3
"""Work on the pod as the training does: in the clone, with its environment and its venv.

    python3 enter.py                       prepare it
    python3 enter.py TICKET [SHELL LINE]   become a shell, or run one line in it

The first is a program like the others. In: {"clone", "venv", "env": the project's variables}. Out: {"ticket": the file
that holds them for the second, so that no value is on a command line, "guard": its status, null without one}. The
second has the terminal, or the caller's input and output.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import answer
import environment
import training_environ
from pod_environ import container_directory, volume_directory
from status import guard_status

FORGOTTEN_S = 3600.0
SAFE_TERMINAL = "xterm-256color"


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    answer.give(
        {
            "ticket": write_ticket({name: request.get(name) for name in ("clone", "venv", "env")}),
            "guard": guard_status(),
        }
    )


def write_ticket(wish: dict[str, Any]) -> str:
    """Write what the second call needs to a file that only its owner can read; return its path."""
    directory = container_directory()
    for path in glob.glob(os.path.join(glob.escape(directory), "enter-*")):
        with contextlib.suppress(OSError):
            if os.stat(path).st_mtime < time.time() - FORGOTTEN_S:
                os.unlink(path)
    descriptor, path = tempfile.mkstemp(prefix="enter-", dir=directory)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(wish, file)
    return path


def enter(ticket: str, line: str | None) -> None:
    """Become the shell."""
    with open(ticket, encoding="utf-8") as file:
        wish = json.load(file)
    os.unlink(ticket)
    clone = str(wish["clone"])
    environ = {**training_environ.build(wish["env"] or {}), **own_variables()}
    training_environ.put_first(environ, environment.find_python(clone, wish["venv"] == "volume"))
    change_directory(clone)
    environ["PWD"] = os.getcwd()
    # What Python ignores, the shell and all that it starts would ignore too: `yes | head` would complain.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    os.execvpe("bash", ["bash", *shell_words(line)], environ)


def own_variables() -> dict[str, str]:
    """Return what belongs to this connection: the terminal and where it comes from."""
    ours = {name: value for name, value in os.environ.items() if name == "TERM" or name.startswith("SSH_")}
    if "TERM" in ours and subprocess.run(["infocmp"], capture_output=True, check=False).returncode != 0:
        ours["TERM"] = SAFE_TERMINAL
    return ours


def change_directory(clone: str) -> None:
    """Go to the clone, or to the volume's top where nothing was launched yet."""
    try:
        os.chdir(clone)
    except OSError:
        os.chdir(volume_directory())
        print(f"there is no {clone} yet: this is {volume_directory()}", file=sys.stderr, flush=True)


def shell_words(line: str | None) -> list[str]:
    """Return bash's arguments."""
    if line is not None:
        return ["-c", line]
    if not sys.stdin.isatty():
        return ["-s"]
    return ["--rcfile", os.path.join(os.path.dirname(os.path.abspath(__file__)), "shell_rc.sh"), "-i"]


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(answer.run(main))
    enter(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None)
