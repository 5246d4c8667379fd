"""A list of files cut into parts, each for one rsync of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from podtasks.pure.transfer import LocalFile, VolumeFile

# What one small file costs beside its bytes, so that counts and bytes are balanced together.
FILE_COST_BYTES = 64 << 10
LEAST_PART_BYTES = 16 << 20
LEAST_COMPRESSED_BYTES = 1 << 20
# Audio, archives and weights do not shrink, and compressing them costs more than sending them.
COMPRESSIBLE = frozenset(
    {
        ".csv",
        ".ctm",
        ".htm",
        ".html",
        ".json",
        ".jsonl",
        ".lab",
        ".log",
        ".md",
        ".py",
        ".rttm",
        ".sql",
        ".srt",
        ".stm",
        ".svg",
        ".textgrid",
        ".tsv",
        ".txt",
        ".vtt",
        ".xml",
        ".yaml",
        ".yml",
    }
)


@dataclass(frozen=True)
class RsyncPart:
    """Files for one rsync: those of `sizes` (name: bytes) from below `source` to below `target`.

    Args:
        source: a folder; or a file that gets another name, which is `target`. Then it is the only one.
        is_renamed: whether it is such a file.
        compresses: whether sending them compressed is worth it.
    """

    source: str
    target: str
    sizes: Mapping[str, int] = field(repr=False)
    is_renamed: bool = False
    compresses: bool = False


def split_upload(files: Sequence[LocalFile], mount_path: str, streams: int) -> list[RsyncPart]:
    """Cut what is to be uploaded into parts of about the same work, at most about `streams` of them."""
    groups: dict[tuple[str, str, bool], dict[str, int]] = {}
    renamed = []
    for file in files:
        source, place, name = split_mapping(file.path, file.place)
        if name:
            groups.setdefault((source, place, is_compressible(name)), {})[name] = file.size_bytes
        else:
            target = f"{mount_path}/{file.place}"
            renamed.append(RsyncPart(str(file.path), target, {file.place: file.size_bytes}, is_renamed=True))
    whole = [
        RsyncPart(source, f"{mount_path}/{place}".rstrip("/"), sizes, compresses=compresses)
        for (source, place, compresses), sizes in _without_small_compressed(groups).items()
    ]
    return [*_split(whole, streams), *renamed]


def split_download(files: Sequence[VolumeFile], mount_path: str, target: str, streams: int) -> list[RsyncPart]:
    """Cut what is to be downloaded into parts likewise."""
    groups: dict[tuple[str, str, bool], dict[str, int]] = {}
    for file in files:
        groups.setdefault((mount_path, target, is_compressible(file.place)), {})[file.place] = file.size_bytes
    whole = [
        RsyncPart(source, to, sizes, compresses=compresses)
        for (source, to, compresses), sizes in _without_small_compressed(groups).items()
    ]
    return _split(whole, streams)


def split_mapping(path: PurePath, place: str) -> tuple[str, str, str]:
    """Return the local folder, the folder on the volume and the name below both; no name where the last parts differ.

    The name is as long as path and place end alike, so that files of one folder share both folders.
    """
    here, there = path.parts, tuple(place.split("/"))
    same = 0
    while same < min(len(here) - 1, len(there)) and here[-1 - same] == there[-1 - same]:
        same += 1
    cut = len(here) - same
    return str(PurePath(*here[:cut])), "/".join(there[: len(there) - same]), "/".join(here[cut:])


def is_compressible(name: str) -> bool:
    """Return whether a file of this name is text, which shrinks on the way."""
    return PurePath(name).suffix.lower() in COMPRESSIBLE


def _without_small_compressed(
    groups: Mapping[tuple[str, str, bool], dict[str, int]],
) -> dict[tuple[str, str, bool], dict[str, int]]:
    """Add the few texts among other files to those: a stream of their own would cost more than it saves."""
    merged: dict[tuple[str, str, bool], dict[str, int]] = {}
    for (source, target, compresses), sizes in groups.items():
        worth = compresses and sum(sizes.values()) >= LEAST_COMPRESSED_BYTES
        merged.setdefault((source, target, worth), {}).update(sizes)
    return merged


def _split(parts: Sequence[RsyncPart], streams: int) -> list[RsyncPart]:
    whole = sum(_cost(part.sizes) for part in parts) or 1
    wanted = min(streams, max(1, math.ceil(whole / LEAST_PART_BYTES)))
    return [
        RsyncPart(part.source, part.target, sizes, compresses=part.compresses)
        for part in parts
        for sizes in _cut(part.sizes, max(1, round(wanted * _cost(part.sizes) / whole)))
    ]


def _cut(sizes: Mapping[str, int], count: int) -> Iterable[dict[str, int]]:
    """Cut files into `count` runs of neighbours with about the same work; runs that stay empty are left out."""
    whole, before = _cost(sizes), 0
    runs: list[dict[str, int]] = [{} for _ in range(count)]
    for name in sorted(sizes):
        cost = sizes[name] + FILE_COST_BYTES
        runs[min(count - 1, int((before + cost / 2) / whole * count))][name] = sizes[name]
        before += cost
    return [run for run in runs if run]


def _cost(sizes: Mapping[str, int]) -> int:
    return sum(sizes.values()) + FILE_COST_BYTES * len(sizes)
