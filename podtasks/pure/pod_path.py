"""Paths on the pod, as they stand in configurations and settings: POSIX, never climbing out."""

from __future__ import annotations

import posixpath
import re

SURROGATE = re.compile("[\ud800-\udfff]")
CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def relative_path_problem(path: str) -> str | None:
    """Return why a path cannot be used inside a folder, or None where it can."""
    if path.startswith("/"):
        return "must be relative, without a leading /"
    return path_problem(path)


def path_problem(path: str) -> str | None:
    """Return why a path, relative or absolute, is not safe to use on the pod, or None where it is."""
    if not path.strip():
        return "must not be empty"
    if has_control_characters(path):
        return "must not hold control characters"
    if SURROGATE.search(path):
        return "must not hold half characters (single surrogates), which no file's name can"
    if ".." in path.split("/"):
        # normpath would be wrong here: `checkpoints/..` is not the clone where checkpoints is a link.
        return "must not climb with .."
    if path.startswith("~"):
        return "must be written out, without ~ (the home folder on a pod is wiped when it stops)"
    return None


def absolute_path(folder: str, path: str) -> str:
    """Return the path, seen from the folder, as an absolute path without needless parts."""
    return clean_path(posixpath.join(folder, path))


def clean_path(path: str) -> str:
    """Return the path without doubled slashes, `.` parts and a trailing slash."""
    cleaned = posixpath.normpath(path)
    return "/" + cleaned.lstrip("/") if cleaned.startswith("/") else cleaned


def is_inside(path: str, folder: str) -> bool:
    """Return whether an absolute path lies below the folder; the folder itself does not."""
    return clean_path(path).startswith(clean_path(folder).rstrip("/") + "/")


def has_control_characters(text: str) -> bool:
    """Return whether the text holds a newline, tab, NUL or another control character."""
    return CONTROL_CHARACTER.search(text) is not None
