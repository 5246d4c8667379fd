"""Whoever runs this, as this machine knows him."""

from __future__ import annotations

import getpass
import os
from pathlib import Path


def name_user() -> None:
    """Give this process's user a name and a home where the machine knows none, as in a container under any number.

    getpass, paramiko and pathlib fail without; children of this process get both.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = "/nonexistent"
