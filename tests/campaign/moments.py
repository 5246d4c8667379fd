"""Whether the moment of a strike has come."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from tests.campaign.command_server import Command
from tests.campaign.schedule import Moment

if TYPE_CHECKING:
    from tests.campaign.world import World

CALL_PERIOD_S = 0.08


class Clockwork:
    """Tells which moments of one command have come; files are read again only once they have grown.

    Args:
        world: where it runs.
        command: the command that the moments are counted by.
    """

    def __init__(self, world: World, command: Command) -> None:
        self._world = world
        self._command = command
        self._texts: dict[str, tuple[int, str]] = {}
        self._log_begins = len(self._read("log"))
        self._calls = 0
        self._last_call_at = command.began
        self._asked = 0.0

    def has_come(self, moment: Moment) -> bool:
        """Return whether a moment is now or was."""
        if moment.kind == "time":
            return time.time() - self._command.began >= moment.number
        if moment.kind == "line":
            return self._said().count("\n") >= moment.number
        if moment.kind == "marker":
            return moment.text in self._said()
        if moment.kind == "step":
            return f"> step {moment.number:.0f} " in self._read("log")[self._log_begins :]
        return self._count_calls() >= moment.number

    def _said(self) -> str:
        return self._read("out") + self._read("err")

    def _read(self, name: str) -> str:
        path = {"out": self._command.out, "err": self._command.err, "log": self._world.log_path}[name]
        size_before, text = self._texts.get(name, (0, ""))
        with contextlib.suppress(OSError):
            size = path.stat().st_size
            if size != size_before:
                text = path.read_bytes().decode(errors="replace")
                self._texts[name] = (size, text)
        return text

    def _count_calls(self) -> int:
        """Return how many calls the API has had since the command's start; the cloud is asked now and then."""
        if time.monotonic() - self._asked >= CALL_PERIOD_S:
            self._asked = time.monotonic()
            with contextlib.suppress(OSError, ValueError):
                calls = self._world.project.ask(f"calls?after={self._last_call_at!r}")
                self._calls += len(calls)
                self._last_call_at = max([self._last_call_at, *(call["time"] for call in calls)])
        return self._calls
