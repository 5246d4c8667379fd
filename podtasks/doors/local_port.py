"""Ports of this machine's loopback: taking one, finding out who has it, asking what answers there."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from podtasks.pure.errors import UsageError

LOOPBACK = "127.0.0.1"
PORTS_TO_TRY = 100
LISTENING = "0A"  # Linux: the state TCP_LISTEN in /proc/net/tcp
UNKNOWN_OWNER = "another program"
MOST_TOLD = 60
_INTERPRETER = re.compile(r"(?:python|pypy)[\d.]*")

Listener = socket.socket


class PortTakenError(Exception):
    """Another program listens on the port."""


def claim(port: int) -> Listener:
    """Return a socket that listens on a port of the loopback and nowhere else.

    Raises PortTakenError, UsageError for a port that this user may not have.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # Connections of an earlier tunnel linger for a minute; they are no reason to take another port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(port) from error
        raise UsageError(
            f"Port {port} cannot be used: {error.strerror}.", next_step="give another one with --port, or leave it out"
        ) from error
    return listener


def claim_from(port: int) -> Listener:
    """Return a socket that listens on the first free port from `port` upwards. Raises UsageError for none."""
    last = min(port + PORTS_TO_TRY, 65536) - 1
    for candidate in range(port, last + 1):
        with contextlib.suppress(PortTakenError):
            return claim(candidate)
    raise UsageError(f"No port from {port} to {last} is free on this machine.", next_step="name another with --port")


def port_of(listener: Listener) -> int:
    """Return the port that a socket listens on."""
    port: int = listener.getsockname()[1]
    return port


def find_owner(port: int, proc: Path = Path("/proc")) -> str:
    """Return the program that listens on a port, with its process id as far as this user may see it."""
    if (proc / "net/tcp").exists():
        return _find_in_proc(port, proc) or UNKNOWN_OWNER
    return _ask_lsof(port) or UNKNOWN_OWNER


def answers_http(port: int, timeout_s: float) -> bool:
    """Return whether something on this port of the loopback answers HTTP with a page."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{LOOPBACK}:{port}/", timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def _find_in_proc(port: int, proc: Path) -> str | None:
    """Linux: proc(5), /proc/net/tcp; a socket's number is among its owner's open files."""
    numbers = {number for name in ("tcp", "tcp6") for number in _listening_sockets(proc / "net" / name, port)}
    wanted = {f"socket:[{number}]" for number in numbers}
    for folder in proc.iterdir():
        if folder.name.isdigit() and _has_open(folder / "fd", wanted):
            return f"{_program_name(folder)} (process {folder.name})"
    return None


def _listening_sockets(table: Path, port: int) -> list[str]:
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    return [row[9] for row in rows if row[3] == LISTENING and int(row[1].rpartition(":")[2], 16) == port]


def _has_open(descriptors: Path, wanted: set[str]) -> bool:
    with contextlib.suppress(OSError):
        for descriptor in descriptors.iterdir():
            # A file may be closed while one looks.
            with contextlib.suppress(OSError):
                if os.readlink(descriptor) in wanted:
                    return True
    return False


def _program_name(folder: Path) -> str:
    with contextlib.suppress(OSError):
        words = (folder / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        if any(words):
            return shorten_command(words)
    try:
        return (folder / "comm").read_text(errors="replace").strip()
    except OSError:
        return UNKNOWN_OWNER


def shorten_command(words: Sequence[str]) -> str:
    """Return the program of a command line and what it is to do, without interpreter, folder and options."""
    if len(words) > 1 and _INTERPRETER.fullmatch(os.path.basename(words[0])) and not words[1].startswith("-"):
        words = words[1:]
    plain = itertools.takewhile(lambda word: not word.startswith("-"), words[1:2])
    return " ".join([os.path.basename(words[0]), *plain])[:MOST_TOLD]


def _ask_lsof(port: int) -> str | None:
    if shutil.which("lsof") is None:
        return None
    words = ["lsof", "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-Fpc"]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    # lsof(8), -F: each field on a line of its own, named by its first letter.
    fields = {line[:1]: line[1:] for line in reversed(done.stdout.decode(errors="replace").splitlines())}
    return f"{fields['c']} (process {fields['p']})" if {"c", "p"} <= set(fields) else None
