#!/usr/bin/env python3
"""Install programs that the image lacks.

In: {"programs": names of programs that are Debian packages of the same name}. Out: {"installed": those that were
missing}; refused when one cannot be installed.
"""

from __future__ import annotations

import sys
from typing import Any

import answer
import prepare


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    answer.give({"installed": prepare.install_missing([str(name) for name in request["programs"]])})


if __name__ == "__main__":
    sys.exit(answer.run(main))
