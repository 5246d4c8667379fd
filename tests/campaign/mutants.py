"""Broken copies of podtasks, which the campaign must tell from the whole one within fifty seeds.

`python -m tests.campaign.mutants [NAME ...]` says in which seed each of them is caught.
"""

from __future__ import annotations

import functools
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.campaign.report import Result
from tests.campaign.runner import Campaign, hear_signals, tell_briefly
from tests.end_to_end.project import ROOT

WITHIN = 50
FOLDERS = ("podtasks", "remote")


@dataclass(frozen=True)
class Edit:
    """A text in one file and what stands there in the mutant."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Mutant:
    """A way to break podtasks.

    Args:
        name: what is off.
        invariant: the number of what it violates.
        caught_in: the first of the seeds from 1 that catches it, as it was found; a test begins there.
        edits: how.
    """

    name: str
    invariant: int
    caught_in: int
    edits: tuple[Edit, ...]


MUTANTS = (
    Mutant(
        "the guard never ends the grace time",
        1,
        21,
        (
            Edit(
                "remote/guard_end.py",
                "    def on_grace(self) -> None:\n",
                "    def on_grace(self) -> None:\n        return\n",
            ),
        ),
    ),
    Mutant(
        "the guard does not see that the supervisor was killed",
        1,
        40,
        (
            Edit(
                "remote/guard_end.py",
                'if self.lease is not None and self.lease["kind"] == "run":\n            say(',
                'if self.lease is not None and self.lease["kind"] == "run":\n            return\n            say(',
            ),
        ),
    ),
    Mutant(
        "the pod takes a second launch beside a run",
        1,
        18,
        (
            Edit(
                "remote/guard.py",
                "        if self.lease is not None or self.stopping is not None:\n            return self.refusal()\n",
                "        if self.stopping is not None:\n            return self.refusal()\n",
            ),
            Edit("remote/train_session.py", "    pid = supervisor_pid()\n    if", "    return\n    if"),
            Edit("remote/train_session.py", 'NAME = "train"\n', 'NAME = f"train-{os.getpid()}"\n'),
        ),
    ),
    Mutant(
        "a checkpoint that was cut short counts as whole",
        2,
        32,
        (
            Edit(
                "remote/checkpoint_files.py",
                "def why_not_whole(path: str) -> str | None:\n",
                "def why_not_whole(path: str) -> str | None:\n    return None\n",
            ),
        ),
    ),
    Mutant(
        "a stream that breaks goes on one byte too late",
        3,
        3,
        (Edit("podtasks/flows/follow.py", "self._offset += len(log)", "self._offset += len(log) + 1"),),
    ),
    Mutant(
        ".runpod.env is written in place",
        4,
        2,
        (
            Edit(
                "podtasks/doors/project_files.py",
                "    path.parent.mkdir(parents=True, exist_ok=True)\n    descriptor",
                "    path.write_bytes(data)\n    return\n    descriptor",
            ),
        ),
    ),
    Mutant(
        "the API key goes to the pod",
        4,
        2,
        (
            Edit(
                "podtasks/flows/rent.py",
                "LAUNCH_MARK: nonce}",
                'LAUNCH_MARK: nonce, "KEY": cloud.api._api_key.reveal()}',
            ),
        ),
    ),
    Mutant(
        "errors are not caught",
        5,
        2,
        (
            Edit(
                "podtasks/tasks/entry.py",
                "raise Exit(_error_text(error), code=error.exit_code) from None\n    except KeyboardInterrupt",
                "raise\n    except KeyboardInterrupt",
            ),
        ),
    ),
)


def make(mutant: Mutant, folder: Path) -> Path:
    """Copy podtasks to a folder, break it there, and return the folder."""
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in mutant.edits:
        path = folder / edit.path
        text = path.read_text()
        if text.count(edit.old) != 1:
            raise AssertionError(
                f"mend the mutant {mutant.name!r}: {edit.path} has {edit.old!r} {text.count(edit.old)} times"
            )
        path.write_text(text.replace(edit.old, edit.new))
    return folder


def hunt(
    mutant: Mutant, seeds: Iterable[int], jobs: int, told: Callable[[Result], None] = lambda _: None
) -> Result | None:
    """Play seeds with a mutant until its invariant is violated; return that seed's result, None when none did."""
    with tempfile.TemporaryDirectory(prefix="campaign-mutant-") as folder:
        code = make(mutant, Path(folder))
        over = functools.partial(is_caught, mutant)
        results = Campaign(seeds, jobs=jobs, code=code, told=told, is_over=over).run()
    return next((result for result in results if is_caught(mutant, result)), None)


def is_caught(mutant: Mutant, result: Result) -> bool:
    """Return whether a result shows what is wrong with a mutant."""
    return any(violation.invariant == mutant.invariant for violation in result.violations)


def main(names: Sequence[str]) -> int:
    """Hunt all mutants, or those whose names hold one of these texts."""
    hear_signals()
    escaped = 0
    for mutant in MUTANTS:
        if names and not any(name in mutant.name for name in names):
            continue
        result = hunt(mutant, range(1, WITHIN + 1), 4, tell_briefly)
        escaped += result is None
        told = "ESCAPED" if result is None else f"caught in seed {result.plan.seed}"
        print(f"{mutant.name}: {told}", flush=True)
        for violation in result.violations if result else ():
            print(f"    {violation.invariant}: {violation.text[:200]}", flush=True)
    return 1 if escaped else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
