"""The keys of a bucket in order, as pages. Knows no XML."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from podtasks.emulator.s3.errors import S3Error
from podtasks.emulator.s3.folder import HIDDEN_FOLDER, Folder


@dataclass(frozen=True)
class Wish:
    """What is to be listed: keys with a prefix, after a key, rolled up at a delimiter."""

    prefix: str = ""
    after: str = ""
    delimiter: str = ""
    max_keys: int = 1000


@dataclass(frozen=True)
class Item:
    """An object in a listing."""

    key: str
    size_bytes: int
    modified_at: float
    etag: str


@dataclass
class Page:
    """Up to `max_keys` objects and rolled-up prefixes; `last` is the greatest of them."""

    items: list[Item] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    is_truncated: bool = False
    last: str = ""

    def __len__(self) -> int:
        return len(self.items) + len(self.prefixes)


def read_page(folder: Folder, wish: Wish) -> Page:
    """Read one page of a listing; ETags are computed where they are not known."""
    page = Page()
    if wish.max_keys == 0:
        return page
    for key, path in _walk(folder, wish):
        cut = key.find(wish.delimiter, len(wish.prefix)) if wish.delimiter else -1
        name = key if cut < 0 else key[: cut + len(wish.delimiter)]
        if cut >= 0 and (name == page.last or name <= wish.after):
            continue
        if len(page) == wish.max_keys:
            page.is_truncated = True
            break
        if cut >= 0:
            page.prefixes.append(name)
        elif not _add(page, folder, key, path):
            continue
        page.last = name
    return page


def write_token(last: str, count: int) -> str:
    """Return a continuation token: the last key given and how many came before."""
    return base64.urlsafe_b64encode(f"{count}:{last}".encode("utf-8", "surrogateescape")).decode()


def read_token(token: str) -> tuple[str, int]:
    """Return what `write_token` was given.

    Raises:
        S3Error: it is not one of ours.
    """
    try:
        text = base64.b64decode(token, altchars=b"-_", validate=True).decode("utf-8", "surrogateescape")
        count, _, last = text.partition(":")
        return last, int(count)
    except (binascii.Error, ValueError):
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect.") from None


def _add(page: Page, folder: Folder, key: str, path: str) -> bool:
    try:
        facts = os.stat(path)
        etag = folder.etag_of(path)
    except OSError:
        return False
    page.items.append(Item(key, facts.st_size, facts.st_mtime, etag))
    return True


def _walk(folder: Folder, wish: Wish) -> Iterator[tuple[str, str]]:
    """Yield keys and paths in order; with the delimiter "/" a directory below the prefix is its own key."""
    base = wish.prefix[: wish.prefix.rfind("/") + 1]
    if any(part in ("", ".", "..", HIDDEN_FOLDER) or "\0" in part for part in base.split("/")[:-1]):
        return
    path = os.path.realpath(f"{folder.path}/{base}")
    if folder.contains(path):
        yield from _walk_directory(folder, wish, path, base)


def _walk_directory(folder: Folder, wish: Wish, path: str, base: str) -> Iterator[tuple[str, str]]:
    for key, is_directory in _sorted_keys(folder, path, base):
        if not (key.startswith(wish.prefix) or (is_directory and wish.prefix.startswith(key))):
            continue
        if key <= wish.after and not (is_directory and wish.after.startswith(key)):
            continue
        below = f"{path}/{key[len(base) :].rstrip('/')}"
        if not is_directory or (wish.delimiter == "/" and len(key) > len(wish.prefix)):
            yield key, below
        else:
            yield from _walk_directory(folder, wish, below, key)


def _sorted_keys(folder: Folder, path: str, base: str) -> list[tuple[str, bool]]:
    keys: list[tuple[str, bool]] = []
    try:
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if base or entry.name != HIDDEN_FOLDER:
                        keys.append((f"{base}{entry.name}/", True))
                elif entry.is_file(follow_symlinks=False) or (entry.is_symlink() and folder.is_link_inside(entry.path)):
                    keys.append((base + entry.name, False))
    except OSError:
        return []
    return sorted(keys)
