"""What holds for all tests."""

from __future__ import annotations

import signal

# Whoever starts the tests in the background of a script has Ctrl+C ignored, and so would every command tested here.
signal.signal(signal.SIGINT, signal.default_int_handler)
