"""One training project on its own local cloud, in which many seeds are played one after the other."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tests.campaign import pipeline
from tests.campaign.command_server import Command, CommandServer
from tests.campaign.schedule import Plan
from tests.campaign.strike import Missed
from tests.end_to_end.project import ROOT, TrainingProject, descendants

SECRET_TEXT = "sentinel-c0ffee"
VOLUME_SIZE_MB = 24
IDENTITY = """\
# Mine: do not touch this line.
RUNPOD_API_KEY={key}
NETWORK_VOLUME_ID={volume_id}

POD_ID=
SSH_KEY_PATH={ssh_key}
RUNPOD_API_BASE_URL={url}   # the local cloud, taken for RunPod
"""
MINE = "mine"
JOURNAL = f"{MINE}/journal"
NOT_TIDIED = frozenset({"cloud", "local_key", "local_key.pub", ".gitignore"})

Reading = TypeVar("Reading")


class World:
    """A project, a cloud, the command that trains there, and the timeline of the seed being played.

    Args:
        folder: an empty folder for it, on a short path.
        code: the checkout whose podtasks/ and remote/ are used; mutants have one of their own.
    """

    def __init__(self, folder: Path, code: Path = ROOT) -> None:
        self.code = code
        self.name = f"w{os.getpid()}-{folder.name}"[-40:]
        self.project = TrainingProject.make(folder / "my project")
        self.began = time.time()
        self.timeline: list[tuple[float, str]] = []
        self.commands: list[Command] = []
        self.plan: Plan | None = None
        self._mounted: Path | None = None
        self._server: CommandServer | None = None
        self._is_used = False

    # What strikes may use.

    @property
    def command(self) -> Command:
        """The `inv train` that is struck: the newest that this seed started with `start`."""
        if not self.commands:
            raise Missed("no command was started yet")
        return self.commands[-1]

    def start_again(self) -> Command:
        """Start a second `inv train` beside the running one; it counts as a command of this seed."""
        return self.start(*self.train_words(), beside=True)

    def restart_cloud(self) -> None:
        """Kill the emulator and start it again on its state; its pods go on meanwhile."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.project.server()["pid"], signal.SIGKILL)
        if self.project.cloud is not None:
            self.project.cloud.wait()
        (self.project.path / ".podtasks/cloud/server.json").unlink(missing_ok=True)
        self.project.start_cloud()

    def fill_volume(self, *, leave_bytes: int = 0) -> None:
        """Fill the network volume but for some bytes; raises Missed where it is no small disk of its own."""
        if self._mounted is None:
            raise Missed("the volume is no disk of its own here")
        free = self.free_bytes() - leave_bytes
        with open(self.project.volume / "filler", "ab") as filler:
            with contextlib.suppress(OSError):
                os.posix_fallocate(filler.fileno(), os.fstat(filler.fileno()).st_size, max(1, free))

    def free_volume(self) -> None:
        """Undo fill_volume."""
        (self.project.volume / "filler").unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Return what is free on the network volume."""
        told = os.statvfs(self.project.volume)
        return told.f_bavail * told.f_frsize

    def note(self, text: str) -> None:
        """Write into the timeline."""
        self.timeline.append((self.now(), text))

    def now(self) -> float:
        """Return the seconds since the seed began."""
        return time.time() - self.began

    def pod(self) -> str:
        """Return the id of the running pod; raises Missed where none runs."""
        running = self.project.running_pods()
        if not running:
            raise Missed("no pod runs")
        return running[0]

    def pids(self, words: str) -> list[int]:
        """Return the pod processes whose command line holds `words`; raises Missed where there is none."""
        found = self.project.pod_processes(words)
        if not found:
            raise Missed(f"no process of a pod has {words!r}")
        return found

    def fault(self, operation: str, kind: str, **more: object) -> None:
        """Order a fault of the API; all are dropped before the rerun that must succeed."""
        self.project.ask("faults", {"operation": operation, "kind": kind, **more})

    def clear_faults(self) -> None:
        """Drop the faults that have not struck."""
        self._delete("faults")

    def turn(self, **dials: object) -> None:
        """Turn dials of the cloud; all are turned back before the next seed."""
        self.project.ask("dials", dials)
