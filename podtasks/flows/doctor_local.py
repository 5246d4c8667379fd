"""`inv doctor`: the local cloud, whether it runs or could."""

from __future__ import annotations

from collections.abc import Iterator

from podtasks.doors import machine
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import SANDBOXED, find_local, local_was_started
from podtasks.pure.doctor import Check, fine, problem, remark
from podtasks.pure.errors import CloudError

PLAIN = "pods are plain processes under .podtasks/ then, with the same commands"


def look(files: ProjectFiles) -> Iterator[Check]:
    """Yield how the local cloud stands. It is not started for that."""
    running = find_local(files)
    if running is not None:
        told = running.ask("status", timeout_s=5)
        pods = len(told.get("pods") or ())
        yield fine("local cloud", f"answers at {running.url}, pid {running.pid}, pods: {pods}")
        if running.sandbox == SANDBOXED:
            yield fine("sandbox", running.sandbox)
        else:
            yield remark("sandbox", f"none: {PLAIN}", "install bubblewrap, then inv cloud down")
    else:
        yield _look_at_rest_of(files)
        yield _look_at_sandbox()
    yield _look_at_sshd()


def _look_at_rest_of(files: ProjectFiles) -> Check:
    if local_was_started(files):
        text = "does not answer, though it was started: it was killed, or this machine was restarted"
        return remark("local cloud", text, "inv cloud up, or inv train, starts it anew; volumes are kept")
    return fine("local cloud", "does not run; inv train starts it")


def _look_at_sandbox() -> Check:
    why = machine.why_no_sandbox()
    if why is None:
        return fine("sandbox", "bubblewrap works here")
    return remark("sandbox", f"{why}: {PLAIN}", "install bubblewrap with your package manager")


def _look_at_sshd() -> Check:
    path = machine.find_program("sshd")
    if path:
        return fine("sshd", path)
    next_step = "install openssh-server; it need not run"
    return problem("sshd", "not installed, and the local cloud's pods need it", next_step, CloudError.exit_code)
