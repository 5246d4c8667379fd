#!/usr/bin/env python3
"""Put the pod's clone on a branch at an exact commit, losing nothing that somebody changed there.

In: {"clone", "code": "origin"|"local", "url", "branch", "commit", "shallow": [commits], "pack": bool,
"known_hosts": [lines]}; with "pack" a git pack follows; "known_hosts" are the SSH host keys to trust.
Out: {"commit", "cloned", "changed", "patch", "kept_ref", "overwritten"}; refused with "set_aside", a
path, where a damaged clone was moved out of the way and the code must be sent whole.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
from typing import Any, Mapping

import answer
from answer import Refused
from fetched_code import fetch, trusted_hosts, update_submodules
from pod_clone import Clone, GitFailed, say
from pod_environ import volume_directory
from saved_edits import SavedEdits, edited_paths, read_marker, remove_marker, write_marker
from stale_locks import remove_stale_locks

_KEPT = "refs/podtasks/kept/"


def sync(request: Mapping[str, Any], volume: str) -> dict[str, Any]:
    """Given the request described above, carry it out and return the answer.

    It can be killed at any point and run again.

    Raises:
        Refused: the clone could not be put there; nothing of the user's was lost.
    """
    clone = Clone(request["clone"])
    _check(clone, request)
    try:
        return _sync_once(clone, volume, request)
    except GitFailed as failure:
        if not failure.is_damage or not os.path.isdir(clone.git_dir):
            raise
        aside = SavedEdits(clone, volume).set_git_aside()
        say(f"{failure}; the clone was damaged, and its .git is kept in {aside}")
        if request["code"] == "origin":
            return _sync_once(clone, volume, request)
        raise Refused(
            f"The pod's clone was damaged; its .git is kept in {aside}.",
            str(failure.answer["detail"]),
            set_aside=str(aside),
        ) from None


def _check(clone: Clone, request: Mapping[str, Any]) -> None:
    branch = request["branch"]
    if not _is_object_name(request["commit"]):
        raise Refused("{!r} is not a full commit name.".format(request["commit"]))
    if os.path.lexists(clone.path) and not os.path.isdir(clone.path):
        raise Refused(f"{clone.path} on the pod is a file; the clone cannot be made there.")
    os.makedirs(clone.path, exist_ok=True)
    is_bad = branch.startswith("-") or branch == "HEAD" or "\0" in branch
    if is_bad or clone.attempt("check-ref-format", f"refs/heads/{branch}")[0] != 0:
        raise Refused(f"{branch!r} is not a name git allows for a branch.")
    if request["code"] == "origin" and not request.get("url"):
        raise Refused("No repository URL was given to fetch from.")


def _sync_once(clone: Clone, volume: str, request: Mapping[str, Any]) -> dict[str, Any]:
    with trusted_hosts(request.get("known_hosts") or []) as access:
        return _sync_with(clone, volume, request, access)


def _sync_with(clone: Clone, volume: str, request: Mapping[str, Any], access: Mapping[str, str]) -> dict[str, Any]:
    branch, commit, is_origin = request["branch"], request["commit"], request["code"] == "origin"
    clone.ensure(branch)
    remove_stale_locks(clone)
    clone.mend_ref(_synced_ref(branch))
    clone.mend_ref(f"refs/heads/{branch}", like=_synced_ref(branch))
    outcome = {"commit": commit, "cloned": False, "changed": False}
    outcome.update({"patch": None, "kept_ref": None, "overwritten": []})
    if request.get("pack") or not _is_there(clone, branch, commit):
        if is_origin:
            fetch(clone, request, access)
        else:
            _receive(clone, request)
        _require_whole(clone, commit)
        outcome.update(_move_to(clone, SavedEdits(clone, volume), branch, commit))
    if is_origin:
        update_submodules(clone, access)
    return outcome


def _is_there(clone: Clone, branch: str, commit: str) -> bool:
    """Say whether nothing is to be done: on the branch, at the commit, no tracked file changed."""
    words = [
        "status",
        "--porcelain=v2",
        "--branch",
        "-z",
        "--untracked-files=no",
        "--no-renames",
        "--ignore-submodules=all",
    ]
    code, stdout, stderr = clone.attempt(*words)
    if code != 0:
        clone.mend_index(stderr)
        return False
    entries = [entry for entry in os.fsdecode(stdout).split("\0") if entry]
    head = dict(line.split(" ", 2)[1:] for line in entries if line.startswith("# "))
    if read_marker(clone) or head.get("branch.oid") != commit or head.get("branch.head") != branch:
        return False
    return all(line.startswith("# ") for line in entries) or not edited_paths(clone)


def _receive(clone: Clone, request: Mapping[str, Any]) -> None:
    if request.get("pack"):
        code, _, stderr = clone.attempt("index-pack", "--stdin", "--fix-thin", stdin=sys.stdin)
        if code != 0 and re.search("early EOF|unexpected disconnect|premature end|eof before pack", stderr):
            raise Refused("The transfer of the code broke off. Run the same command again.", stderr)
        if code != 0:
            raise GitFailed(("index-pack",), stderr)
    _note_shallow(clone, request.get("shallow") or [])
    if not clone.has(request["commit"]):
        commit = request["commit"]
        raise Refused(f"Commit {commit} is not in the pod's clone and was not sent. Run the same command again.")


def _note_shallow(clone: Clone, commits: list[str]) -> None:
    """Tell git where the sender's history is cut off, but only where the parents are not here anyway."""
    path = os.path.join(clone.git_dir, "shallow")
    known = set()
    if os.path.exists(path):
        with open(path, encoding="ascii") as file:
            known = set(file.read().split())
    new = {commit for commit in commits if _is_object_name(commit)} - known
    cut_off = {commit for commit in new if _lacks_parents(clone, commit)}
    if cut_off:
        with open(path + ".podtasks", "w", encoding="ascii") as file:
            file.writelines(commit + "\n" for commit in sorted(known | cut_off))
        os.replace(path + ".podtasks", path)


