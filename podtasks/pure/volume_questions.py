"""Questions about files on the volume for a pod's shell: each command with the parser of its answer.

The paths are absolute, so none begins with a dash.
"""

from __future__ import annotations

from podtasks.pure.shell import command_line
from podtasks.pure.transfer import VolumeFile


def build_find_command(path: str) -> str:
    """Return the command that prints a file's size and time; it fails where there is no such file."""
    return command_line(["stat", "-L", "-c", "%s %Y %F", path])


def parse_found(place: str, stdout: bytes) -> VolumeFile | None:
    """Given what it printed, return the file, None where it is no regular one."""
    size, modified, kind = stdout.decode().strip().split(" ", 2)
    return VolumeFile(place, int(size), float(modified)) if kind.startswith("regular") else None


def build_read_command(path: str, first_byte: int, last_byte: int | None) -> str:
    """Return the command that prints the bytes of a file from one to another, both included."""
    tail = command_line(["tail", "-c", f"+{first_byte + 1}", path])
    if last_byte is None:
        return tail
    return f"{tail} | {command_line(['head', '-c', str(max(0, last_byte - first_byte + 1))])}"


def build_list_command(path: str) -> str:
    """Return the command that prints the folders in a folder, a NUL behind each."""
    return command_line(["find", path, "-mindepth", "1", "-maxdepth", "1", "-type", "d", "-printf", "%f\\0"])


def parse_folders(stdout: bytes) -> list[str]:
    """Given what it printed, return the folders' names."""
    return sorted(name.decode(errors="replace") for name in stdout.split(b"\0") if name)
