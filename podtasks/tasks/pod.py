"""`inv stop` and `inv terminate`: what is done to a pod that exists."""

from __future__ import annotations

import time

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.pure.errors import UsageError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.tasks.consent import require_answers
from podtasks.tasks.entry import INTERRUPTED, open_project, task
from podtasks.tasks.results import CLOUD_HELP


@task(help={**CLOUD_HELP, "now": "stop the pod at once, without asking its run to end"})
def stop(c: Context, now: bool = False, cloud: str = "") -> None:
    """End the run and stop the pod; delete a CPU pod that copies files. What is on the volume stays."""
    from podtasks.flows.control import Ending
    from podtasks.flows.control import stop as stop_flow
    from podtasks.flows.findings import Findings
    from podtasks.flows.helper_pod import terminate_helpers

    project = open_project(c, {"cloud": cloud})
    account = project.open_existing_cloud()
    if account is None:
        return
    findings = Findings()
    try:
        pod = findings.check(
            lambda: stop_flow(
                account,
                project.settings.project,
                project.console,
                project.clock,
                now=now,
                grace_s=project.settings.stop_grace_s,
                ending=Ending(project.files, time.time()),
            )
        )
    except KeyboardInterrupt:
        raise Exit(
            "\ninterrupted. The pod may still run and be billed: inv status says, inv stop --now stops it at once.",
            code=INTERRUPTED,
        ) from None
    finally:
        helpers = findings.check(lambda: terminate_helpers(account, project.settings.project, project.console))
    findings.raise_any()
    if pod is None and not helpers:
        project.console.tell("no pod of this project is running; nothing is billed but storage")


@task(help={**CLOUD_HELP, "yes": "do not ask, not even where a host-local volume disk is lost with it"})
def terminate(c: Context, yes: bool = False, cloud: str = "") -> None:
    """Delete the pod, and a CPU pod that copies files. What is on a network volume stays."""
    from podtasks.flows.control import Ending
    from podtasks.flows.control import terminate as terminate_flow
    from podtasks.flows.helper_pod import terminate_helpers
    from podtasks.flows.own_pods import find_pod

    project = open_project(c, {"cloud": cloud})
    account = project.open_existing_cloud()
    if account is None:
        return
    pod = find_pod(account, project.settings.project)
    if pod is None:
        if not terminate_helpers(account, project.settings.project, project.console):
            project.console.tell("this project has no pod")
        return
    if not yes and not pod.network_volume_id:
        raise UsageError(
            f"Pod {pod.id} has no network volume: its checkpoints and logs would be deleted with it.",
            means="Nothing was changed.",
            next_step="inv terminate --yes deletes it all the same",
        )
    if not yes:
        require_answers(project, means="Nothing was changed.", example="inv terminate --yes")
        if not project.console.confirm(build_question(pod), default=False):
            raise Exit("Nothing was changed.", code=INTERRUPTED)
    try:
        terminate_flow(account, pod, project.console, Ending(project.files, time.time()))
    finally:
        terminate_helpers(account, project.settings.project, project.console)


def build_question(pod: Pod) -> str:
    """Return the question before a pod is deleted."""
    ends = " A training on it would be ended." if pod.status is PodStatus.RUNNING else ""
    return f"Delete pod {pod.id} ({pod.status.value})?{ends}"
