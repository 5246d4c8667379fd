"""Running git on this machine: one place for its environment, its errors and its quoting rules."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from podtasks.pure.errors import CodeError

# What a surrounding git (a hook, `git rebase --exec`) exports, and what would point us at its repository.
_FOREIGN_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_PREFIX",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_EXTERNAL_DIFF",
)
# Settings of the user that would change what git prints or make a reading command write.
_SETTINGS = ("core.quotePath=false", "color.ui=false", "log.showSignature=false", "core.safecrlf=false")


def git_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment git runs in: no prompts, English messages, literal paths, no index refresh."""
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN_VARIABLES}
    environment.update(
        GIT_TERMINAL_PROMPT="0", GIT_OPTIONAL_LOCKS="0", GIT_LITERAL_PATHSPECS="1", LC_ALL="C", LANGUAGE=""
    )
    environment.update(extra or {})
    return environment


def git_words(*words: str) -> list[str]:
    """Return the argument list of a git command with the settings that keep its output readable."""
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    return ["git", *settings, *words]


def try_git(
    root: Path,
    words: Sequence[str],
    *,
    stdin: bytes = b"",
    extra: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run git in `root` and return how it went, whatever its exit code.

    Raises:
        CodeError: git is not installed, or `root` cannot be entered.
        subprocess.TimeoutExpired: it took longer than `timeout_s`.
    """
    try:
        return subprocess.run(
            git_words(*words),
            cwd=root,
            env=git_environment(extra),
            input=stdin,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        if not root.is_dir():
            raise CodeError(f"There is no directory {root}.", next_step="check the path") from error
        raise CodeError("git is not installed.", next_step="install git, then the same command again") from error


def run_git(root: Path, words: Sequence[str], *, stdin: bytes = b"", extra: Mapping[str, str] | None = None) -> str:
    """Run git in `root` and return what it printed; bytes that are no UTF-8 survive as surrogates.

    Raises:
        CodeError: git failed; the error carries its own words.
    """
    done = try_git(root, words, stdin=stdin, extra=extra)
    if done.returncode != 0:
        raise CodeError(
            f"git {words[0]} failed in {root}: {last_words(done.stderr)}",
            next_step=f"git {words[0]} in that directory shows more",
        )
    return os.fsdecode(done.stdout)


def read_line(root: Path, words: Sequence[str]) -> str | None:
    """Return the one line git printed, or None when it failed."""
    done = try_git(root, words)
    return os.fsdecode(done.stdout).removesuffix("\n") if done.returncode == 0 else None


def last_words(stderr: bytes) -> str:
    """Return the lines of git's complaint that say what is wrong, on one line, without secrets."""
    lines = [line.strip() for line in os.fsdecode(stderr).splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-2:]
    return without_password("; ".join(telling[:3])) or "it gave no reason"


def without_password(text: str) -> str:
    """Return `text` with the user and password of any URL in it taken out."""
    return re.sub(r"(\w+://)[^/@\s'\"]*:[^/@\s'\"]*@", r"\1***@", text)
