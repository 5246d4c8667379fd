"""What somebody changed by hand in the pod's clone, saved on the volume before it is overwritten."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import json
import os
import shutil
import time
from typing import Any, Iterable

from pod_clone import Clone, GitFailed, say

_MARKER = "podtasks-checkout.json"
_DIFF = [
    "diff",
    "--binary",
    "--full-index",
    "--no-color",
    "--no-ext-diff",
    "--no-textconv",
    "--no-renames",
    "--no-relative",
    "--ignore-submodules=all",
    "--src-prefix=a/",
    "--dst-prefix=b/",
]
_NAMES = [
    "diff",
    "--name-only",
    "-z",
    "--no-renames",
    "--no-ext-diff",
    "--no-relative",
    "--ignore-submodules=all",
]
_LINK = "120000"


class SavedEdits:
    """Saves edits of `clone` under `<volume>/runs/saved/<clone name>-<time>...`."""

    def __init__(self, clone: Clone, volume: str) -> None:
        self._clone = clone
        self._interrupted = str(read_marker(clone).get("commit", ""))
        folder = os.path.join(volume, "runs", "saved")
        stem = "{}-{}".format(os.path.basename(clone.path), time.strftime("%Y%m%d-%H%M%S", time.gmtime()))
        self._stem, number = os.path.join(folder, stem), 1
        while any(os.path.lexists(self._stem + end) for end in (".patch", "-staged.patch", "-files", "-git")):
            number += 1
            self._stem = os.path.join(folder, f"{stem}-{number}")

    def save_tracked(self) -> str | None:
        """Save the edits of tracked files, staged or not, as a patch.

        What is staged goes into a second patch where the file has moved on since.

        Returns:
            The patch's path, or None where nothing was edited.
        """
        edited = edited_paths(self._clone, self._interrupted)
        if not edited:
            return None
        staged = self._write_patch("-staged.patch", "--cached", "HEAD")
        try:
            patch = self._write_patch(".patch", "HEAD")
            self._copy(entry.partition("\t")[2] for entry in self._clone.paths("ls-files", "--unmerged", "-z"))
        except GitFailed as failure:
            say(f"{failure}; the edited files themselves are kept")
            self._copy(edited)
            patch = self._stem + "-files"
        if staged and patch and os.path.isfile(patch) and filecmp.cmp(staged, patch, shallow=False):
            os.unlink(staged)
            staged = None
        for kept in filter(None, (patch, staged)):
            say(f"edits found in {self._clone.path} are saved in {kept}")
        return patch or staged

    def _write_patch(self, ending: str, *words: str) -> str | None:
        code, stdout, stderr = self._clone.attempt(*_DIFF, *words)
        if code != 0:
            raise GitFailed(tuple(_DIFF), stderr)
        if not stdout:
            return None
        os.makedirs(os.path.dirname(self._stem), exist_ok=True)
        with open(self._stem + ending, "wb") as file:
            file.write(stdout)
        return self._stem + ending

    def _copy(self, paths: Iterable[str]) -> None:
        for path in set(paths):
            source, target = os.path.join(self._clone.path, path), os.path.join(self._stem + "-files", path)
            if os.path.isfile(source):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                shutil.copyfile(source, target)

    def move_untracked(self, commit: str) -> list[str]:
        """Move untracked files away that the checkout of `commit` would overwrite.

        Returns:
            Their paths in the clone; those equal to what `commit` brings stay where they are.
        """
        tracked = set(self._clone.paths("ls-files", "-z"))
        moved: list[str] = []
        for entry in self._clone.paths("ls-tree", "-r", "-z", "--full-tree", commit):
            attributes, path = entry.split("\t", 1)
            if path in tracked:
                continue
            mode, kind, name = attributes.split(" ")
            obstacle = self._obstacle_above(path, tracked) or self._obstacle_at(path, mode, kind, name, tracked)
            if obstacle:
                moved.append(obstacle)
                self._move(obstacle)
        return moved

    def _obstacle_above(self, path: str, tracked: set[str]) -> str | None:
        """Return the untracked file that stands where a folder above `path` is to be."""
        for parent in _parents(path):
            full = os.path.join(self._clone.path, parent)
            if os.path.lexists(full) and not os.path.isdir(full) and parent not in tracked:
                return parent
        return None

    def _obstacle_at(self, path: str, mode: str, kind: str, name: str, tracked: set[str]) -> str | None:
        """Return `path` if something untracked is there that the checkout would destroy."""
        full = os.path.join(self._clone.path, path)
        if is_behind_link(self._clone, path) or not os.path.lexists(full):
            return None  # git takes a link to a folder away, never what it points to
        if os.path.isdir(full) and not os.path.islink(full):
            return path if kind == "blob" and _holds_untracked(full, path, tracked) else None
        if os.path.isdir(full) and mode != _LINK:
            return None
        if _object_name(full, len(name)) == name or is_half_written(self._clone, path, self._interrupted):
            return None
        return path

    def _move(self, path: str) -> None:
        target = os.path.join(self._stem + "-files", path)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.move(os.path.join(self._clone.path, path), target)
        say(f"{path} stood in the way of the new code and is now {target}")

    def set_git_aside(self) -> str:
        """Move a damaged `.git` away whole, so that the next sync starts from nothing. Return where it is."""
        target = self._stem + "-git"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.move(self._clone.git_dir, target)
        return target


def edited_paths(clone: Clone, interrupted: str = "") -> list[str]:
    """Return the tracked paths that somebody changed, staged or not.

    Not those that the interrupted checkout of commit `interrupted` had got to, nor those hidden by a link
    that is laid over their folder.
    """
    if not clone.commit_of("HEAD"):
        return []
    edited = set(clone.paths(*_NAMES, "HEAD")) | set(clone.paths(*_NAMES, "--cached", "HEAD"))
    if interrupted and clone.has(interrupted):
        edited &= set(clone.paths(*_NAMES, interrupted))
        edited = {path for path in edited if not is_half_written(clone, path, interrupted)}
    return sorted(path for path in edited if not is_behind_link(clone, path))


def is_behind_link(clone: Clone, path: str) -> bool:
    """Say whether a folder above `path` is a link, as those from the volume into the clone are."""
    return any(os.path.islink(os.path.join(clone.path, parent)) for parent in _parents(path))


def is_half_written(clone: Clone, path: str, commit: str) -> bool:
    """Say whether the file is the beginning of what `commit` has there: a checkout was killed at it."""
    full = os.path.join(clone.path, path)
    if not commit or os.path.islink(full) or not os.path.isfile(full):
        return False
    code, content, _ = clone.attempt("cat-file", "blob", f"{commit}:{path}")
    if code != 0 or os.path.getsize(full) > len(content):
        return False
    with open(full, "rb") as file:
        return content.startswith(file.read())


def write_marker(clone: Clone, answer: dict[str, Any]) -> None:
    """Remember that the checkout of `answer["commit"]` has begun, and what was saved before it."""
    path = os.path.join(clone.git_dir, _MARKER)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(answer, file)
    os.replace(path + ".new", path)


def read_marker(clone: Clone) -> dict[str, Any]:
    """Return what `write_marker` remembered of a checkout that was not finished; else an empty mapping."""
    try:
        with open(os.path.join(clone.git_dir, _MARKER), encoding="utf-8") as file:
            answer: dict[str, Any] = json.load(file)
            return answer
    except (OSError, ValueError):
        return {}


def remove_marker(clone: Clone) -> None:
    """Note that the checkout is finished."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(clone.git_dir, _MARKER))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def _holds_untracked(full: str, path: str, tracked: set[str]) -> bool:
    for directory, _, names in os.walk(full):
        inside = os.path.normpath(os.path.join(path, os.path.relpath(directory, full)))
        if any(f"{inside}/{name}" not in tracked for name in names):
            return True
    return False


def _object_name(path: str, digits: int) -> str:
    """Return git's name for the file's content, as git has it without filters; empty if unreadable."""
    digest = hashlib.sha1() if digits == 40 else hashlib.sha256()
    if os.path.islink(path):
        content = os.fsencode(os.readlink(path))
        digest.update(b"blob %d\0" % len(content) + content)
        return digest.hexdigest()
    try:
        with open(path, "rb") as file:
            digest.update(b"blob %d\0" % os.fstat(file.fileno()).st_size)
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()
