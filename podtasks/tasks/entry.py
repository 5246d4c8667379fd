"""What every task shares: turning our errors into Invoke's exits, and opening the project it runs in."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit
from invoke.tasks import task as invoke_task

from podtasks.doors.console import printable, terminal_columns, wrap
from podtasks.pure.errors import InstallationError, PodtasksError, SettingsError
from podtasks.tasks.completion import install as install_completion
from podtasks.tasks.help_text import install as install_help_text
from podtasks.tasks.interrupts import INTERRUPTED as INTERRUPTED
from podtasks.tasks.interrupts import heard
from podtasks.tasks.words import TaskWithWords
from podtasks.tasks.words import install as install_words

if TYPE_CHECKING:
    from podtasks.doors.clock import Clock
    from podtasks.doors.console import Console
    from podtasks.doors.project_files import ProjectFiles
    from podtasks.flows.cloud import Cloud
    from podtasks.pure.settings import Effective, Identity, Settings

BROKEN_PIPE = 141
EXPOSED = (
    "others on this machine could read .runpod.env (mode {mode:o}); it is 600 now. Make new keys if others work here"
)

Body = Callable[..., None]


def task(
    *,
    help: Mapping[str, str],
    words: str = "",
    takes_rest: bool = False,
    choices: Sequence[str] = (),
    **options: Any,  # noqa: ANN401
) -> Callable[[Body], Any]:
    """Make an Invoke task of a function that may raise our errors.

    `help` explains each flag; `words` names the parameter that gets the list of words after the task's name,
    which may be none; with `takes_rest` flags that follow the first word belong to them; `choices` are words that
    the shell's completion offers. `options` go to invoke.task. One-letter flags are not made up: they would change
    whenever a flag is added.
    """

    def decorate(body: Body) -> Any:  # noqa: ANN401  Invoke's tasks are untyped
        @functools.wraps(body)
        def run(c: Context, *args: Any, **flags: Any) -> None:  # noqa: ANN401
            with heard():
                _run(body, c, *args, **flags)

        made = invoke_task(help=dict(help), auto_shortflags=False, klass=TaskWithWords, **options)(run)
        made.words_name, made.takes_rest, made.choices = words, takes_rest, choices
        return made

    install_words()
    install_completion()
    install_help_text()
    return decorate


def _run(body: Body, *args: Any, **flags: Any) -> None:  # noqa: ANN401
    """Run a task; raise Invoke's Exit for whatever it may raise."""
    try:
        body(*args, **flags)
    except PodtasksError as error:
        raise Exit(_error_text(error), code=error.exit_code) from None
    except KeyboardInterrupt:
        raise Exit("\ninterrupted", code=INTERRUPTED) from None
    except BrokenPipeError:
        # Whoever read the output has gone, say `head`; what is left of it has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Exit(code=BROKEN_PIPE) from None
    except (OSError, UnicodeError) as error:
        raise _local_failure(error) from error


def _error_text(error: PodtasksError) -> str:
    """Return what Invoke prints on standard error, long lines wrapped at words on a terminal."""
    return wrap(printable(f"error: {error}"), terminal_columns())


def _local_failure(error: Exception) -> Exit:
    """Return the exit for a file or folder of this machine that cannot be used."""
    told = InstallationError(
        f"This machine refused: {error}.",
        means="A training that was launched goes on; a pod without one stops itself within its grace time.",
        next_step="mend the file or folder that is named, then run the same command again",
    )
    return Exit(_error_text(told), code=told.exit_code)


def _describe_misfit(loaded: object) -> str:
    """Return why a loaded invoke.yaml would trip Invoke up, "" when it would not."""
    if not isinstance(loaded, dict):
        return "it must hold keys and values"
    ours = loaded.get("podtasks")
    if isinstance(ours, dict) and not all(isinstance(key, str) for key in ours):
        return "the names under podtasks must be text"
    invokes = [name for name in ("run", "tasks", "runners", "sudo", "timeouts") if name in loaded]
    wrong = [name for name in invokes if not isinstance(loaded[name], dict)]
    return f"{', '.join(wrong)} must hold keys and values" if wrong else ""


