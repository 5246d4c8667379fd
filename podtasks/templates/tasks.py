"""The tasks of this project: `inv --list` shows them."""

from podtasks import ns  # noqa: F401
