"""Fetching from the repository's own remote, and its failures in words a user can act on."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import tempfile
from typing import Any, Iterable, Iterator, Mapping

from answer import Refused
from pod_clone import SSH, Clone, GitFailed, say, without_password

# What git's complaint looks like, and what to say.
_FAILURES = (
    (
        r"Host key verification failed",
        "The pod does not know the host key of {url}. It takes the one your machine knows: log in to that "
        "host once from there (for example ssh -T git@github.com), or use an https:// address, or --code local, "
        "which needs no access from the pod.",
    ),
    (
        r"Permission denied|publickey",
        "{url} refused the pod's SSH keys; none is stored there on purpose. Forward your agent (the setting "
        "forward_agent; ssh-add -l must list the key), or use --code local, which needs no access from the pod.",
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


@contextlib.contextmanager
def trusted_hosts(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Make SSH trust the hosts of these known_hosts lines, beside those that the pod knows.

    Returns:
        The variables that git needs for it, while the context lasts.
    """
    if "GIT_SSH_COMMAND" in os.environ:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="podtasks-") as folder:
        path = os.path.join(folder, "known_hosts")
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
        escaped = path.replace("%", "%%")  # ssh_config(5), TOKENS
        files = shlex.quote(f'UserKnownHostsFile="{escaped}" ~/.ssh/known_hosts')
        yield {"GIT_SSH_COMMAND": f"{SSH} -o {files}"}


def fetch(clone: Clone, request: Mapping[str, Any], access: Mapping[str, str]) -> None:
    """Get the commit: with its branch, or by its name where the branch has moved away from it.

    Args:
        access: variables for git, from `trusted_hosts`.

    Raises:
        Refused: the remote cannot be reached, refuses us, or does not have the commit.
    """
    branch, commit, url = request["branch"], request["commit"], without_password(request["url"])
    _set_origin(clone, request["url"])
    if clone.has(commit):
        return
    say(f"fetching {branch} from {url}")
    _remove_conflicting(clone, branch)
    words = ("fetch", "--quiet", "--force", "--no-recurse-submodules", "origin")
    target = f"+refs/heads/{branch}:refs/remotes/origin/{branch}"
    code, _, stderr = clone.attempt(*words, target, extra=access)
    if code != 0:
        raise _explain(branch, url, stderr)
    if not clone.has(commit) and clone.attempt(*words, commit, extra=access)[0] != 0:
        raise Refused(
            f"Commit {commit} is not on branch {branch!r} at {url}; perhaps it was force-pushed away. "
            "Push it and run this again, or send it with --code local."
        )


def update_submodules(clone: Clone, access: Mapping[str, str]) -> None:
    """Bring the submodules, if there are any, to the commits that the checked-out code names.

    Args:
        access: variables for git, from `trusted_hosts`.
    """
    if not os.path.exists(os.path.join(clone.path, ".gitmodules")):
        return
    own: dict[str, str | None] = dict.fromkeys(("GIT_DIR", "GIT_WORK_TREE", "GIT_LITERAL_PATHSPECS"))
    own.update(access)
    code, _, stderr = clone.attempt("submodule", "--quiet", "update", "--init", "--recursive", extra=own)
    if code != 0:
        raise _explain("of a submodule", "a submodule's address", stderr)


def _set_origin(clone: Clone, url: str) -> None:
    for name, value in (("url", url), ("fetch", "+refs/heads/*:refs/remotes/origin/*")):
        if clone.read("config", "--local", "--get-all", f"remote.origin.{name}") != value:
            clone.run("config", "--local", "--replace-all", f"remote.origin.{name}", value)


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
