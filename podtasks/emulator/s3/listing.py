"""The keys of a bucket in order, as pages. Knows no XML."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Iterator
from dataclasses import dataclass, field

from podtasks.emulator.s3.directories import Directories
from podtasks.emulator.s3.errors import S3Error
from podtasks.emulator.s3.folder import Folder


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


def read_page(folder: Folder, directories: Directories, wish: Wish) -> Page:
    """Read one page of a listing; ETags are computed where they are not known."""
    page = Page()
    if wish.max_keys == 0:
        return page
    for key, path in _walk(folder, directories, wish):
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


def _walk(folder: Folder, directories: Directories, wish: Wish) -> Iterator[tuple[str, str]]:
    """Yield keys and paths in order; with the delimiter "/" a directory below the prefix is its own key."""
    base = wish.prefix[: wish.prefix.rfind("/") + 1]
    if any(part in ("", ".", "..") or "\0" in part for part in base.split("/")[:-1]):
        return
    path = os.path.realpath(f"{folder.path}/{base}")
    if folder.contains(path):
        yield from _walk_directory(directories, wish, path, base)


def _walk_directory(directories: Directories, wish: Wish, path: str, base: str) -> Iterator[tuple[str, str]]:
    prefix = wish.prefix[len(base) :]
    for name in directories.names_from(path, max(prefix, _first_name(wish.after, base))):
        key, below, is_directory = base + name, f"{path}/{name.rstrip('/')}", name.endswith("/")
        if not name.startswith(prefix):
            return
        if key <= wish.after and not (is_directory and wish.after.startswith(key)):
            continue
        if is_directory and wish.delimiter != "/":
            yield from _walk_directory(directories, wish, below, key)
        else:
            yield key, below


def _first_name(after: str, base: str) -> str:
    """Return the first name in a directory that a listing after a key needs: it may be the directory of the key."""
    if not after.startswith(base):
        return ""
    name, slash, _ = after[len(base) :].partition("/")
    return name + slash
