"""What holds for all tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

# Whoever starts the tests in the background of a script, or with nohup, has Ctrl+C or hang-ups ignored, and so would
# every command tested here.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(autouse=True)
def hear_ctrl_c_again() -> Iterator[None]:
    """Undo what a task that ran in this process leaves: it hears no Ctrl+C after its end."""
    yield
    signal.signal(signal.SIGINT, signal.default_int_handler)
