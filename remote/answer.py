"""How the programs that the client runs read their request and give their answer.

The request is one JSON object on the first line of standard input, the answer exactly one JSON line on
standard output; everything for people goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

EXIT_REFUSED = 20


class Refused(Exception):
    """What was asked for cannot be done, for a reason the user can act on."""

    def __init__(self, error: str, detail: str = "", **fields: object) -> None:
        super().__init__(error)
        self.answer = {"error": error, "detail": detail, **fields}


def read_request() -> dict[str, Any]:
    """Return the request. Raise Refused when the first line is no JSON object.

    The line is read byte by byte: what follows it on standard input belongs to the program.
    """
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            break
        line += byte
    try:
        request = json.loads(line)
    except ValueError as error:
        raise Refused("The request is no JSON object.", str(error)) from None
    if not isinstance(request, dict):
        raise Refused("The request is no JSON object.")
    return request


def give(answer: dict[str, Any]) -> None:
    """Write the answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def run(main: Callable[[dict[str, Any]], None]) -> int:
    """Run `main` with the request; turn a refusal into its answer. Return the exit code."""
    try:
        main(read_request())
    except Refused as refusal:
        give(refusal.answer)
        return EXIT_REFUSED
    return 0
