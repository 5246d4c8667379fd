"""What the tests of the programs on the pod share."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remote.fake_pod import FakePod


@pytest.fixture
def pod() -> Iterator[FakePod]:
    """A pod with nothing running on it yet; its folder is short enough for unix sockets."""
    root = Path(tempfile.mkdtemp(prefix="pod-", dir="/tmp"))
    pod = FakePod(root)
    yield pod
    pod.close()
    shutil.rmtree(root, ignore_errors=True)
