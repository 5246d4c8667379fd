"""Where a path, as the user or a configuration writes it, lies on the volume."""

from __future__ import annotations

import posixpath
from typing import TYPE_CHECKING

from podtasks.pure.errors import UsageError
from podtasks.pure.pod_path import clean_path, is_inside

if TYPE_CHECKING:
    from podtasks.pure.settings import Settings  # pydantic costs 0.2 s, so not at run time


def place_of(path: str, settings: Settings) -> str:
    """Return the place of an absolute path on the pod: below the volume's top, behind the clone's links.

    "" is the top itself. Raises UsageError for a path that is not on the volume.
    """
    cleaned = clean_path(path)
    if cleaned == clean_path(settings.mount_path):
        return ""
    if not is_inside(cleaned, settings.mount_path):
        raise UsageError(
            f"{path} is not on the volume, which is at {settings.mount_path} on the pod.",
            means="Nothing was fetched: everything else on a pod is wiped when it stops.",
            next_step=f"name a path below {settings.mount_path}",
        )
    return _behind_links(posixpath.relpath(cleaned, settings.mount_path), settings)


def possible_places(path: str, settings: Settings) -> list[str]:
    """Return where a path that the user wrote may lie on the volume: seen from its top, and from the clone.

    Raises UsageError for one that climbs or is not on the volume.
    """
    if not path or "\0" in path or ".." in path.split("/"):
        raise UsageError(
            f"{path!r} is no path on the volume: it must not be empty or climb with '..'.",
            means="Nothing was fetched.",
            next_step="name a file or folder, such as checkpoints/digits",
        )
    if path.startswith("/"):
        return [place_of(path, settings)]
    from_top = place_of(posixpath.join(settings.mount_path, path), settings)
    from_clone = place_of(posixpath.join(settings.clone_path, path), settings)
    return list(dict.fromkeys((from_top, from_clone)))


def _behind_links(place: str, settings: Settings) -> str:
    for name, target in settings.links.items():
        link = f"{settings.clone_name}/{name}"
        if place == link or place.startswith(link + "/"):
            return target + place[len(link) :]
    return place
