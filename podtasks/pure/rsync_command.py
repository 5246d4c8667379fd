"""rsync's command line, for one part of a transfer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from podtasks.pure.rsync_output import FILE_FORMAT, PARTIAL_FOLDER
from podtasks.pure.rsync_parts import RsyncPart

SILENCE_LIMIT_S = 120
OPTIONS = (
    # Names reach the other side as they are: no shell there reads them.
    "--secluded-args",
    "--times",
    # Links are followed, as the search for local files did.
    "--copy-links",
    # A network volume is MooseFS and refuses chown.
    "--no-owner",
    "--no-group",
    "--no-perms",
    # Folders there keep what they are, links to folders too.
    "--no-implied-dirs",
    "--omit-dir-times",
    # An interrupted file goes on; the unfinished one is never taken for the whole.
    f"--partial-dir={PARTIAL_FOLDER}",
    f"--timeout={SILENCE_LIMIT_S}",
    "--outbuf=L",
    "--8-bit-output",
    "--no-human-readable",
    "--info=progress2",
    f"--out-format={FILE_FORMAT}",
)


def build_upload_words(
    part: RsyncPart, ssh_words: Sequence[str], destination: str, *, dry_run: bool = False
) -> list[str]:
    """Return the words that copy a part to the pod; its names come on standard input, each ended by a NUL."""
    slash = "" if part.is_renamed else "/"
    return [*_begin(part, ssh_words, dry_run), part.source + slash, f"{_host(destination)}:{part.target}{slash}"]


def build_download_words(part: RsyncPart, ssh_words: Sequence[str], destination: str) -> list[str]:
    """Return the words that copy a part from the pod; its names come on standard input, each ended by a NUL."""
    return [*_begin(part, ssh_words, dry_run=False), f"{_host(destination)}:{part.source}/", f"{part.target}/"]


def list_names(part: RsyncPart) -> Iterator[str]:
    """Yield what stands in a part's list; a file that gets another name is named by the words themselves."""
    if not part.is_renamed:
        # rsync passes over lines that begin with # or ; even where they end with NUL.
        yield from (f"./{name}" for name in part.sizes)


def join_remote_shell(words: Sequence[str]) -> str:
    """Return words as rsync's option --rsh splits them: at spaces, quoted by ' which is doubled inside. rsync(1)."""
    return " ".join(_quote(word) for word in words)


def _begin(part: RsyncPart, ssh_words: Sequence[str], dry_run: bool) -> list[str]:
    more = ["--dry-run"] if dry_run else []
    more += ["--compress"] if part.compresses else []
    # A file that gets another name is named by itself; a list would keep its name.
    more += [] if part.is_renamed else ["--files-from=-", "--from0"]
    return ["rsync", *OPTIONS, *more, f"--rsh={join_remote_shell(ssh_words)}", "--"]


def _host(destination: str) -> str:
    user, _, host = destination.rpartition("@")
    return f"{user}@[{host}]" if ":" in host else destination


def _quote(word: str) -> str:
    return "'" + word.replace("'", "''") + "'" if set(word) & set(" \t\"'") else word
