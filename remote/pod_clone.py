"""The pod's clone: running git in it, and mending what a killed git left behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from typing import IO, Mapping

from answer import Refused

# MooseFS over FUSE: hard links are refused, so git renames instead; small files are slow, so packs
# stay packs; a collection in the background could outlive the sync. The clone's hooks are none of ours.
_SETTINGS = {
    "core.createObject": "rename",
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "core.safecrlf": "false",
    "advice.detachedHead": "false",
    "color.ui": "false",
    "fetch.unpackLimit": "1",
    "gc.auto": "0",
    "maintenance.auto": "false",
    # A fetch over HTTP that gets nothing for a minute has hung.
    "http.lowSpeedLimit": "1",
    "http.lowSpeedTime": "60",
}
SSH = "ssh -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=20"
_DAMAGE = re.compile(
    r"unresolved delta|missing (blob|tree|commit|object)|bad object|bad tree|object file .* is empty"
    r"|loose object|corrupt|unable to read (tree|sha1|[0-9a-f]{40})|could not parse|is broken"
    r"|pack has bad|index file smaller|bad index file|bad signature|bad ref|invalid sha1 pointer"
    r"|not a git repository|failed to read object|does not match index|reference is not a tree|nonexistent object"
)


class GitFailed(Refused):
    """A git command failed; `is_damage` when it complains about the clone itself."""

    def __init__(self, words: tuple[str, ...], stderr: str) -> None:
        message = f"git {words[0]} failed in the pod's clone: {_first_complaint(stderr)}"
        super().__init__(message, without_password(stderr))
        self.is_damage = bool(_DAMAGE.search(stderr))


class Clone:
    """The clone at `path`; every git command goes through `run` or `attempt`."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)
        self.git_dir = _git_dir(self.path)
        self._variables = _variables(self.path, self.git_dir)

    def environment(self, extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Return the environment of every git in this clone: it never prompts and never looks elsewhere.

        Args:
            extra: variables to add, or to take out where the value is None.
        """
        both = {**self._variables, **(extra or {})}
        return {name: value for name, value in both.items() if value is not None}

    def attempt(
        self, *words: str, stdin: IO[str] | None = None, extra: Mapping[str, str | None] | None = None
    ) -> tuple[int, bytes, str]:
        """Run git and return (exit code, stdout bytes, stderr text)."""
        try:
            done = subprocess.run(
                ["git", *words],
                cwd=self.path,
                env=self.environment(extra),
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise Refused("git is not installed on the pod; prepare.py installs it.") from None
        return done.returncode, done.stdout, done.stderr.decode("utf-8", "replace")

    def run(self, *words: str, extra: Mapping[str, str | None] | None = None) -> str:
        """Run git and return what it printed, without the last newline. Raise GitFailed if it fails."""
        code, stdout, stderr = self.attempt(*words, extra=extra)
        if code != 0:
            raise GitFailed(words, stderr)
        return os.fsdecode(stdout[:-1] if stdout.endswith(b"\n") else stdout)

    def read(self, *words: str) -> str | None:
        """Return the line git printed, or None when it failed."""
        code, stdout, _ = self.attempt(*words)
        return os.fsdecode(stdout).rstrip("\n") if code == 0 else None

    def paths(self, *words: str) -> list[str]:
        """Return the NUL-separated paths git printed."""
        return [path for path in self.run(*words).split("\0") if path]

    def commit_of(self, revision: str) -> str | None:
        """Return the commit that `revision` names, or None."""
        return self.read("rev-parse", "--quiet", "--verify", revision + "^{commit}")

    def has(self, commit: str) -> bool:
        """Say whether the commit is in the clone."""
        return self.attempt("cat-file", "-e", commit + "^{commit}")[0] == 0

    def contains(self, commit: str, tip: str) -> bool:
        """Say whether `commit` is `tip` or one of its ancestors."""
        return commit == tip or self.attempt("merge-base", "--is-ancestor", commit, tip)[0] == 0

    def ensure(self, branch: str) -> None:
        """Make an empty clone, or mend one that was half made, whatever an earlier attempt left."""
        if not self._is_sound():
            self._mend_head(branch)
            self.run("init", "--quiet", "--template=")

    def _is_sound(self) -> bool:
        parts = ("objects", "refs", "config")
        return _reads_as_head(self.git_dir) and all(os.path.exists(os.path.join(self.git_dir, x)) for x in parts)

    def _mend_head(self, branch: str) -> None:
        head = os.path.join(self.git_dir, "HEAD")
        if os.path.isdir(self.git_dir) and not _reads_as_head(self.git_dir):
            with open(head + ".podtasks", "w", encoding="utf-8") as file:
                file.write(f"ref: refs/heads/{branch}\n")
            os.replace(head + ".podtasks", head)

    def mend_ref(self, ref: str, like: str | None = None) -> None:
        """Let a ref whose file a crash left empty name what the ref `like` does; remove it where there is none."""
        path = os.path.join(self.git_dir, *ref.split("/"))
        if not os.path.isfile(path) or _reads_as(r"ref: .|[0-9a-f]{40}", path):
            return
        commit = self.commit_of(like) if like else None
        say(f"{ref} of the clone is broken; " + (f"it is at {commit[:12]} again" if commit else "it is removed"))
        if commit is None:
            os.unlink(path)
            return
        with open(path + ".podtasks", "w", encoding="ascii") as file:
            file.write(commit + "\n")
        os.replace(path + ".podtasks", path)

    def mend_index(self, complaint: str) -> None:
        """Read HEAD into a new index where git cannot read the one that is there."""
        index = os.path.join(self.git_dir, "index")
        if "index" not in complaint or not os.path.exists(index):
            return
        say(f"the clone's index cannot be read and is made anew ({_first_complaint(complaint)})")
        os.unlink(index)
        if self.commit_of("HEAD"):
            self.run("read-tree", "HEAD")

    def refs_beside(self, prefix: str, branch: str) -> list[str]:
        """Return refs under `prefix` that git cannot have beside `branch`, as `a` beside `a/b`."""
        parts = branch.split("/")
        above = {prefix + "/".join(parts[:count]) for count in range(1, len(parts))}
        refs = self.run("for-each-ref", "--format=%(refname)", prefix).splitlines()
        return [ref for ref in refs if ref in above or ref.startswith(f"{prefix}{branch}/")]


def say(text: str) -> None:
    """Tell the person at the other end."""
    print(without_password(text), file=sys.stderr, flush=True)


def without_password(text: str) -> str:
    """Return `text` with the user and password of any URL in it taken out."""
    return re.sub(r"(\w+://)[^/@\s'\"]*:[^/@\s'\"]*@", r"\1***@", text)


def _git_dir(path: str) -> str:
    """Return the clone's git directory; in a linked work tree `.git` is a file that names it."""
    git_dir = os.path.join(path, ".git")
    if os.path.isfile(git_dir):
        with open(git_dir, encoding="utf-8", errors="surrogateescape") as file:
            prefix, _, place = file.read().rstrip("\n").partition(": ")
        if prefix == "gitdir":
            return os.path.join(path, place)
    return git_dir


def _variables(path: str, git_dir: str) -> dict[str, str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_CONFIG_")}
    for name in ("GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_NAMESPACE", "SSH_ASKPASS"):
        variables.pop(name, None)
    settings = dict(_SETTINGS, **{"safe.directory": path})
    for number, (name, value) in enumerate(sorted(settings.items())):
        variables[f"GIT_CONFIG_KEY_{number}"] = name
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    variables.update(
        GIT_CONFIG_COUNT=str(len(settings)),
        GIT_DIR=git_dir,
        GIT_WORK_TREE=path,
        GIT_TERMINAL_PROMPT="0",
        GIT_ASKPASS="",
        GIT_LITERAL_PATHSPECS="1",
        GIT_SSH_COMMAND=os.environ.get("GIT_SSH_COMMAND", SSH),
        LC_ALL="C",
        LANGUAGE="",
    )
    variables.update(_trust(path))
    return variables


def _trust(path: str) -> dict[str, str]:
    """Return what makes git trust a clone that somebody else owns: chown is refused on a network volume.

    Ubuntu 22.04's git 2.34 reads safe.directory from files only, so one that includes the user's own is made.
    """
    if not os.path.exists(path) or os.stat(path).st_uid == os.geteuid():
        return {}
    own = os.environ.get("GIT_CONFIG_GLOBAL", os.path.expanduser("~/.gitconfig"))
    file_name = os.path.join(tempfile.gettempdir(), f"podtasks-gitconfig-{os.geteuid()}")
    descriptor, unique = tempfile.mkstemp(prefix="podtasks-gitconfig-")
    quoted = own.replace("\\", "\\\\").replace('"', '\\"')
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f'[safe]\n\tdirectory = *\n[include]\n\tpath = "{quoted}"\n')
    os.replace(unique, file_name)
    return {"GIT_CONFIG_GLOBAL": file_name}


def _reads_as_head(git_dir: str) -> bool:
    return _reads_as(r"ref: refs/heads/.|[0-9a-f]{40}", os.path.join(git_dir, "HEAD"))


def _reads_as(pattern: str, path: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return bool(re.match(pattern, file.read()))
    except OSError:
        return False


def _first_complaint(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines
    return without_password(telling[0]) if telling else "it gave no reason"
