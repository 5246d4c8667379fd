"""The SSH host keys of the repository's server, as this machine knows them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from podtasks.pure.errors import CodeError

SYSTEM_FILE = Path("/etc/ssh/ssh_known_hosts")
# git-clone(1), "GIT URLS": ssh://[user@]host[:port]/path, or [user@]host:path with no slash before the colon.
_SSH_URL = re.compile(r"(?:git\+)?ssh(?:\+git)?://(?:[^/@]*@)?(\[[^]/]+\]|[^:/]+)(?::(\d+))?(?:/|$)", re.IGNORECASE)
_SCP_ADDRESS = re.compile(r"(?!\w+://)(?:[^/:@]*@)?(\[[^]/]+\]|[^:/]+):")


def known_host_lines(url: str) -> list[str]:
    """Return the known_hosts lines of the host at an SSH `url`, with its name in the clear; none for other URLs.

    Raises:
        CodeError: this machine does not know the host.
    """
    address = _ssh_address(url)
    if address is None:
        return []
    host, port = address
    name = host if port == 22 else f"[{host}]:{port}"
    home = Path.home() / ".ssh"
    files = (home / "known_hosts", home / "known_hosts2", SYSTEM_FILE)
    lines = [_with_name(line, name) for path in files if path.is_file() for line in _find(path, name)]
    if not lines:
        raise CodeError(
            f"This machine does not know the SSH host key of {name}, so the pod could not check it.",
            means="No pod was created.",
            next_step=f"{_greeting(url, host, port)} once here, then the same command again; or --code local",
        )
    return list(dict.fromkeys(lines))


def _ssh_address(url: str) -> tuple[str, int] | None:
    """Return host and port of an SSH URL; None for a URL of another kind or a path."""
    match = _SSH_URL.match(url) or _SCP_ADDRESS.match(url)
    if match is None or match[1].startswith("-"):
        return None
    port = match[2] if match.re is _SSH_URL else None
    return match[1].strip("[]").lower(), int(port or 22)


def _find(path: Path, name: str) -> list[str]:
    """Return the lines of a known_hosts file for a host, hashed ones and patterns too."""
    try:
        done = subprocess.run(
            ["ssh-keygen", "-F", name, "-f", str(path)], stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
    except FileNotFoundError as error:
        raise CodeError(
            "ssh-keygen is not installed, so the host key of the repository's server cannot be looked up.",
            means="No pod was created.",
            next_step="install OpenSSH's client, or use --code local",
        ) from error
    return [line for line in os.fsdecode(done.stdout).splitlines() if line and not line.startswith("#")]


def _with_name(line: str, name: str) -> str:
    """Return a known_hosts line for this one host: a hashed name or a list tells the pod of no other."""
    marker, rest = line.split(" ", 1) if line.startswith("@") else ("", line)
    return " ".join(filter(None, [marker, name, rest.split(" ", 1)[1]]))


def _greeting(url: str, host: str, port: int) -> str:
    user = re.search(r"(?:^|//)([^/:@]+)@", url)
    words = ["ssh -T", *([f"-p {port}"] if port != 22 else []), f"{user[1] if user else 'git'}@{host}"]
    return " ".join(words)
