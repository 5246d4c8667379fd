"""Find the checkpoint a run resumes from.

One JSON object on stdin: {"clone", "directory", "pattern", "resume_from": null or a path}. One JSON line on
stdout: {"found": {"path", "step"} or null, "skipped": [{"path", "why"}]}, or {"error", "detail"} with exit
code 20 when the checkpoint that was asked for is missing or not complete.
"""

from __future__ import annotations

import fnmatch
import json
import os
import sys
from typing import Any, Mapping

from checkpoints import find_newest, has_trainer_state, step_of, why_incomplete

EXIT_REFUSED = 20


class Refused(Exception):
    """The checkpoint that was asked for cannot be used; `detail` says more."""

    def __init__(self, error: str, detail: str = "") -> None:
        super().__init__(error)
        self.detail = detail


def find(request: Mapping[str, Any], volume: str) -> dict[str, Any]:
    """Given the request described above, return the answer. Raise Refused where `resume_from` is unusable."""
    directory = os.path.join(request["clone"], request["directory"])
    if request.get("resume_from"):
        path = _resume_from(request["resume_from"], [request["clone"], directory, volume], request["pattern"])
        return {"found": {"path": path, "step": step_of(path)}, "skipped": []}
    try:
        found, skipped = find_newest(directory, request["pattern"])
    except (OSError, ValueError) as error:
        raise Refused("The checkpoints on the pod cannot be listed.", str(error)) from None
    return {"found": found and found._asdict(), "skipped": [entry._asdict() for entry in skipped]}


def _resume_from(wanted: str, bases: list[str], pattern: str) -> str:
    candidates = [os.path.normpath(os.path.join(base, wanted)) for base in bases]
    path = next((path for path in candidates if os.path.lexists(path)), None)
    if path is None:
        raise Refused(f"There is no checkpoint {wanted!r} on the pod.", "Looked for " + ", ".join(candidates))
    if os.path.isdir(path) and not fnmatch.fnmatch(os.path.basename(path), os.path.basename(pattern)):
        inside, _ = find_newest(path, pattern)
        if inside:
            raise Refused(f"{path} is a folder of checkpoints.", f"The newest in it is {inside.path}.")
    folder = os.path.dirname(path)
    why = why_incomplete(path, any(has_trainer_state(entry.path) for entry in os.scandir(folder)))
    if why:
        raise Refused(f"The checkpoint {path} is not complete.", f"It {why}.")
    return path


def main() -> int:
    """Read the request, answer it. Return the exit code."""
    request = json.loads(sys.stdin.readline())
    try:
        answer = find(request, os.environ.get("PODTASKS_VOLUME", "/workspace"))
    except Refused as refusal:
        answer = {"error": str(refusal), "detail": refusal.detail}
    print(json.dumps(answer))
    return EXIT_REFUSED if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
