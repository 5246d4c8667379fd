"""What came of a transfer, in words."""

from __future__ import annotations

from collections.abc import Sequence

from podtasks.pure.amounts import format_bytes, format_count, format_files
from podtasks.pure.errors import TransferError
from podtasks.pure.transfer import Tally

NAMED = 20
VERBS = {"sent": "send", "fetched": "fetch"}


def describe_tally(done: str, tally: Tally, there_before: str, elapsed_s: float) -> str:
    """Return in one line what was copied and how fast: `done` is "sent" or "fetched"."""
    if not (tally.sent_files or tally.failures) and tally.skipped_files:
        whole = f"all {format_files(tally.skipped_files)} are" if tally.skipped_files > 1 else "the one file is"
        return f"nothing to {VERBS[done]}: {whole} {there_before} already"
    if not (tally.sent_files or tally.failures or tally.skipped_files):
        return f"nothing was {done}"
    rate = format_bytes(tally.sent_bytes / elapsed_s if elapsed_s > 0 else 0)
    return (
        f"{done} {format_files(tally.sent_files)}, {format_bytes(tally.sent_bytes)} ({rate}/s); "
        f"{format_count(tally.skipped_files)} {'was' if tally.skipped_files == 1 else 'were'} {there_before} already"
    )


def require_all_arrived(failures: Sequence[tuple[str, str]], files: int) -> None:
    """Raise TransferError that names the files that did not arrive, of `files` in all, where there are any."""
    if not failures:
        return
    named = "".join(f"\n  {name}: {why}" for name, why in failures[:NAMED])
    more = f"\n  and {format_count(len(failures) - NAMED)} more" if len(failures) > NAMED else ""
    raise TransferError(
        f"{format_count(len(failures))} failed, of {format_files(files)}:{named}{more}",
        means="All others have arrived." if files > len(failures) else "",
        next_step="mend what is named, then the same command again: it sends only what is missing",
    )