def _lacks_parents(clone: Clone, commit: str) -> bool:
    code, text, _ = clone.attempt("cat-file", "commit", commit)
    header = text.split(b"\n\n")[0].decode("utf-8", "replace").splitlines() if code == 0 else []
    return any(line.startswith("parent ") and not clone.has(line.split()[1]) for line in header)


def _require_whole(clone: Clone, commit: str) -> None:
    """Check that every file of the commit is here, and that what HEAD names is. Raise GitFailed if not."""
    clone.run("rev-list", "--objects", "--no-walk", "--quiet", commit, "--")
    head = clone.read("rev-parse", "--quiet", "--verify", "HEAD")
    if head and not clone.has(head):
        raise GitFailed(("rev-parse",), f"fatal: bad object HEAD: {head} cannot be read")


def _move_to(clone: Clone, saved: SavedEdits, branch: str, commit: str) -> dict[str, Any]:
    """Save what would be lost, then check out. Return what the answer tells of it."""
    head, earlier = clone.commit_of("HEAD"), read_marker(clone)
    outcome = {
        "commit": commit,
        "cloned": head is None,
        "changed": head != commit or bool(earlier),
        "patch": saved.save_tracked() or earlier.get("patch"),
        "kept_ref": _keep_commits(clone, branch, commit) or earlier.get("kept_ref"),
        "overwritten": (earlier.get("overwritten") or []) + saved.move_untracked(commit),
    }
    write_marker(clone, outcome)
    _check_out(clone, branch, commit)
    remove_marker(clone)
    return outcome


def _keep_commits(clone: Clone, branch: str, commit: str) -> str | None:
    """Keep commits that only the branch about to be moved, or a detached HEAD, holds.

    Not those that we put there ourselves.

    Returns:
        The name of the ref that keeps them, or None.
    """
    kept, sent = None, clone.commit_of(_synced_ref(branch))
    tips = [clone.commit_of(f"refs/heads/{branch}")]
    if clone.read("symbolic-ref", "--quiet", "HEAD") is None:
        tips.append(clone.commit_of("HEAD"))
    for tip in tips:
        if tip and tip != sent and not clone.contains(tip, commit):
            kept = _keep(clone, tip)
    return kept


def _keep(clone: Clone, commit: str) -> str:
    clone.run("update-ref", _KEPT + commit, commit)
    say(f"commit {commit[:12]} in the pod's clone is not part of the new code; it is kept as {_KEPT}{commit}")
    return _KEPT + commit


def _check_out(clone: Clone, branch: str, commit: str) -> None:
    head = clone.commit_of("HEAD")
    if head and clone.read("symbolic-ref", "--quiet", "HEAD") != f"refs/heads/{branch}":
        clone.run("update-ref", "--no-deref", "HEAD", head)  # or git would refuse to remove the branch below
    for ref in clone.refs_beside("refs/heads/", branch):
        _keep(clone, clone.run("rev-parse", ref))
        clone.run("update-ref", "--no-deref", "-d", ref)
    words = ["checkout", "--quiet", "--force", "--no-track", "--ignore-other-worktrees", "-B"]
    clone.run(*words, branch, commit, "--")
    clone.run("update-ref", _synced_ref(branch), commit)


def _synced_ref(branch: str) -> str:
    """Return the ref that remembers what we last put on the branch."""
    return "refs/podtasks/synced/" + hashlib.sha256(os.fsencode(branch)).hexdigest()[:16]


def _is_object_name(text: str) -> bool:
    return bool(re.match(r"([0-9a-f]{40}|[0-9a-f]{64})\Z", text))


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    try:
        answer.give(sync(request, volume_directory()))
    except OSError as error:
        raise Refused("The code could not be written on the pod.", str(error)) from error


if __name__ == "__main__":
    sys.exit(answer.run(main))
