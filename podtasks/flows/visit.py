"""A person on the pod: a shell beside the training, or the training's own session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podtasks.doors import ssh_program
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import build_login, open_shell
from podtasks.flows.own_pods import find_pod
from podtasks.flows.pod_programs import PodPrograms
from podtasks.pure import visit
from podtasks.pure.errors import UsageError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.settings import Settings


def prepare_shell(
    cloud: Cloud, settings: Settings, files: ProjectFiles, report: Reporter, line: str | None, *, tty: bool
) -> list[str]:
    """Return the words that open a shell on our pod, or run one line in it, as the training runs.

    Args:
        line: the shell line, None for a shell.
        tty: whether a person's terminal is at this end.

    Raises:
        UsageError: no pod runs.
        TransportError: it does not answer.
    """
    pod = _require_running(cloud, settings)
    if cloud.mount_path:
        settings = settings.model_copy(update={"mount_path": cloud.mount_path})
    wish = {"clone": settings.clone_path, "venv": settings.venv, "env": settings.pod_environment()}
    with open_shell(cloud, pod) as shell:
        programs = PodPrograms(shell, pod)
        answer = programs.run("enter.py", wish)
    note = visit.describe_guard(answer.get("guard"))
    if note:
        report.note(note)
    command = visit.build_enter_command(programs.folders, str(answer["ticket"]), line)
    return [*_ssh_words(cloud, pod, files, tty=tty), command]


def prepare_attach(cloud: Cloud, settings: Settings, files: ProjectFiles) -> list[str]:
    """Return the words that attach this terminal to the training's tmux session.

    Raises UsageError, with what there is, where no training runs; TransportError.
    """
    if not ssh_program.is_terminal():
        raise UsageError(
            "inv attach needs a terminal.",
            means="A training is not touched by this.",
            next_step="inv logs shows the training's output anywhere",
        )
    pod = _require_running(cloud, settings)
    with open_shell(cloud, pod) as shell:
        programs = PodPrograms(shell, pod)
        answer = programs.run("status.py", {"lines": 0})
        has_session = shell.run(visit.SESSION_QUESTION).exit_code == 0
    if not has_session:
        raise _no_session(pod, answer)
    return [*_ssh_words(cloud, pod, files, tty=True), visit.ATTACH_COMMAND]


def _require_running(cloud: Cloud, settings: Settings) -> Pod:
    pod = find_pod(cloud, settings.project)
    if pod is None or pod.status is not PodStatus.RUNNING:
        what = "This project has no pod." if pod is None else f"Pod {pod.id} does not run ({pod.status.value})."
        raise UsageError(what, means="Nothing was changed.", next_step="inv start starts a pod, inv train a training")
    return pod


def _ssh_words(cloud: Cloud, pod: Pod, files: ProjectFiles, *, tty: bool) -> list[str]:
    assert pod.ssh is not None
    login = build_login(cloud, pod)
    known_hosts = ssh_program.write_known_hosts(files, pod.id, pod.host_public_key)
    words = ssh_program.build_ssh_words(pod.ssh, login, known_hosts, tty=tty)
    return [*words, "--", ssh_program.build_destination(pod.ssh, login)]


def _no_session(pod: Pod, answer: Mapping[str, Any]) -> UsageError:
    run = answer.get("run") or {}
    last = f" Its last run, {run['run_id']}, {visit.describe_end(run)}." if run else " Nothing was launched on it yet."
    return UsageError(
        f"No training runs on pod {pod.id}, so there is no session to attach to.{last}",
        means=visit.describe_guard(answer.get("guard")),
        next_step="inv train launches one; inv ssh opens a shell; inv logs shows the last log",
    )
