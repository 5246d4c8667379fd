"""The local git repository: what is checked out, what is pushed, and packs of it for the pod."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from podtasks.doors.git_command import read_line, run_git, without_password
from podtasks.doors.git_hosts import known_host_lines
from podtasks.doors.git_pack import open_pack
from podtasks.doors.git_questions import (
    branch_tip,
    current_branch,
    dirty_paths,
    find_root,
    has_commit,
    has_tracked,
    head_commit,
    is_contained,
    path_exists_at,
    remote_tip,
    require_branch_name,
    shallow_commits,
)
from podtasks.doors.git_snapshot import snapshot
from podtasks.pure.errors import CodeError

__all__ = [
    "Revision",
    "find_root",
    "has_commit",
    "known_host_lines",
    "open_pack",
    "path_exists_at",
    "resolve_revision",
    "shallow_commits",
]

LISTED_PATHS = 8


@dataclass(frozen=True)
class Revision:
    """The exact code a run will train.

    Args:
        root: the local work tree.
        commit: full object name.
        branch: the branch the pod's clone will be on.
        code: how it gets there: `local`, `snapshot` or `origin`.
        message: the commit's subject line; empty when the commit is only on the remote.
        dirty_paths: uncommitted paths, whether or not the run takes them along.
        notes: what the user should know before paying for it.
    """

    root: Path
    commit: str
    branch: str
    code: str
    message: str = ""
    dirty_paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def resolve_revision(
    root: Path,
    code: str,
    branch_flag: str | None,
    setting_branch: str | None,
    repository_url: str | None,
    *,
    data_folders: Sequence[str] = (),
) -> Revision:
    """Decide which commit is trained, and on which branch the pod's clone will be.

    Args:
        root: the local work tree, see `find_root`.
        code: `local` (the local commit is sent), `snapshot` (with uncommitted changes) or `origin`.
        branch_flag: `--branch`, if given.
        setting_branch: the branch of the settings.
        repository_url: where the pod clones from in `origin` mode.
        data_folders: paths below the root that lie on the volume, and so belong into .gitignore.

    Raises:
        CodeError: what would be trained is not what the user sees here: uncommitted or unpushed changes,
            another branch checked out; or git or the remote cannot answer.
    """
    for branch in filter(None, (branch_flag, setting_branch)):
        require_branch_name(root, branch)
    head_commit(root)
    if code == "origin":
        return _resolve_origin(root, branch_flag, setting_branch, repository_url, data_folders)
    if code in ("local", "snapshot"):
        return _resolve_local(root, code, branch_flag, setting_branch, data_folders)
    raise CodeError(f"--code {code!r} is unknown.", next_step="--code local, snapshot or origin")


def _resolve_local(
    root: Path, code: str, branch_flag: str | None, setting_branch: str | None, data_folders: Sequence[str]
) -> Revision:
    current = current_branch(root)
    branch = branch_flag or current or setting_branch or "main"
    checked_out = branch_flag is None or branch_flag == current
    dirty = dirty_paths(root)
    notes = _notes(root)
    if code == "snapshot":
        if not checked_out:
            raise CodeError(
                f"A snapshot is of the checked-out work tree, and that is {_on(current)}, not {branch!r}.",
                next_step=f"git switch {branch} first, or leave --branch out, or use --code local",
            )
        commit = snapshot(root)
        return Revision(root, commit, branch, code, _subject(root, commit), dirty, notes)
    if checked_out:
        advice = _add_ignoring(root, dirty, data_folders, "commit them, or take them along with --code snapshot")
        _require_clean(dirty, "would not be trained", advice)
        commit = head_commit(root)
    else:
        commit = _require_tip(root, branch)
        notes += (f"{len(dirty)} uncommitted paths here are not part of {branch!r}.",) if dirty else ()
    return Revision(root, commit, branch, code, _subject(root, commit), dirty, notes)


def _resolve_origin(
    root: Path,
    branch_flag: str | None,
    setting_branch: str | None,
    repository_url: str | None,
    data_folders: Sequence[str],
) -> Revision:
    if not repository_url:
        raise CodeError(
            "--code origin needs the address of the repository, and none is set.",
            next_step="set podtasks.repository in invoke.yaml, or use --code local",
        )
    current = current_branch(root)
    branch = branch_flag or setting_branch or current or "main"
    if branch_flag is None and current != branch:
        choice = f"--branch {current} or --branch {branch}" if current else f"--branch {branch}"
        raise CodeError(
            f"You are {_on(current)}, but the settings say to train {branch!r}.",
            next_step=f"say which: {choice}",
        )
    dirty = dirty_paths(root)
    if current == branch:
        advice = "commit and push them, or take them along with --code snapshot"
        advice = _add_ignoring(root, dirty, data_folders, advice)
        _require_clean(dirty, f"are not at {without_password(repository_url)}", advice)
    tip = remote_tip(repository_url, branch, root=root)
    notes = _require_pushed(root, tip, branch, repository_url) if current == branch else ()
    if current != branch and dirty:
        notes += (f"{len(dirty)} uncommitted paths here are not part of {branch!r}.",)
    return Revision(root, tip, branch, "origin", _subject(root, tip), dirty, notes)


def _require_pushed(root: Path, tip: str, branch: str, url: str) -> tuple[str, ...]:
    head = head_commit(root)
    if not is_contained(root, head, tip, url=url, branch=branch):
        raise CodeError(
            f"Commit {head[:12]} is not pushed: {branch!r} at {without_password(url)} is at {tip[:12]}.",
            next_step="git push, then the same command again; or send the local commit with --code local",
        )
    if head == tip:
        return ()
    ahead = read_line(root, ["rev-list", "--count", f"{head}..{tip}"]) or "some"
    return (f"The remote branch is {ahead} commits ahead of yours; its tip {tip[:12]} is what is trained.",)


def _add_ignoring(root: Path, dirty: tuple[str, ...], data_folders: Sequence[str], advice: str) -> str:
    """Return the advice for uncommitted paths, those apart that hold what belongs onto the volume and not into git."""
    paths = {path.rstrip("/") for path in dirty}
    ignored = [
        folder
        for folder in data_folders
        if any(f"{path}/".startswith(f"{folder}/") or folder.startswith(f"{path}/") for path in paths)
        and not has_tracked(root, folder)
    ]
    ignored = [folder for folder in ignored if not any(folder.startswith(f"{other}/") for other in ignored)]
    if not ignored:
        return advice
    named = ", ".join(f"/{folder}" for folder in ignored)
    ignoring = f"put {named} into .gitignore: data goes to the volume by inv sync-data, not into git"
    rest = [path for path in paths if not any(f"{path}/".startswith(f"{folder}/") for folder in ignored)]
    return f"{ignoring}. The others: {advice}" if rest else ignoring


def _require_clean(dirty: tuple[str, ...], fate: str, advice: str) -> None:
    if not dirty:
        return
    listed = "".join(f"\n  {path if path.isprintable() else repr(path)}" for path in dirty[:LISTED_PATHS])
    more = f"\n  and {len(dirty) - LISTED_PATHS} more" if len(dirty) > LISTED_PATHS else ""
    raise CodeError(f"These changes are not committed and {fate}:{listed}{more}", next_step=advice)


def _require_tip(root: Path, branch: str) -> str:
    tip = branch_tip(root, branch)
    if tip is None:
        raise CodeError(
            f"There is no local branch {branch!r}.",
            next_step=f"git branch lists them; git fetch && git switch {branch} gets a remote one",
        )
    return tip


def _notes(root: Path) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    entries = run_git(root, ["ls-files", "--stage", "-z"]).split("\0")
    submodules = [entry.partition("\t")[2] for entry in entries if entry.startswith("160000 ")]
    if submodules:
        names = ", ".join(repr(path) for path in submodules[:LISTED_PATHS])
        notes += (f"Submodules are not sent ({names}): only --code origin fetches them.",)
    if run_git(root, ["ls-files", "-z", "--", ":(attr:filter=lfs)"], extra={"GIT_LITERAL_PATHSPECS": "0"}):
        notes += ("Files in Git LFS are sent as pointers only: use --code origin or the network volume.",)
    return notes


def _subject(root: Path, commit: str) -> str:
    return read_line(root, ["show", "--no-patch", "--format=%s", commit]) or ""


def _on(branch: str | None) -> str:
    return f"on branch {branch!r}" if branch else "on no branch (detached HEAD)"
