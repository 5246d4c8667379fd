"""`podtasks`: the same tasks as `inv`, also where there is no tasks.py yet (`podtasks init`)."""

from __future__ import annotations

from invoke.program import Program

from podtasks import __version__, ns

program = Program(name="podtasks", binary="podtasks", namespace=ns, version=__version__)


def main() -> None:
    """Run the task that the command line names."""
    program.run()


if __name__ == "__main__":
    main()
