"""`inv doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.tasks.entry import open_project, task
from podtasks.tasks.results import CLOUD_HELP, JSON_HELP, write_json

if TYPE_CHECKING:
    from podtasks.flows.doctor import Patient
    from podtasks.pure.doctor import Check


@task(
    help={
        **CLOUD_HELP,
        **JSON_HELP,
        "config": "the configuration to look at (default: all)",
    }
)
def doctor(c: Context, config: str = "", json: bool = False, cloud: str = "") -> None:
    """Check all that a training needs, and say what to do. Rents, starts and changes nothing."""
    from podtasks.doors.clock import SystemClock
    from podtasks.doors.console import Console
    from podtasks.doors.runpod_sdk import import_in_background
    from podtasks.flows.doctor import examine
    from podtasks.pure.doctor import exit_code, summarize

    import_in_background()
    console = Console()
    checks = examine(_find_patient(c, config, cloud), console, SystemClock())
    _write(checks, json)
    console.tell(summarize(checks))
    if exit_code(checks):
        raise Exit(code=exit_code(checks))


def _find_patient(c: Context, config: str, cloud: str) -> Patient:
    """Return the project with its settings, or with what is wrong with them."""
    from pathlib import Path

    from podtasks.doors.machine import file_mode
    from podtasks.doors.project_files import ProjectFiles, find_root
    from podtasks.flows.doctor import Patient
    from podtasks.pure.errors import SettingsError

    files = ProjectFiles(find_root(Path.cwd()))
    # Before the settings are read, which makes the file private.
    mode = file_mode(files.identity_path)
    try:
        project = open_project(c, {"cloud": cloud})
    except SettingsError as error:
        return Patient(files, None, error, mode, config)
    return Patient(files, project.effective, None, mode, files.name_from_here(config))


def _write(checks: list[Check], as_json: bool) -> None:
    from podtasks.doors.tables import can_print, write_lines
    from podtasks.pure import doctor as pure_doctor

    if as_json:
        write_json(pure_doctor.as_json(checks))
        return
    plain = not can_print("".join(pure_doctor.SYMBOLS.values()))
    write_lines(pure_doctor.render(checks, plain=plain))
