#!/usr/bin/env python3
"""Read a small file of the volume.

In: {"place": path below the volume's top}. Out: {"data": its bytes in base64, null where there is no such file};
refused for a place outside of the volume and for a file above 64 MiB.
"""

from __future__ import annotations

import base64
import os
import sys
from typing import Any

import answer
from answer import Refused
from pod_environ import volume_directory
from volume_paths import Outside, find_path, is_inside

MOST_BYTES = 64 << 20


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    volume, place = volume_directory().rstrip("/") or "/", str(request["place"])
    try:
        path = find_path(volume, place)
    except Outside as error:
        raise Refused(f"{place} cannot be read.", str(error)) from None
    if os.path.isfile(path) and not is_inside(volume, path):
        raise Refused(f"{place} cannot be read.", "it is a link that leads out of the volume")
    answer.give({"data": read(path, place)})


def read(path: str, place: str) -> str | None:
    """Return a file's bytes in base64, None where there is none."""
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Refused(f"{place} is too large to be read whole.", f"over {MOST_BYTES >> 20} MiB")
    return base64.b64encode(data).decode("ascii")


if __name__ == "__main__":
    sys.exit(answer.run(main))
