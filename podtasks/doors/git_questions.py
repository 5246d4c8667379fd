"""Questions to the local repository and to the remote it is pushed to."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from podtasks.doors.git_command import last_words, read_line, run_git, try_git, without_password
from podtasks.pure.errors import CodeError

REMOTE_TIMEOUT_S = 60.0
FETCH_TIMEOUT_S = 600.0
_SUBMODULE, _LINK = "160000", "120000"  # git's modes


def find_root(directory: Path) -> Path:
    """Return the work tree that `directory` is in.

    Raises:
        CodeError: it is in no repository, in a bare one, or in the `.git` directory itself.
    """
    done = try_git(directory, ["rev-parse", "--show-toplevel"])
    if done.returncode == 0 and done.stdout:
        return Path(os.fsdecode(done.stdout).removesuffix("\n"))
    if read_line(directory, ["rev-parse", "--is-bare-repository"]) == "true":
        raise CodeError(f"{directory} is a bare git repository.", next_step="the same command in a checkout of it")
    if b"dubious ownership" in done.stderr:
        raise CodeError(
            f"git does not trust {directory}: somebody else owns it.",
            next_step=f"git config --global --add safe.directory {shlex.quote(str(directory))}, "
            "then the same command again",
        )
    raise CodeError(
        f"{directory} is not in a git repository; a run must name the exact code it trains.",
        next_step='git init && git add -A && git commit -m "Start", then the same command again',
    )


def current_branch(root: Path) -> str | None:
    """Return the branch that is checked out, or None on a detached HEAD."""
    return read_line(root, ["symbolic-ref", "--quiet", "--short", "HEAD"])


def head_commit(root: Path) -> str:
    """Return HEAD's commit. Raise CodeError when nothing has been committed yet."""
    commit = read_line(root, ["rev-parse", "--quiet", "--verify", "HEAD^{commit}"])
    if commit is None:
        raise CodeError(
            f"Nothing has been committed in {root} yet.",
            next_step='git add -A && git commit -m "Start", then the same command again',
        )
    return commit


def branch_tip(root: Path, branch: str) -> str | None:
    """Return the commit a local branch points at, or None when there is no such branch."""
    return read_line(root, ["rev-parse", "--quiet", "--verify", f"refs/heads/{branch}^{{commit}}"])


def dirty_paths(root: Path) -> tuple[str, ...]:
    """Return the paths with uncommitted changes, untracked ones included, ignored ones not."""
    words = ["status", "--porcelain=v1", "-z", "--untracked-files=normal", "--no-renames"]
    listing = run_git(root, [*words, "--ignore-submodules=none"])
    return tuple(entry[3:] for entry in listing.split("\0") if entry)


def has_tracked(root: Path, folder: str) -> bool:
    """Say whether git tracks files at or below a path; nothing is tracked where there is no repository."""
    done = try_git(root, ["ls-files", "-z", "--", folder])
    return done.returncode == 0 and bool(done.stdout)


def path_exists_at(root: Path, commit: str, path: str) -> bool | None:
    """Say whether `path` (relative to the root) is in `commit`.

    None when that cannot be told: the commit is not here, or a folder above is a submodule or a symbolic link.
    """
    if not has_commit(root, commit):
        return None
    clean = os.path.normpath(path)
    if _modes_at(root, commit, [clean]):
        return True
    above = [str(parent) for parent in PurePosixPath(clean).parents][:-1]
    return None if _modes_at(root, commit, above) & {_SUBMODULE, _LINK} else False


def _modes_at(root: Path, commit: str, paths: Sequence[str]) -> set[str]:
    listings = (run_git(root, ["ls-tree", "-z", "--full-tree", commit, "--", path]) for path in paths)
    return {entry.split(" ", 1)[0] for listing in listings for entry in listing.split("\0") if entry}


def has_commit(root: Path, commit: str) -> bool:
    """Say whether the commit is in the local repository."""
    return try_git(root, ["cat-file", "-e", f"{commit}^{{commit}}"]).returncode == 0


def shallow_commits(root: Path) -> tuple[str, ...]:
    """Return the commits at which this clone's history is cut off; none in a full clone."""
    path = root / (read_line(root, ["rev-parse", "--git-path", "shallow"]) or "shallow")
    return tuple(path.read_text(encoding="ascii").split()) if path.is_file() else ()


def require_branch_name(root: Path, branch: str) -> None:
    """Check that git would accept `branch` as a branch's name. Raise CodeError if not."""
    refused = branch.startswith("-") or branch == "HEAD" or "\0" in branch
    if refused or try_git(root, ["check-ref-format", f"refs/heads/{branch}"]).returncode != 0:
        raise CodeError(
            f"{branch!r} is not a name git allows for a branch.",
            next_step="--branch with the branch's own name, as git branch prints it",
        )


def remote_tip(url: str, branch: str, *, root: Path | None = None) -> str:
    """Return the commit at the tip of `branch` at `url`, asking the remote itself.

    Args:
        root: the repository whose git settings (credentials, URL rewrites) apply.

    Raises:
        CodeError: the remote cannot be reached within a minute, refuses us, or has no such branch.
    """
    here = root or Path.cwd()
    require_branch_name(here, branch)
    done = _ask_remote(here, url, ["ls-remote", "--", url, f"refs/heads/{branch}"], REMOTE_TIMEOUT_S)
    for line in os.fsdecode(done.stdout).splitlines():
        commit, _, name = line.partition("\t")
        if name == f"refs/heads/{branch}":
            return commit
    raise CodeError(
        f"There is no branch {branch!r} at {without_password(url)}.",
        next_step=f"git push -u origin {branch}, or name another with --branch, "
        "or send your local commit with --code local",
    )


def require_remote(url: str, *, root: Path, timeout_s: float) -> None:
    """Raise CodeError unless the repository at `url` answers within the time, and lets us read it."""
    _ask_remote(root, url, ["ls-remote", "--heads", "--", url], timeout_s)


def is_contained(root: Path, commit: str, tip: str, *, url: str, branch: str) -> bool:
    """Say whether `commit` is part of the remote branch whose tip is `tip`.

    A tip that is not here yet is fetched, objects only: no ref changes.

    Raises:
        CodeError: the remote cannot be reached.
    """
    if commit == tip:
        return True
    if not has_commit(root, tip):
        words = ["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules"]
        _ask_remote(root, url, [*words, "--", url, f"refs/heads/{branch}"], FETCH_TIMEOUT_S)
    return try_git(root, ["merge-base", "--is-ancestor", commit, tip]).returncode == 0


def _ask_remote(root: Path, url: str, words: list[str], timeout_s: float) -> subprocess.CompletedProcess[bytes]:
    try:
        done = try_git(root, words, timeout_s=timeout_s)
    except subprocess.TimeoutExpired:
        reason = f"no answer within {timeout_s:.0f} s"
    else:
        if done.returncode == 0:
            return done
        reason = last_words(done.stderr)
    raise CodeError(
        f"The repository {without_password(url)} could not be asked: {reason}.",
        next_step=f"git ls-remote {without_password(url)} must work here; or send your local commit with --code local",
    )
