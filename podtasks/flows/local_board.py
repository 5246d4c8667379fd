"""TensorBoard on this machine, over the event files that were fetched from the volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from podtasks.doors import local_port, local_tensorboard
from podtasks.doors.clock import Clock, WaitTimeoutError, growing_pauses, wait_until
from podtasks.doors.console import Reporter
from podtasks.doors.local_port import Listener
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.run_copies import FETCHED
from podtasks.pure.board import choose_shared, local_places
from podtasks.pure.errors import InstallationError, PodtasksError
from podtasks.pure.settings import Settings
from podtasks.pure.training_config import TrainingConfig

LIKELY = ("logs", "checkpoints")
START_TIMEOUT_S = 60.0
PROBE_TIMEOUT_S = 5.0


class _Process(Protocol):
    def poll(self) -> int | None: ...


def find_fetched(
    settings: Settings, files: ProjectFiles, config: TrainingConfig | None, report: Reporter, *, is_named: bool
) -> Path:
    """Return the folder of fetched event files to show. Raises PodtasksError when nothing was fetched."""
    fetched = files.root / FETCHED
    has = local_tensorboard.has_event_files
    places = local_places(settings.clone_name, settings.mount_path, settings.links, config) if config else []
    own = next((fetched / place for place in places if has(fetched / place)), None)
    if own is not None:
        return own
    folder = fetched / choose_shared([name for name in LIKELY if has(fetched / name)])
    if not has(folder):
        raise _nothing_fetched(folder)
    if is_named and config:
        report.note(f"no event file of {config.path} was fetched; this is what there is of all runs")
    return folder


def show_fetched(
    folder: Path,
    files: ProjectFiles,
    listener: Listener,
    *,
    on_ready: Callable[[str], None],
    report: Reporter,
    clock: Clock,
) -> None:
    """Show a folder's event files until TensorBoard ends or the user presses Ctrl+C.

    Raises InstallationError when it cannot be installed or does not start.
    """
    state = files.ensure_state_folder()
    with files.locked("tensorboard", lambda: report.note("another inv tensorboard is starting here; waiting for it")):
        python = local_tensorboard.ensure_venv(state / "tensorboard-venv")
    port = local_port.port_of(listener)
    # From here on the port is TensorBoard's.
    listener.close()
    log_path = state / "tensorboard.log"
    with local_tensorboard.running(python, folder, port, log_path) as process:
        if not _wait_for_page(process, port, clock):
            raise _not_started(log_path)
        on_ready(f"http://{local_port.LOOPBACK}:{port}/")
        process.wait()
    raise _ended(log_path)


def _wait_for_page(process: _Process, port: int, clock: Clock) -> bool:
    """Wait until TensorBoard answers; return whether it does before it ends or the time is over."""

    def read() -> bool | None:
        answers = local_port.answers_http(port, PROBE_TIMEOUT_S)
        return answers if answers or process.poll() is None else None

    try:
        reading = wait_until(
            read,
            lambda reading: reading is not False,
            timeout_s=START_TIMEOUT_S,
            pauses=growing_pauses(0.05, 1.3, 0.5),
            clock=clock,
        )
    except WaitTimeoutError:
        return False
    return bool(reading)


def _nothing_fetched(folder: Path) -> PodtasksError:
    return PodtasksError(
        f"No pod is running, and there is no event file to show in {folder}.",
        means="Nothing was started. What training wrote is on the volume.",
        next_step="inv fetch logs brings it here (with S3 keys that needs no pod), then inv tensorboard again",
    )


def _not_started(log_path: Path) -> InstallationError:
    return InstallationError(
        f"TensorBoard does not start on this machine:\n{local_tensorboard.last_lines(log_path)}",
        means="Nothing on the pod or the volume was touched.",
        next_step=f"see {log_path}; rm -r {log_path.with_name('tensorboard-venv')} has it installed anew",
    )


def _ended(log_path: Path) -> InstallationError:
    return InstallationError(
        f"TensorBoard ended by itself:\n{local_tensorboard.last_lines(log_path)}",
        next_step="run the same command again",
    )
