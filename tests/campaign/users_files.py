"""What belongs to the user in a world, and must be as it was after any seed."""

from __future__ import annotations

import stat
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

# The name of the secret that trainings get; the others never leave this machine.
TOKEN = "the training's token"
NOTES = "what I must not lose\n"
# On a pod's container disk: what is not the image's.
DISK_FOLDERS = ("opt/podtasks", "tmp", "root", "run", "var/log")
LARGEST_BYTES = 4 << 20


class UsersFiles:
    """Files of the user in the project and on the volume, a stash and a branch.

    Args:
        project: the repository.
        volume: the network volume.
    """

    def __init__(self, project: Path, volume: Path) -> None:
        self._project, self._volume = project, volume
        self._own = (project / "notes.txt", volume / "mine/notes.txt", volume / "checkpoints/run/mine.txt")
        self._make_stash()
        self._refs = self._read_refs()
        self._tracked = self._read_tracked()

    def write(self) -> None:
        """Write the files."""
        for path in self._own:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(NOTES)

    def find_losses(self) -> tuple[str, ...]:
        """Return what is gone or changed."""
        lost = [f"{path} is gone or changed" for path in self._own if _read(path) != NOTES.encode()]
        if self._read_refs() != self._refs:
            lost.append("branches or the stash changed")
        return (*lost, *(f"{name} changed" for name in self._changed()))

    def find_leaks(self, secrets: Mapping[str, bytes]) -> tuple[str, ...]:
        """Return where a secret lies that has no place there."""
        found = []
        for path in self._all_files():
            data = _read(path)
            places = [name for name, value in secrets.items() if value in data and not _may_hold(path, name)]
            found += [f"{name} in {path.relative_to(self._project)}" for name in places]
        # What the cloud's API knows of pods; its keys stand there by right.
        if secrets[TOKEN] in _read(self._project / ".podtasks/cloud/state.json"):
            found.append(f"{TOKEN} in what the API knows")
        return tuple(found)

    def _all_files(self) -> Iterator[Path]:
        """Yield every file of the project, its volume and its pods, but for those that hold secrets by right."""
        cloud = self._project / ".podtasks/cloud"
        for path in self._project.iterdir():
            if path.name not in (".runpod.env", ".podtasks", ".git"):
                yield from _files(path)
        for path in (self._project / ".podtasks").iterdir():
            if path != cloud:
                yield from _files(path)
        yield cloud / "emulator.log"
        yield from _files(self._volume)
        for pod in (cloud / "pods").glob("*"):
            yield pod / "container.log"
            for folder in DISK_FOLDERS:
                yield from _files(pod / "disk" / folder)

    def _make_stash(self) -> None:
        notes = self._project / "configs/run.yaml"
        before = notes.read_text()
        notes.write_text(before + "# an idea\n")
        self._git("stash", "push", "-q")
        self._git("branch", "an-idea")

    def _read_refs(self) -> str:
        return self._git("for-each-ref", "refs/heads", "refs/stash")

    def _read_tracked(self) -> dict[str, bytes]:
        return {name: _read(self._project / name) for name in self._git("ls-files").split()}

    def _changed(self) -> list[str]:
        return [name for name, data in self._tracked.items() if _read(self._project / name) != data]

    def _git(self, *words: str) -> str:
        identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
        done = subprocess.run(["git", *identity, *words], cwd=self._project, check=True, capture_output=True)
        return done.stdout.decode()


def _may_hold(path: Path, name: str) -> bool:
    """Return whether a file may hold a secret: the one that a run's supervisor reads, while the disk lasts."""
    is_kept = path.parent.name == "podtasks" and path.name.startswith("secrets-")
    return name == TOKEN and is_kept and stat.S_IMODE(path.stat().st_mode) == 0o600


def _files(path: Path) -> Iterator[Path]:
    if path.is_symlink() or not path.exists():
        return
    if path.is_dir():
        for below in path.iterdir():
            yield from _files(below)
    elif path.is_file() and path.stat().st_size <= LARGEST_BYTES:
        yield path


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
