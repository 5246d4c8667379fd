"""What `inv fetch` brings home, and what of it is here already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from podtasks.pure.transfer import VolumeFile, is_safe_place, is_same_copy


@dataclass(frozen=True)
class LocalCopy:
    """Size and time (seconds since 1970) of what lies here at a file's place."""

    size_bytes: int
    modified: float


@dataclass(frozen=True)
class FetchPlan:
    """Files of the volume by what is to be done with them.

    Args:
        wanted: to be fetched.
        there: here already, with size and time.
        kept: here with another content that is newer than the volume's, and left alone.
        refused: whose names, or links here, would lead out of the folder they belong into.
    """

    wanted: tuple[VolumeFile, ...]
    there: tuple[VolumeFile, ...]
    kept: tuple[VolumeFile, ...]
    refused: tuple[VolumeFile, ...]


def plan_fetch(
    files: Sequence[VolumeFile],
    find_here: Callable[[str], LocalCopy | None],
    *,
    overwrite: bool,
    leads_out: Callable[[str], bool] = lambda _: False,
) -> FetchPlan:
    """Tell what must be fetched of these files from what need not or must not be.

    `find_here` looks at a place; `leads_out` says whether a link on the way to it leads elsewhere.
    """
    groups: dict[str, list[VolumeFile]] = {"wanted": [], "there": [], "kept": [], "refused": []}
    for file in files:
        is_refused = not is_safe_place(file.place) or leads_out(file.place)
        groups["refused" if is_refused else _judge(file, find_here, overwrite)].append(file)
    return FetchPlan(**{name: tuple(group) for name, group in groups.items()})


def _judge(file: VolumeFile, find_here: Callable[[str], LocalCopy | None], overwrite: bool) -> str:
    here = find_here(file.place)
    if here is None:
        return "wanted"
    if is_same_copy(here.size_bytes, here.modified, file):
        return "there"
    return "kept" if here.modified > file.modified and not overwrite else "wanted"
