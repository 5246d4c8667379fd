"""Where a path lies on the volume, links of the clone included."""

from __future__ import annotations

import pytest

from podtasks.pure.errors import UsageError
from podtasks.pure.settings import Settings
from podtasks.pure.volume_place import place_of, possible_places

SETTINGS = Settings(project="demo", links={"checkpoints": "checkpoints", "logs": "my/logs"})


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/workspace", ""),
        ("/workspace/", ""),
        ("/workspace/checkpoints/x", "checkpoints/x"),
        ("/workspace/demo/checkpoints/x/", "checkpoints/x"),
        ("/workspace/demo/logs", "my/logs"),
        ("/workspace/demo/logsX", "demo/logsX"),
        ("/workspace/demo/other/y", "demo/other/y"),
    ],
)
def test_absolute_paths_lead_through_the_links(path: str, place: str) -> None:
    assert place_of(path, SETTINGS) == place


@pytest.mark.parametrize("path", ["/etc/passwd", "/workspaceX", "/"])
def test_what_is_not_on_the_volume_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="not on the volume"):
        place_of(path, SETTINGS)


def test_relative_paths_may_be_meant_from_the_top_or_from_the_clone() -> None:
    assert possible_places("logs/x", SETTINGS) == ["logs/x", "my/logs/x"]
    assert possible_places("checkpoints", SETTINGS) == ["checkpoints"]
    assert possible_places("/workspace/runs", SETTINGS) == ["runs"]
    for path in ("", "../x", "a/../../b", "a\0b"):
        with pytest.raises(UsageError):
            possible_places(path, SETTINGS)
