"""What can be seen of a running training from outside: files, argument lists, environments, listening sockets."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

LISTEN = "0A"  # proc(5): the state of a socket in /proc/net/tcp


class ArgumentLists:
    """Reads the argument lists of all processes of this machine, again and again, and keeps those with a mark."""

    def __init__(self, *marks: str) -> None:
        self.marks = [mark.encode() for mark in marks]
        self.found: set[bytes] = set()
        self.looks = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ArgumentLists:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.is_set():
            for line in read_of_all("cmdline").values():
                if any(mark in line for mark in self.marks):
                    self.found.add(line)
            self.looks += 1
            time.sleep(0.02)


def read_of_all(name: str, pids: Iterable[int] | None = None) -> dict[int, bytes]:
    """Return the file /proc/PID/`name` of all processes, or of some."""
    every = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    found = {}
    for pid in every if pids is None else pids:
        with contextlib.suppress(OSError):
            found[pid] = Path(f"/proc/{pid}/{name}").read_bytes()
    return found


def files_holding(folder: Path, *marks: str) -> list[str]:
    """Return the files below a folder whose content or name holds a mark, relative to the folder."""
    wanted = [mark.encode() for mark in marks]
    found = []
    for base, _, names in os.walk(folder):
        for name in names:
            path = Path(base, name)
            with contextlib.suppress(OSError):
                content = os.fsencode(name)
                content += path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                if any(mark in content for mark in wanted):
                    found.append(str(path.relative_to(folder)))
    return sorted(found)


def listening_addresses(pids: Iterable[int]) -> set[str]:
    """Return the addresses, without ports, on which some processes listen with TCP."""
    inodes = {inode for pid in pids for inode in _socket_inodes(pid)}
    return {
        address
        for table in ("tcp", "tcp6")
        for address, state, inode in _read_table(Path("/proc/net", table))
        if state == LISTEN and inode in inodes
    }


def _socket_inodes(pid: int) -> set[str]:
    found = set()
    with contextlib.suppress(OSError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = os.readlink(entry)
                if target.startswith("socket:["):
                    found.add(target[8:-1])
    return found


def _read_table(path: Path) -> list[tuple[str, str, str]]:
    rows = [line.split() for line in path.read_text().splitlines()[1:]]
    return [(_address(row[1].split(":")[0]), row[3], row[9]) for row in rows]


def _address(text: str) -> str:
    """Return an address from the words of the kernel's table, which are in this machine's byte order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = b"".join(struct.pack("=I", word) for word in words)
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)
