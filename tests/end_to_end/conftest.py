"""A training repository of its own for each test, driven by `inv` as a user would."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.git_daemon import GitDaemon
from tests.end_to_end.project import TrainingProject


@pytest.fixture
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TrainingProject]:
    made = TrainingProject.make(tmp_path_factory.mktemp("e2e") / "my project")
    yield made
    made.end()


@pytest.fixture
def git_daemon(tmp_path: Path) -> Iterator[GitDaemon]:
    with GitDaemon(tmp_path) as daemon:
        yield daemon


@pytest.fixture
def root() -> Path:
    return Path(__file__).resolve().parents[2]
