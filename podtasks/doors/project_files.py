"""The project's own files on this machine: configurations, .runpod.env, and the state folder .podtasks/."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from podtasks.pure import env_file
from podtasks.pure.errors import InstallationError, SettingsError
from podtasks.pure.run_ids import is_run_id


@dataclass(frozen=True)
class ProjectFiles:
    """Where things lie in one project.

    Args:
        root: the folder that holds tasks.py.
    """

    root: Path

    @property
    def identity_path(self) -> Path:
        """`.runpod.env`: who the user is on RunPod."""
        return self.root / ".runpod.env"

    @property
    def local_identity_path(self) -> Path:
        """The same for the local cloud, so that a local pod's id never mixes with a RunPod one."""
        return self.state_folder / "local.env"

    @property
    def state_folder(self) -> Path:
        """`.podtasks/`: what podtasks remembers here. It ignores itself in git."""
        return self.root / ".podtasks"

    def ensure_state_folder(self) -> Path:
        """Make the state folder, readable by its owner only, and return it."""
        self.state_folder.mkdir(mode=0o700, exist_ok=True)
        if self.state_folder.stat().st_mode & 0o077:
            self.state_folder.chmod(0o700)
        ignore = self.state_folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        return self.state_folder

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of the local copy of a run's log, making it. Raises ValueError for no plain name."""
        if not is_run_id(run_id):
            raise ValueError(f"{run_id[:60]!r} cannot be a run's id")
        folder = self.ensure_state_folder() / "runs" / run_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def newest_run_folder(self) -> Path | None:
        """Return the folder of the run that was followed last, None when there is none."""
        # Written when a run is launched or followed from here, and when its end is seen.
        notes = (self.state_folder / "runs").glob("*/run.json")
        newest = max(notes, key=lambda path: path.stat().st_mtime, default=None)
        return None if newest is None else newest.parent

    def name_from_here(self, name: str) -> str:
        """Return a file that the user named as it is named from the root: it may be meant from where they are."""
        here = Path.cwd() / name
        if not name or not here.is_file():
            return name
        return os.path.relpath(here.resolve(), self.root.resolve())

    def config_names(self) -> list[str]:
        """Return the training configurations there are, relative to the root."""
        paths = (path for pattern in ("*.yaml", "*.yml") for path in (self.root / "configs").glob(pattern))
        return sorted(str(path.relative_to(self.root)) for path in paths)

    @contextlib.contextmanager
    def locked(self, name: str, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold a lock of this machine for the time of a `with`; `on_wait` is called when another has it.

        The lock dies with its holder.
        """
        with open(self.ensure_state_folder() / f"{name}.lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(file, fcntl.LOCK_EX)
            yield


def read_identity(path: Path, on_exposed: Callable[[int], None] = lambda _: None) -> dict[str, str]:
    """Return the keys and values of an identity file, {} when there is none.

    A file that others may read is made private first, and `on_exposed` hears of the mode it had. Raises SettingsError
    where it cannot be, and for lines that are not KEY=VALUE.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            _make_private(path, mode)
            on_exposed(mode)
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name} cannot be read: {error}.", next_step=f"mend {path}") from error
    return dict(env_file.parse_env_file(text, path.name))


def _make_private(path: Path, mode: int) -> None:
    try:
        path.chmod(0o600)
    except OSError as error:
        raise SettingsError(
            f"{path.name} can be read by others (mode {mode:o}), and cannot be made private: {error.strerror}.",
            means="Whoever reads it has your keys.",
            next_step=f"as its owner: chmod 600 {shlex.quote(str(path))}",
        ) from error


def write_identity_value(path: Path, key: str, value: str) -> None:
    """Set one key in an identity file, leaving every other byte; the file is whole at any moment."""
    # As bytes: a file read as text has lost the line ends that it had.
    text = path.read_bytes().decode() if path.exists() else ""
    write_atomically(path, env_file.with_value(text, key, value).encode())


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file's contents in one step, readable by its owner only."""
    # A symbolic link (say, to a folder of secrets, on another disk even) stays one.
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def find_root(start: Path) -> Path:
    """Return the folder that holds tasks.py, from `start` upwards; `start` itself when there is none."""
    candidates = (start, *start.parents)
    return next((folder for folder in candidates if (folder / "tasks.py").is_file()), start)


def read_pod_programs() -> dict[str, bytes]:
    """Return the programs of `remote/` by file name: from the wheel, or from the checkout.

    Raises InstallationError when neither has them.
    """
    package = Path(__file__).resolve().parent.parent
    folders = (package / "_remote", package.parent / "remote")
    folder = next((folder for folder in folders if (folder / "boot.sh").is_file()), None)
    if folder is None:
        raise InstallationError(
            f"podtasks is installed without its programs for the pod: there is no boot.sh in {folders[0]}.",
            means="No pod was created.",
            next_step="install podtasks again, from its wheel or from a whole checkout",
        )
    return {
        path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".py", ".sh")
    }
