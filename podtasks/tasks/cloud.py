"""`inv cloud up|down|status`: the local cloud."""

from __future__ import annotations

from invoke.context import Context

from podtasks.pure.errors import UsageError
from podtasks.tasks.entry import Project, open_project, task

ACTIONS = "up, down or status"


@task(help={"action": f"as a word after the task: {ACTIONS}"}, words="action", choices=("up", "down", "status"))
def cloud(c: Context, action: list[str] | None = None) -> None:
    """Control the local cloud: inv cloud up, inv cloud down, inv cloud status. Volumes are kept."""
    actions = {"up": _up, "down": _down, "status": _status}
    chosen = " ".join(action or [])
    if chosen not in actions:
        what = f"inv cloud does not know {chosen!r}." if chosen else "inv cloud needs to know what to do."
        raise UsageError(what, next_step=f"inv cloud {ACTIONS}")
    actions[chosen](open_project(c))


def _up(project: Project) -> None:
    from podtasks.flows.cloud import start_local

    running = start_local(project.files, project.console, project.clock, project.settings.secrets)
    project.console.tell(f"the local cloud answers at {running.url}")


def _down(project: Project) -> None:
    from podtasks.doors.local_cloud import shut_down
    from podtasks.flows.cloud import find_local

    running = find_local(project.files)
    if running is None:
        project.console.tell("the local cloud does not run")
        return
    shut_down(running)
    project.console.tell("the local cloud has ended; its pods are stopped and kept, and so are its volumes")


def _status(project: Project) -> None:
    from podtasks.doors.console import write_result
    from podtasks.flows.cloud import find_local

    running = find_local(project.files)
    if running is None:
        write_result("the local cloud does not run; inv cloud up starts it")
        return
    told = running.ask("status")
    write_result(f"url     {running.url}\npid     {running.pid}\npods    {told['sandbox']}")
    for name, state in sorted(told["pods"].items()):
        write_result(f"pod     {name} {state}")
    for name, folder in sorted(told["network_volumes"].items()):
        used = " (the pods' volume)" if name == running.volume_id else ""
        write_result(f"volume  {name} {folder}{used}")
