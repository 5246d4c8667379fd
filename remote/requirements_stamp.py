"""What an environment was made from: files, Python and commit, told apart without starting a process."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from typing import Any

_INCLUDE = re.compile(r"(?:-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?<=-[rc]))(.+)")
_EDITABLE = re.compile(r"(?:-e|--editable)(?:\s*=\s*|\s+|(?<=-e))(.+)")
_PROJECT_FILES = ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt")


def stamp_of(clone: str, requirements: str, python: str, venv: str) -> dict[str, Any]:
    """Return what an environment depends on; equal stamps mean equal environments.

    Args:
        clone: the training repository.
        requirements: absolute path of its requirements file.
        python: absolute path of the image's Python.
        venv: `container` or `volume`.
    """
    files, local = _read_all(requirements, clone)
    for path in local:
        names = [os.path.join(path, name) for name in _PROJECT_FILES] if os.path.isdir(path) else [path]
        files.update({name: _digest(name) for name in names if os.path.isfile(name)})
    status = os.stat(python)
    return {
        "files": {os.path.relpath(name, clone): digest for name, digest in sorted(files.items())},
        "commit": _checked_out_commit(clone) if local else None,
        "python": [python, os.path.realpath(python), status.st_size, status.st_mtime_ns],
        "venv": venv,
    }


def _read_all(requirements: str, clone: str) -> tuple[dict[str, str], list[str]]:
    """Return the digests of the file and of all it includes, and the local paths they install from."""
    files: dict[str, str] = {}
    local: list[str] = []
    waiting = [requirements]
    while waiting:
        path = os.path.normpath(waiting.pop())
        if path in files or not os.path.isfile(path):
            continue
        files[path] = _digest(path)
        for line in _lines(path):
            included = _INCLUDE.match(line)
            if included:
                waiting.append(os.path.join(os.path.dirname(path), _unquote(included.group(1))))
            else:
                local.extend(_local_path(line, path, clone))
    return files, local


def _lines(path: str) -> Iterator[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        text = file.read().replace("\\\r\n", "").replace("\\\n", "")
    for line in text.splitlines():
        entry = re.sub(r"(^|\s)#.*", "", line).strip()
        if entry:
            yield entry


def _local_path(line: str, path: str, clone: str) -> list[str]:
    """Return the existing paths a line may mean: relative to its file (uv) or to the clone (pip)."""
    editable = _EDITABLE.match(line)
    if line.startswith("-") and not editable:
        return []
    place = editable.group(1) if editable else line.partition(" @ ")[2] or line
    place = re.sub(r"^file:(//)?", "", _unquote(place.split(" ;")[0].strip()))
    place = re.sub(r"(\[[^\]]*\])?(#.*)?$", "", place)
    if not editable and not place.startswith((".", "/")) and "/" not in place and not place.endswith(".whl"):
        return []
    candidates = (os.path.normpath(os.path.join(base, place)) for base in (os.path.dirname(path), clone))
    return sorted({candidate for candidate in candidates if os.path.exists(candidate)})


def _unquote(text: str) -> str:
    try:
        return (shlex.split(text) or [""])[0] if text[:1] in "'\"" else text.strip()
    except ValueError:
        return text.strip()


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _checked_out_commit(clone: str) -> str | None:
    git_dir = os.path.join(clone, ".git")
    head = _read(os.path.join(git_dir, "HEAD"))
    if not head.startswith("ref: "):
        return head or None
    ref = head[len("ref: ") :]
    packed = re.search(rf"^(\w+) {re.escape(ref)}$", _read(os.path.join(git_dir, "packed-refs")), re.MULTILINE)
    return _read(os.path.join(git_dir, ref)) or (packed.group(1) if packed else None)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""
