"""The work tree as a commit, made without touching index, branch or work tree."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from podtasks.doors.git_command import read_line, run_git
from podtasks.pure.errors import CodeError

SNAPSHOT_REFS = "refs/podtasks/snapshots"
UNTRACKED_LIMIT_MB = 100


def snapshot(root: Path) -> str:
    """Return a commit that holds the work tree as it is now: HEAD, the index and untracked files.

    The same content gives the same commit, and a clean tree gives HEAD itself. Ignored files stay out. The
    commit is kept under `refs/podtasks/snapshots/`.

    Raises:
        CodeError: untracked files are too large to send, a merge is unfinished, or git cannot read a file.
    """
    _require_no_conflicts(root)
    _require_small_untracked_files(root)
    head = run_git(root, ["rev-parse", "--verify", "HEAD^{commit}"]).strip()
    tree = _work_tree(root)
    if tree == run_git(root, ["rev-parse", f"{head}^{{tree}}"]).strip():
        return head
    commit = _commit_tree(root, tree, head)
    run_git(root, ["update-ref", f"{SNAPSHOT_REFS}/{commit}", commit])
    return commit


def _work_tree(root: Path) -> str:
    with tempfile.TemporaryDirectory(prefix="podtasks-index-") as directory:
        index = Path(directory) / "index"
        extra = {"GIT_INDEX_FILE": str(index)}
        current = root / (read_line(root, ["rev-parse", "--git-path", "index"]) or "")
        if current.is_file():
            shutil.copyfile(current, index)  # its file times spare git from reading every file again
        else:
            run_git(root, ["read-tree", "HEAD"], extra=extra)
        run_git(root, ["-c", "advice.addEmbeddedRepo=false", "add", "--all", "--", "."], extra=extra)
        return run_git(root, ["write-tree"], extra=extra).strip()


def _commit_tree(root: Path, tree: str, parent: str) -> str:
    date = run_git(root, ["show", "--no-patch", "--format=%ad", "--date=raw", parent]).strip()
    identity = {"NAME": "podtasks", "EMAIL": "podtasks@localhost", "DATE": date}
    extra = {f"GIT_{who}_{key}": identity[key] for who in ("AUTHOR", "COMMITTER") for key in identity}
    message = f"Snapshot of the work tree on {parent[:12]}\n".encode()
    words = ["-c", "i18n.commitEncoding=UTF-8", "commit-tree", tree, "-p", parent]
    return run_git(root, words, stdin=message, extra=extra).strip()


def _require_no_conflicts(root: Path) -> None:
    unmerged = run_git(root, ["ls-files", "--unmerged", "-z"])
    if unmerged:
        path = unmerged.split("\0")[0].partition("\t")[2]
        raise CodeError(
            f"A merge is unfinished: {path!r} still has conflicts.",
            next_step="resolve the conflicts (git status lists them), then the same command again",
        )


def _require_small_untracked_files(root: Path) -> None:
    sizes = [(_size(root / path), path) for path in untracked_files(root)]
    total_mb = sum(size for size, _ in sizes) / 1e6
    if total_mb <= UNTRACKED_LIMIT_MB:
        return
    largest = ", ".join(f"{path!r} ({size / 1e6:.0f} MB)" for size, path in sorted(sizes, reverse=True)[:3])
    raise CodeError(
        f"The untracked files that a snapshot would take along come to {total_mb:.0f} MB; "
        f"the limit is {UNTRACKED_LIMIT_MB} MB. The largest: {largest}.",
        next_step="add data and outputs to .gitignore (data has its own way to the pod), then the same command again",
    )


def untracked_files(root: Path) -> list[str]:
    """Return the files git neither tracks nor ignores, relative to `root`."""
    listing = run_git(root, ["ls-files", "--others", "--exclude-standard", "-z"])
    return [path for path in listing.split("\0") if path]


def _size(path: Path) -> int:
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0
