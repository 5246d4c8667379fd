"""tmux on the pod: the program called as this kit needs it."""

from __future__ import annotations

import os
import subprocess
import time

from answer import Refused

TIMEOUT_S = 20.0
ENDING_S = 3.0
ENDING_SERVER = (b"server exited unexpectedly", b"lost server", b"server exited")


def run(words: list[str]) -> subprocess.CompletedProcess[bytes]:
    """Run a tmux command. Raise Refused when there is no tmux."""
    passed_on = ("PATH", "HOME", "USER", "SHELL", "LANG", "TERM", "TMUX_TMPDIR")
    environ = {name: os.environ[name] for name in passed_on if name in os.environ}
    environ.setdefault("TERM", "xterm-256color")
    try:
        return subprocess.run(
            ["tmux", *words], stdin=subprocess.DEVNULL, capture_output=True, env=environ, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError:
        raise Refused("tmux is not installed on the pod.", "prepare installs it where apt-get can") from None


def start_session(name: str, command: list[str]) -> int:
    """Run `command` in a new detached session; return its process id. Raise Refused with what tmux said if not."""
    words = [*_new_session_words(name, command), ";", "set-option", "-t", name, "destroy-unattached", "off"]
    done = run(words)
    deadline = time.monotonic() + ENDING_S
    while _met_ending_server(done) and time.monotonic() < deadline:
        time.sleep(0.02)
        done = run(words)
    if done.returncode != 0 and not done.stdout.strip().isdigit():
        raise Refused("tmux could not start the session.", done.stderr.decode(errors="replace").strip())
    return int(done.stdout)


def _met_ending_server(done: subprocess.CompletedProcess[bytes]) -> bool:
    """Say whether the last session of the server ended just then, and the server with it, before it began this one."""
    return done.returncode != 0 and not done.stdout.strip() and done.stderr.strip() in ENDING_SERVER


def has_session(name: str) -> bool:
    """Say whether there is a session of exactly this name."""
    return run(["has-session", "-t", exactly(name)]).returncode == 0


def end_session(name: str) -> None:
    """End a session; the program in it gets SIGHUP."""
    run(["kill-session", "-t", exactly(name)])


def exactly(name: str) -> str:
    """Return the target for a session's name as it stands: tmux would take the beginning of another for it."""
    return f"={name}"


def _new_session_words(name: str, command: list[str]) -> list[str]:
    """Return the tmux command that runs `command` in the detached session and prints its process id."""
    printing = ["-P", "-F", "#{pane_pid}"]
    size = ["-x", "200", "-y", "50"]
    return ["-u", "new-session", "-d", *printing, "-s", name, *size, "-c", "/", *map(_word, command)]


def _word(text: str) -> str:
    """Return a word of a command as tmux takes it: one that ends with a semicolon would end the command."""
    return f"{text[:-1]}\\;" if text.endswith(";") else text
