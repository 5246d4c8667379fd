"""One rsync of a transfer, begun again where its link broke, and judged by what it left behind."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from podtasks.doors import rsync
from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.pure import rsync_output
from podtasks.pure.errors import PodtasksError, RemoteCommandError, TransportError
from podtasks.pure.rsync_command import list_names
from podtasks.pure.rsync_output import FileMoved, find_general_reason, parse_complaints
from podtasks.pure.rsync_parts import RsyncPart
from podtasks.pure.rsync_track import RsyncTrack
from podtasks.pure.transfer import ProgressBar, Tally

# A broken link is made again after these pauses in seconds.
PAUSES_S = (1.0, 3.0, 9.0, 27.0)

WordsBuilder = Callable[[RsyncPart], list[str]]


def carry_part(
    part: RsyncPart,
    build: WordsBuilder,
    find_left: Callable[[RsyncPart], list[str]],
    progress: ProgressBar,
    report: Reporter,
    clock: Clock,
) -> Tally:
    """Copy one part; a broken link is made again, and rsync goes on where it was.

    Args:
        build: returns rsync's words for the part.
        find_left: returns which of its files have not arrived, where rsync does not name them all.

    Raises TransportError when the link breaks again and again, RemoteCommandError for what stops rsync as a whole.
    """
    track = RsyncTrack(part, progress)
    for pause_s in (*PAUSES_S, None):
        track.begin()
        outcome = rsync.run_rsync(build(part), list_names(part), track.hear)
        if outcome.exit_code not in rsync_output.LINK_BROKEN:
            break
        if pause_s is None:
            raise _link_broken(outcome)
        why = rsync_output.last_words(outcome.stderr)
        report.note(f"the link broke ({why}); going on in {pause_s:.0f} s")
        clock.sleep(pause_s)
    return track.end(_judge(part, outcome, find_left))


def _judge(
    part: RsyncPart, outcome: rsync.RsyncOutcome, find_left: Callable[[RsyncPart], list[str]]
) -> dict[str, str]:
    """Return the files of a part that stayed behind, and why. Raises what stopped rsync as a whole."""
    if outcome.exit_code == 0:
        return {}
    if outcome.exit_code in rsync_output.INCOMPLETE:
        complaints = parse_complaints(outcome.stderr, (part.source, part.target))
        general = find_general_reason(outcome.stderr)
        left = {*find_left(part), *(complaints.keys() & part.sizes.keys())}
        return {name: complaints.get(name, general) for name in sorted(left)}
    if outcome.exit_code in (rsync_output.INTERRUPTED, -2, -15):
        raise KeyboardInterrupt
    raise RemoteCommandError(
        f"rsync failed with exit code {outcome.exit_code}: {rsync_output.last_words(outcome.stderr)}",
        means="What was copied before stays.",
        next_step="the same command goes on where it was",
    )


def find_left_here(part: RsyncPart, dry_run_words: list[str]) -> list[str]:
    """Return what is not on the volume after an upload: what rsync would still send, and what cannot be read here."""
    wanted: list[str] = []

    def hear(line: bytes) -> None:
        news = rsync_output.parse_line(line)
        if isinstance(news, FileMoved):
            wanted.append(news.name)

    if part.is_renamed:
        return list(part.sizes)
    outcome = rsync.run_rsync(dry_run_words, list_names(part), hear)
    if outcome.exit_code not in (0, *rsync_output.INCOMPLETE):
        raise _link_broken(outcome)
    left = {*wanted, *(name for name in part.sizes if not os.path.isfile(os.path.join(part.source, name)))}
    return sorted(left & part.sizes.keys())


def find_left_there(part: RsyncPart) -> list[str]:
    """Return what is not here after a download."""
    return [name for name, size in part.sizes.items() if not _has_size(Path(part.target) / name, size)]


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except OSError:
        return False


def _link_broken(outcome: rsync.RsyncOutcome) -> PodtasksError:
    return TransportError(
        f"The SSH link to the pod broke again and again: {rsync_output.last_words(outcome.stderr)}.",
        means="What was copied is there; an unfinished file is kept in part.",
        next_step="run the same command again: it goes on where it was",
    )
