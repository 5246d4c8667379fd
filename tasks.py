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


@task(
    help={
        "seeds": "how many; without it one is played and told moment by moment",
        "seed": "the first one",
        "jobs": "how many worlds at once",
        "report": "a file for the report as JSON",
    },
    auto_shortflags=False,
)
def campaign(_: Context, seeds: int = 0, seed: int = 1, jobs: int = 4, report: str = "") -> None:
    """Strike at trainings on the local cloud in every way there is, and check what must hold; see docs/reliability.md.

    The same seed is the same faults at the same moments.
    """
    words = [
        f"--seed={seed}",
        f"--jobs={jobs}",
        *([f"--seeds={seeds}"] * bool(seeds)),
        *([f"--report={report}"] * bool(report)),
    ]
    replace_by("tests.campaign.runner", *words)


@task(auto_shortflags=False)
def lint(_: Context) -> None:
    """Check the style of the code."""
    replace_by("ruff", "check", ".")


@task(auto_shortflags=False)
def types(_: Context) -> None:
    """Check the types."""
    replace_by("mypy")


@task(help={"required": "fail where the advisories cannot be reached"}, auto_shortflags=False)
def audit(_: Context, required: bool = False) -> None:
    """Ask OSV's database of advisories about every package of requirements.lock."""
    sys.stdout.flush()
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), ".ci", "audit.py")
    os.execv(sys.executable, [sys.executable, program, *(["--required"] if required else [])])


def replace_by(module: str, *words: str) -> None:
    """Go on as this program, so that its output and its exit code are this command's."""
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *words])


for each in (test, campaign, lint, types, audit):
    ns.add_task(each)
