#!/usr/bin/env python3
"""Delete files on the volume.

In: {}, followed on standard input by places (paths below the volume's top), each ended by a NUL. Out: {"deleted":
how many, "failed": [[place, why], ...]}. A link is deleted itself, not what it leads to. Folders that this leaves
empty go too, except those at the volume's top. A file that is not there counts as deleted.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import answer
from pod_environ import volume_directory
from volume_paths import Outside, find_path


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    del request
    volume = volume_directory().rstrip("/") or "/"
    places = [os.fsdecode(place) for place in sys.stdin.buffer.read().split(b"\0") if place]
    failed = []
    for place in places:
        why = delete(volume, place)
        if why is not None:
            failed.append([place, why])
    for folder in sorted({os.path.dirname(place) for place in places}, reverse=True):
        remove_empty(volume, folder)
    answer.give({"deleted": len(places) - len(failed), "failed": failed})


def delete(volume: str, place: str) -> str | None:
    """Delete one file and return why it could not be, None when it is gone."""
    try:
        os.unlink(find_path(volume, place))
    except FileNotFoundError:
        return None
    except Outside as error:
        return str(error)
    except OSError as error:
        return str(error.strerror)
    return None


def remove_empty(volume: str, folder: str) -> None:
    """Remove a folder that has become empty, and those above it that do so; never one at the volume's top."""
    while "/" in folder:
        try:
            os.rmdir(find_path(volume, folder))
        except (OSError, Outside):
            return
        folder = os.path.dirname(folder)


if __name__ == "__main__":
    sys.exit(answer.run(main))
