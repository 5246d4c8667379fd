"""What of one part of a transfer has gone through, as rsync tells it line by line."""

from __future__ import annotations

from podtasks.pure.rsync_output import BytesMoved, FileMoved, parse_line
from podtasks.pure.rsync_parts import RsyncPart
from podtasks.pure.transfer import ProgressBar, Tally


class RsyncTrack:
    """What has gone through of one part, told to the progress bar as it goes."""

    def __init__(self, part: RsyncPart, progress: ProgressBar) -> None:
        self._part = part
        self._progress = progress
        self._sent: dict[str, int] = {}
        self._before_bytes = self._whole_bytes = self._moved_bytes = self._told_bytes = 0

    def begin(self) -> None:
        """Take back what was on its way when the rsync before this one ended."""
        self._before_bytes = sum(self._sent.values())
        self._whole_bytes = self._moved_bytes = 0
        self._tell()

    def hear(self, line: bytes) -> None:
        """Take in one line of rsync's output."""
        news = parse_line(line)
        if isinstance(news, BytesMoved):
            self._moved_bytes = news.size_bytes
            self._tell()
        elif isinstance(news, FileMoved):
            # A renamed file has one name here and another there; it is known by its place.
            name = next(iter(self._part.sizes)) if self._part.is_renamed else news.name
            self._before_bytes -= self._sent.get(name, 0)
            is_new = name not in self._sent
            self._sent[name] = news.size_bytes
            self._whole_bytes += news.size_bytes
            self._tell(files=int(is_new))

    def end(self, failures: dict[str, str]) -> Tally:
        """Return what came of the part, given the files that stayed behind and why."""
        sent = {name: size for name, size in self._sent.items() if name not in failures}
        there = {name: size for name, size in self._part.sizes.items() if name not in failures and name not in sent}
        self._progress.add(
            files=len(sent) + len(there) - len(self._sent),
            size_bytes=sum(sent.values()) + sum(there.values()) - self._told_bytes,
        )
        return Tally(len(sent), sum(sent.values()), len(there), sum(there.values()), list(failures.items()))

    def _tell(self, files: int = 0) -> None:
        reached = self._before_bytes + max(self._whole_bytes, self._moved_bytes)
        if files or reached != self._told_bytes:
            self._progress.add(files=files, size_bytes=reached - self._told_bytes)
        self._told_bytes = reached
