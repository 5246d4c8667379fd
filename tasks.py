"""The tasks of this project: `inv --list` shows them.

A training repository's own tasks.py needs the import of `ns` alone; the rest works on podtasks itself.
"""

from __future__ import annotations

import os
import shlex
import sys

from invoke.context import Context
from invoke.tasks import task

from podtasks import ns

__all__ = ["ns"]


@task(help={"select": "what to run, as pytest takes it: a path, or -k WORDS"}, auto_shortflags=False)
def test(_: Context, select: str = "") -> None:
    """Run all tests; they need no account and no network beyond the package registry."""
    # Most of a test's time is waiting, so that three keep two processors busy.
    replace_by("pytest", "-n", "3", "--dist", "worksteal", *shlex.split(select))


@task(auto_shortflags=False)
def lint(_: Context) -> None:
    """Check the style of the code."""
    replace_by("ruff", "check", ".")


@task(auto_shortflags=False)
def types(_: Context) -> None:
    """Check the types."""
    replace_by("mypy")


def replace_by(module: str, *words: str) -> None:
    """Go on as this program, so that its output and its exit code are this command's."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *words])


for each in (test, lint, types):
    ns.add_task(each)
