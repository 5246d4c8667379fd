"""`inv tensorboard`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.tasks.entry import INTERRUPTED, Project, open_project, task
from podtasks.tasks.results import CLOUD_HELP

if TYPE_CHECKING:
    from pathlib import Path

    from podtasks.doors.local_port import Listener
    from podtasks.flows.cloud import Cloud
    from podtasks.pure.pod import Pod
    from podtasks.pure.training_config import TrainingConfig

HELP = {
    "config": "whose event files to show (default: the newest run's)",
    "port": "the port on this machine (default: 6006, or the next free one)",
    "open": "open the page in the web browser",
    **CLOUD_HELP,
}
KEEPS_RUNNING = (
    "\ntunnel closed. TensorBoard keeps running on the pod, in tmux session tb, and stops with it; "
    "inv tensorboard opens the tunnel again."
)


@task(help=HELP)
def tensorboard(c: Context, config: str = "", port: str = "", open: bool = False, cloud: str = "") -> None:
    """Show a training's curves: TensorBoard on the pod, or here over fetched logs when no pod runs.

    Ctrl+C closes the view (exit code 0), never the training.
    """
    from podtasks.flows.board import claim_port, find_config
    from podtasks.pure.board import parse_port

    project = open_project(c, {"cloud": cloud})
    wanted = parse_port(port)
    name = project.files.name_from_here(config)
    found = find_config(name, project.settings, project.files)
    account = project.open_existing_cloud()
    pod = _find_running(project, account)
    if account is not None and pod is not None:
        with claim_port(wanted, project.console) as listener:
            _show_pod(project, account, pod, found, listener, is_named=bool(name), open_page=open)
        return
    folder = _find_fetched(project, found, is_named=bool(name))
    with claim_port(wanted, project.console) as listener:
        _show_fetched(project, folder, listener, open_page=open)


def _find_running(project: Project, account: Cloud | None) -> Pod | None:
    from podtasks.flows.own_pods import find_pod
    from podtasks.pure.pod import PodStatus

    pod = find_pod(account, project.settings.project) if account else None
    return pod if pod and pod.status is PodStatus.RUNNING else None


def _show_pod(
    project: Project,
    account: Cloud,
    pod: Pod,
    config: TrainingConfig | None,
    listener: Listener,
    *,
    is_named: bool,
    open_page: bool,
) -> None:
    from podtasks.flows.board import BoardView, build_source

    view = BoardView(
        account,
        pod,
        build_source(project.settings, account, config, is_named=is_named),
        listener,
        on_ready=lambda url: _tell_ready(project, url, open_page),
        ready_timeout_s=project.settings.pod_ready_timeout_s,
        report=project.console,
        clock=project.clock,
    )
    try:
        view.show()
    except KeyboardInterrupt:
        if not view.is_ready:
            raise Exit("\ninterrupted; the pod and its training are not touched", code=INTERRUPTED) from None
        project.console.tell(KEEPS_RUNNING)


def _find_fetched(project: Project, config: TrainingConfig | None, *, is_named: bool) -> Path:
    """Return the folder of fetched event files, and say that it is shown. Raises PodtasksError where there is none."""
    from podtasks.flows.local_board import find_fetched

    folder = find_fetched(project.settings, project.files, config, project.console, is_named=is_named)
    project.console.step(f"no pod is running: TensorBoard on this machine, over what inv fetch brought: {folder}")
    return folder


def _show_fetched(project: Project, folder: Path, listener: Listener, *, open_page: bool) -> None:
    from podtasks.flows.local_board import show_fetched

    shown: list[str] = []

    def on_ready(url: str) -> None:
        shown.append(url)
        _tell_ready(project, url, open_page)

    try:
        show_fetched(folder, project.files, listener, on_ready=on_ready, report=project.console, clock=project.clock)
    except KeyboardInterrupt:
        if not shown:
            raise
        project.console.tell("\nTensorBoard has ended")


def _tell_ready(project: Project, url: str, open_page: bool) -> None:
    """Print the page's address, and show it in the browser where that is asked for."""
    from podtasks.doors.browser import open_page as show_in_browser
    from podtasks.doors.console import write_result

    write_result(url)
    project.console.tell("Ctrl+C closes it")
    if open_page and not show_in_browser(url):
        project.console.note("no web browser could be started here; open the address yourself")
