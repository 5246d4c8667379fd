"""The OpenSSH client, for what Fabric cannot do: interactive terminals, and rsync's way to a pod."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from podtasks.doors.project_files import ProjectFiles, write_atomically
from podtasks.doors.ssh import SshLogin
from podtasks.pure.errors import InstallationError
from podtasks.pure.pod import SshEndpoint
from podtasks.pure.ssh_algorithms import OPENSSH_OPTIONS

# What a pod's known_hosts file calls the pod, so that a new port needs no new file. ssh_config(5), HostKeyAlias.
HOST_ALIAS = "podtasks-pod"
KEEP_ALIVE_S = 10
SILENT_KEEP_ALIVES = 3
CONNECT_TIMEOUT_S = 20


def write_known_hosts(files: ProjectFiles, pod_id: str, host_public_key: str) -> Path:
    """Write the known_hosts file that holds the host key of exactly this pod, and return its path."""
    safe_name = re.sub(r"[^A-Za-z0-9_-]", "_", pod_id) or "_"
    path = files.ensure_state_folder() / "known_hosts" / safe_name
    line = " ".join([HOST_ALIAS, *host_public_key.split()[:2]]) + "\n"
    if not path.is_file() or path.read_text(errors="replace") != line:
        write_atomically(path, line.encode())
    return path


def build_ssh_words(endpoint: SshEndpoint, login: SshLogin, known_hosts_path: Path, *, tty: bool) -> list[str]:
    """Return the words that run OpenSSH to this pod and no other machine; the destination comes behind them.

    `-F none` keeps ~/.ssh/config out: pods' addresses are reused, and what it says of algorithms, forwarding and
    programs to run is meant for other machines. The user's agent is never forwarded.
    """
    options = {
        **OPENSSH_OPTIONS,
        # Not -i, which looks for the file before it replaces %%, and then finds none.
        "IdentityFile": _quoted_path(login.key_path.expanduser()),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": _quoted_path(known_hosts_path),
        "GlobalKnownHostsFile": "/dev/null",
        "HostKeyAlias": HOST_ALIAS,
        "StrictHostKeyChecking": "yes",
        "CheckHostIP": "no",
        "VerifyHostKeyDNS": "no",
        "UpdateHostKeys": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "PermitLocalCommand": "no",
        # A pod knows the user's key and nothing else; whoever asks for a password is not to be answered.
        "PreferredAuthentications": "publickey",
        "PasswordAuthentication": "no",
        "KbdInteractiveAuthentication": "no",
        "ServerAliveInterval": str(KEEP_ALIVE_S),
        "ServerAliveCountMax": str(SILENT_KEEP_ALIVES),
        "ConnectTimeout": str(CONNECT_TIMEOUT_S),
        "LogLevel": "ERROR",
        "BatchMode": "no" if tty else "yes",
    }
    words = [find_program(), "-F", "none", "-p", str(endpoint.port)]
    for name, value in options.items():
        words += ["-o", f"{name}={value}"]
    return [*words, "-t"] if tty else words


def build_destination(endpoint: SshEndpoint, login: SshLogin) -> str:
    """Return whom to log in as, and where."""
    return f"{login.user}@{endpoint.host}"


def find_program() -> str:
    """Return the path of OpenSSH's client. Raises InstallationError when this machine has none."""
    path = shutil.which("ssh")
    if path is None:
        raise InstallationError(
            "This machine has no program ssh.",
            means="Nothing was done on the pod.",
            next_step="install OpenSSH's client (Debian and Ubuntu: apt-get install openssh-client)",
        )
    return path


def is_terminal() -> bool:
    """Return whether a person sits at both ends: standard input and standard output are a terminal."""
    return bool(sys.stdin and sys.stdin.isatty() and sys.stdout.isatty())


def become(words: Sequence[str]) -> NoReturn:
    """Replace this process by a program: terminal, signals and exit code are that program's from here on."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(words[0], list(words))


def _quoted_path(path: Path) -> str:
    """Return a path as one argument of an option. ssh_config(5): several files, tokens with %."""
    escaped = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
