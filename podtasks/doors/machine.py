"""This machine: its programs, packages, disk, proxies and clock, as far as training needs them."""

from __future__ import annotations

import email.utils
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

OWN_PACKAGES = (
    *("boto3", "cryptography", "dotenv", "fabric", "invoke", "paramiko"),
    *("pydantic", "requests", "rich", "runpod", "yaml"),
)
EMULATOR_PACKAGES = ("graphql", "starlette", "uvicorn", "uv")
PROXY_VARIABLES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")


def python_version() -> tuple[int, int, int]:
    """Return the version of the Python that runs this."""
    return (sys.version_info.major, sys.version_info.minor, sys.version_info.micro)


def missing_packages() -> list[str]:
    """Return those of podtasks' packages that cannot be imported here; none of them is imported."""
    return [name for name in (*OWN_PACKAGES, *EMULATOR_PACKAGES) if importlib.util.find_spec(name) is None]


def find_program(name: str) -> str | None:
    """Return the path of a program, looked for where servers lie as well; None where there is none."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def why_no_sandbox() -> str | None:
    """Return why bubblewrap cannot sandbox here, None where it can. A sandbox is made, and ends at once."""
    program = find_program("bwrap")
    if program is None:
        return "bwrap is not installed"
    user = [] if os.getuid() == 0 else ["--unshare-user"]
    words = [program, *user, "--unshare-pid", "--unshare-uts", "--unshare-ipc", "--as-pid-1", "--hostname", "try"]
    words += ["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    try:
        tried = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if tried.returncode == 0:
        return None
    return " ".join(tried.stderr.split()) or f"bwrap ended with code {tried.returncode}"


def free_bytes(path: Path) -> int:
    """Return how many bytes fit on the disk that a path is on."""
    return shutil.disk_usage(path).free


def file_mode(path: Path) -> int | None:
    """Return a file's permission bits, None where there is no such file."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def proxy_variables() -> list[str]:
    """Return the names of the variables by which proxies are set here."""
    return [name for name in PROXY_VARIABLES if os.environ.get(name)]


def has_agent() -> bool:
    """Return whether an SSH agent's socket is there."""
    return os.path.exists(os.environ.get("SSH_AUTH_SOCK", ""))


def clock_skew_s(url: str, timeout_s: float) -> float | None:
    """Return by how many seconds this machine's clock is ahead of a server's, from its Date header.

    None where no server answers, or it tells no time. Any status will do: nothing is asked but the time.
    """
    request = urllib.request.Request(url, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            headers = answer.headers
    except urllib.error.HTTPError as error:
        headers = error.headers
    except (OSError, ValueError):
        return None
    told = email.utils.parsedate_tz(headers.get("Date", ""))
    return None if told is None else time.time() - email.utils.mktime_tz(told)
