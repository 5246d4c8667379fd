#!/usr/bin/env python3
"""Find the checkpoint a run resumes from.

In: {"clone", "directory", "pattern", "resume_from": null or a path, "links": {name in the clone: folder on
the volume}, may be left out}. Out: {"found": {"path", "step"} or null, "skipped": [{"path", "why"}]}; refused
when the checkpoint that was asked for is missing or not complete.
"""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Mapping
from typing import Any

import answer
from answer import Refused
from checkpoints import find_newest, has_trainer_state, step_of, why_incomplete
from pod_environ import volume_directory


def find(request: Mapping[str, Any], volume: str) -> dict[str, Any]:
    """Given the request described above, return the answer. Raise Refused where `resume_from` is unusable."""
    directory = behind_links(request, volume)
    if request.get("resume_from"):
        path = resume_from(request["resume_from"], [request["clone"], directory, volume], request["pattern"])
        return {"found": {"path": path, "step": step_of(path)}, "skipped": []}
    try:
        found, skipped = find_newest(directory, request["pattern"])
    except (OSError, ValueError) as error:
        raise Refused("The checkpoints on the pod cannot be listed.", str(error)) from None
    return {"found": found and found._asdict(), "skipped": [entry._asdict() for entry in skipped]}


def behind_links(request: Mapping[str, Any], volume: str) -> str:
    """Return the output directory; where a link into the volume is still to be made, what it will lead to.

    A new clone beside old checkpoints would start fresh otherwise: the links are made at the launch.
    """
    clone = str(request["clone"])
    directory = os.path.normpath(os.path.join(clone, request["directory"]))
    for name, folder in (request.get("links") or {}).items():
        link = os.path.normpath(os.path.join(clone, name))
        if not os.path.lexists(link) and (directory + os.sep).startswith(link + os.sep):
            return os.path.normpath(os.path.join(volume, folder, os.path.relpath(directory, link)))
    return directory


def resume_from(wanted: str, bases: list[str], pattern: str) -> str:
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


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    answer.give(find(request, volume_directory()))


if __name__ == "__main__":
    sys.exit(answer.run(main))
