"""What the tests of the flows share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fake_pod import FakePod
from tests.unit.fakes import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """An account that allows nothing undeclared, and in the end wants all that was declared."""
    world = World(tmp_path)
    yield world
    assert world.api.leftovers() == [], "declared, but never asked for"


@pytest.fixture
def pod(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakePod]:
    """A pod behind SSH that runs nothing undeclared, and in the end wants all that was declared."""
    pod = FakePod(world.clock)
    monkeypatch.setattr("podtasks.doors.ssh.PodShell", pod.make_shell)
    monkeypatch.setattr("podtasks.doors.ssh.read_banner", pod.greet)
    yield pod
    assert pod.leftovers() == [], "declared, but never run"
