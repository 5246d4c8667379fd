"""Which checkpoint a launch resumes from: asked of the pod, where the checkpoints lie."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from podtasks.doors.console import Reporter
from podtasks.flows.pod_programs import PodPrograms
from podtasks.pure.errors import UsageError
from podtasks.pure.run import Checkpoint, Launch


def find_checkpoint(programs: PodPrograms, launch: Launch, report: Reporter) -> Checkpoint | None:
    """Return the checkpoint that a run resumes from, None for a fresh start; say which, and what was skipped."""
    if launch.force_restart and launch.resume_from is None:
        report.step("checkpoints: ignored, as --force-restart asks")
        return None
    answer = _ask_checkpoint(programs, launch, launch.resume_from)
    if launch.at_least is not None and _is_older(answer.get("found"), launch.at_least):
        with contextlib.suppress(UsageError):  # it is not whole any more: then there is nothing better
            answer = _ask_checkpoint(programs, launch, launch.at_least.path)
    for skipped in answer.get("skipped") or []:
        report.note(f"incomplete checkpoint skipped: {skipped['path']}: {skipped['why']}")
    found = answer.get("found")
    if not found:
        report.step(f"checkpoint: none complete under {launch.checkpoint_dir}; starting fresh")
        return None
    report.step(f"checkpoint: resuming from {found['path']}")
    return Checkpoint(found["path"], found.get("step"))


def _ask_checkpoint(programs: PodPrograms, launch: Launch, resume_from: str | None) -> dict[str, Any]:
    return programs.run(
        "find_checkpoint.py",
        {
            "clone": launch.clone,
            "directory": launch.checkpoint_dir,
            "pattern": launch.checkpoint_pattern,
            "resume_from": resume_from,
            "links": dict(launch.links),
        },
    )


def _is_older(found: Mapping[str, Any] | None, at_least: Checkpoint) -> bool:
    """Return whether a checkpoint was found that an earlier run of this training left behind already, or none."""
    if not found:
        return True
    step = found.get("step")
    return step is not None and at_least.step is not None and int(step) < at_least.step
