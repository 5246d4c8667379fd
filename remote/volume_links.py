"""Links from the clone into the volume, so that outputs outlive the clone and git does not see them."""

from __future__ import annotations

import os
from typing import NamedTuple

from answer import Refused


class Links(NamedTuple):
    """The names that were linked now, and what is to be said about the others."""

    linked: list[str]
    notes: list[str]


def make(clone: str, volume: str, folders: dict[str, str]) -> Links:
    """Link clone/name to volume/folder for each name that is not there yet.

    What exists in the clone is left as it is; a real folder there is noted. Raise Refused for a name or a
    folder that leads out of the clone or the volume.
    """
    found = Links([], [])
    for name, folder in sorted(folders.items()):
        _check_inside(name)
        _check_inside(folder)
        _link_one(clone, name, os.path.join(volume, folder), found)
    return found


def _link_one(clone: str, name: str, target: str, found: Links) -> None:
    """Link clone/name to `target`, or note why not."""
    place = os.path.join(clone, name)
    if os.path.islink(place):
        _keep_link(place, target, found)
    elif os.path.lexists(place):
        found.notes.append(f"{place} is there already and is left as it is; it is not linked to {target}")
        return
    elif os.path.abspath(place) == os.path.abspath(target):
        os.makedirs(target)
        return
    else:
        os.makedirs(target, exist_ok=True)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        # Relative, so that it leads to the same folder wherever the volume is mounted.
        os.symlink(os.path.relpath(target, os.path.realpath(os.path.dirname(place))), place)
        found.linked.append(name)
    _exclude(clone, name, found)


def _keep_link(place: str, target: str, found: Links) -> None:
    """Keep a link that is there; make its folder if that is ours and is missing."""
    if os.path.abspath(os.path.join(os.path.dirname(place), os.readlink(place))) == os.path.abspath(target):
        os.makedirs(target, exist_ok=True)
    else:
        found.notes.append(f"{place} is a link to {os.readlink(place)} and is left as it is, not {target}")


def _exclude(clone: str, name: str, found: Links) -> None:
    """Add /name to the clone's .git/info/exclude if it is not there."""
    git = os.path.join(clone, ".git")
    if not os.path.isdir(git):
        found.notes.append(f"{git} is no folder: {name} is not excluded from git")
        return
    path = os.path.join(git, "info", "exclude")
    line = os.fsencode("/" + _escape(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a+b") as file:
        file.seek(0)
        data = file.read()
        if line not in data.split(b"\n"):
            file.write((b"" if not data or data.endswith(b"\n") else b"\n") + line + b"\n")


def _escape(name: str) -> str:
    """Return a name as a pattern of gitignore that matches just it."""
    escaped = "".join(f"\\{c}" if c in "\\*?[ " else c for c in os.path.normpath(name))
    return escaped


def _check_inside(path: str) -> None:
    """Raise Refused for a path that is absolute, empty, leads upwards or breaks a line."""
    parts = path.split("/")
    if not path or os.path.isabs(path) or ".." in parts or "\n" in path or os.path.normpath(path) == ".":
        raise Refused("A link is not possible.", f"{path!r} is no plain path inside the clone or the volume")
