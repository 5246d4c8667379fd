"""Packs of local commits, streamed to whoever writes them to the pod."""

from __future__ import annotations

import contextlib
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from podtasks.doors.git_command import git_environment, git_words, last_words, run_git
from podtasks.pure.errors import CodeError


@contextlib.contextmanager
def open_pack(root: Path, commit: str, have: Iterable[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run `git pack-objects` for `commit`; its `stdout` streams the pack. Ends the process on the way out.

    Args:
        have: commits the receiver has; those not known here are passed over.

    Raises:
        CodeError: after the block, when the whole pack was read but git had failed.
    """
    wanted = "".join(f"{line}\n" for line in [commit, *(f"^{known}" for known in _known(root, have))])
    words = git_words("pack-objects", "--revs", "--stdout", "--thin", "--delta-base-offset", "-q")
    with subprocess.Popen(
        words,
        cwd=root,
        env=git_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(wanted.encode())
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            yield process
            was_read = process.stdout.closed or not process.stdout.read(1)
            complaint = process.stderr.read() if was_read else b""
            if complaint and process.wait() != 0:
                raise CodeError(
                    f"git could not pack {commit[:12]}: {last_words(complaint)}.",
                    next_step="git fsck, then the same command again",
                )
        finally:
            if process.poll() is None:
                process.kill()


def _known(root: Path, have: Iterable[str]) -> list[str]:
    asked = [commit for commit in have if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit)]
    if not asked:
        return []
    stdin = "".join(f"{commit}\n" for commit in asked).encode()
    answers = run_git(root, ["cat-file", "--batch-check"], stdin=stdin, extra={"GIT_NO_LAZY_FETCH": "1"})
    return [words[0] for words in map(str.split, answers.splitlines()) if words[1:2] == ["commit"]]
