"""`podtasks`: the same tasks as `inv`, also where there is no tasks.py yet (`podtasks init`)."""

from __future__ import annotations

import os
import sys

from invoke.program import Program

from podtasks import __version__, ns

program = Program(name="podtasks", binary="podtasks", namespace=ns, version=__version__)


def main() -> None:
    """Run the task that the command line names."""
    try:
        program.run()
    except BrokenPipeError:
        # Whoever read the output has gone, say `head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
