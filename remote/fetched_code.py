"""Fetching from the repository's own remote, and its failures in words a user can act on."""

from __future__ import annotations

import os
import re
from typing import Any, Mapping

from answer import Refused
from pod_clone import Clone, GitFailed, say, without_password

# What git's complaint looks like, and what to say.
_FAILURES = (
    (
        r"Host key verification failed",
        "The pod does not know the host key of {url}. Write the host's line into ~/.ssh/known_hosts "
        "on the pod (for example from the file of that name on your machine), or use an https:// "
        "address, or --code local, which needs no access from the pod.",
    ),
    (
        r"Permission denied|publickey",
        "{url} refused the pod's SSH keys; none is stored there on purpose. Forward your agent (`ssh-add -l` "
        "must list the key), or use --code local, which needs no access from the pod.",
    ),
    (
        r"could not read (Username|Password)|Authentication failed|terminal prompts disabled|error: 40[13]",
        "{url} asks for a login, and the pod has none. Use --code local, which needs no access from "
        "the pod, or an SSH address and a forwarded agent.",
    ),
    (r"[Cc]ouldn't find remote ref", "There is no branch {branch!r} at {url}. Push it, then run this again."),
    (
        r"[Nn]ot found|does not appear to be a git repository|does not exist",
        "There is no repository at {url}, or the pod may not see it. Check the setting repository, or use --code "
        "local.",
    ),
)


def fetch(clone: Clone, request: Mapping[str, Any]) -> None:
    """Get the commit: with its branch, or by its name where the branch has moved away from it.

    Raises:
        Refused: the remote cannot be reached, refuses us, or does not have the commit.
    """
    branch, commit, url = request["branch"], request["commit"], without_password(request["url"])
    password = _set_origin(clone, request["url"])
    if clone.has(commit):
        return
    say(f"fetching {branch} from {url}")
    _remove_conflicting(clone, branch)
    words = ("fetch", "--quiet", "--force", "--no-recurse-submodules", "origin")
    target = f"+refs/heads/{branch}:refs/remotes/origin/{branch}"
    code, _, stderr = clone.attempt(*words, target, extra=password)
    if code != 0:
        raise _explain(branch, url, stderr)
    if not clone.has(commit) and clone.attempt(*words, commit, extra=password)[0] != 0:
        raise Refused(
            f"Commit {commit} is not on branch {branch!r} at {url}; perhaps it was force-pushed away. "
            "Push it and run this again, or send it with --code local."
        )


def update_submodules(clone: Clone) -> None:
    """Bring the submodules, if there are any, to the commits that the checked-out code names."""
    if not os.path.exists(os.path.join(clone.path, ".gitmodules")):
        return
    own = dict.fromkeys(("GIT_DIR", "GIT_WORK_TREE", "GIT_LITERAL_PATHSPECS"))
    code, _, stderr = clone.attempt("submodule", "--quiet", "update", "--init", "--recursive", extra=own)
    if code != 0:
        raise _explain("of a submodule", "a submodule's address", stderr)


def _set_origin(clone: Clone, url: str) -> dict[str, str]:
    """Set the remote `origin` without the password: nothing secret is to lie on the volume.

    Returns:
        The environment that puts the password back for one fetch.
    """
    public = re.sub(r"^(\w+://)[^/@]*:[^/@]*@", r"\1", url)
    for name, value in (("url", public), ("fetch", "+refs/heads/*:refs/remotes/origin/*")):
        if clone.read("config", "--local", "--get-all", f"remote.origin.{name}") != value:
            clone.run("config", "--local", "--replace-all", f"remote.origin.{name}", value)
    if public == url:
        return {}
    count = int(clone.environment()["GIT_CONFIG_COUNT"])
    return {
        "GIT_CONFIG_COUNT": str(count + 1),
        f"GIT_CONFIG_KEY_{count}": f"url.{url}.insteadOf",
        f"GIT_CONFIG_VALUE_{count}": public,
    }


def _remove_conflicting(clone: Clone, branch: str) -> None:
    for ref in clone.refs_beside("refs/remotes/origin/", branch):
        clone.run("update-ref", "--no-deref", "-d", ref)


def _explain(branch: str, url: str, stderr: str) -> Refused:
    for pattern, text in _FAILURES:
        if re.search(pattern, stderr):
            return Refused(text.format(branch=branch, url=url), without_password(stderr))
    failure = GitFailed(("fetch",), stderr)
    if failure.is_damage:
        return failure
    reason = str(failure).split(": ", 1)[-1]
    return Refused(f"{url} cannot be fetched from: {reason}. Try again, or use --code local.", without_password(stderr))