def require_readable_settings() -> None:
    """Raise Exit when invoke.yaml is no YAML mapping, which Invoke itself would answer with a traceback.

    It is called while the tasks are loaded, because Invoke reads that file right after.
    """
    from podtasks.doors.project_files import find_root
    from podtasks.pure.yaml_text import load_yaml

    path = find_root(Path.cwd()) / "invoke.yaml"
    try:
        loaded = load_yaml(path.read_text(encoding="utf-8")) if path.exists() else None
        problem = "" if loaded is None else _describe_misfit(loaded)
    except (OSError, ValueError) as error:
        problem = " ".join(str(error).split())
    if problem:
        raised = SettingsError(f"invoke.yaml cannot be read: {problem}.", next_step=f"mend {path}")
        raise Exit(_error_text(raised), code=raised.exit_code)


@dataclass(frozen=True)
class Project:
    """The project a task runs in: its files, its settings, and the terminal that hears of it."""

    files: ProjectFiles
    effective: Effective
    console: Console
    clock: Clock

    @property
    def settings(self) -> Settings:
        """The settings that count."""
        return self.effective.settings

    @property
    def identity(self) -> Identity:
        """Who runs it."""
        return self.effective.identity

    def open_cloud(self) -> Cloud:
        """Return the cloud that the settings choose."""
        from podtasks.flows.cloud import open_cloud

        return open_cloud(self.settings, self.identity, self.files, self.console, self.clock)

    def introduce_cloud(self, *, in_brief: bool = False) -> bool:
        """Say so when the local cloud is used because there is no API key; return whether it is local.

        `in_brief`: for commands that cost nothing on RunPod either.
        """
        from podtasks.flows.cloud import is_local, local_note

        local = is_local(self.settings, self.identity)
        if local and self.settings.cloud == "auto":
            self.console.tell("podtasks: local cloud" if in_brief else local_note(self.files))
        return local

    def open_existing_cloud(self) -> Cloud | None:
        """Return the cloud, but do not start a local one only to look at it: then say so and return None."""
        from podtasks.flows.cloud import is_local, local_was_started, open_cloud

        if is_local(self.settings, self.identity) and not local_was_started(self.files):
            self.console.tell(
                "the local cloud does not run, so no pod does; inv train starts it again, with the pods it kept"
            )
            return None
        return open_cloud(self.settings, self.identity, self.files, self.console, self.clock, to_launch=False)

    def local_volume(self) -> Path | None:
        """Return the folder of the local cloud's volume, None on RunPod and before the first pod."""
        from podtasks.flows.cloud import is_local, local_volume_folder

        return local_volume_folder(self.files) if is_local(self.settings, self.identity) else None


def open_project(c: Context, flags: Mapping[str, object] | None = None) -> Project:
    """Read the project's settings. Raises SettingsError with every problem.

    The imports wait until a task runs, so that listing tasks stays quick.
    """
    from podtasks.doors.clock import SystemClock
    from podtasks.doors.console import Console
    from podtasks.doors.project_files import ProjectFiles, find_root, read_identity
    from podtasks.doors.user import name_user
    from podtasks.pure.settings import load_settings

    name_user()
    console = Console()
    files = ProjectFiles(find_root(Path.cwd()))
    effective = load_settings(
        _plain(c.config.get("podtasks")),
        os.environ,
        read_identity(files.identity_path, lambda mode: console.note(EXPOSED.format(mode=mode))),
        {name: value for name, value in (flags or {}).items() if value not in (None, "", [])},
        folder=files.root.name,
    )
    return Project(files, effective, console, SystemClock())


def _plain(value: object) -> object:
    """Return Invoke's view of a YAML mapping as plain dictionaries."""
    config = getattr(value, "_config", value)
    return {k: _plain(v) for k, v in config.items()} if isinstance(config, dict) else config
