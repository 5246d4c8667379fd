#!/usr/bin/env python3
"""Launch a run: links, old checkpoints, record, then the supervisor in the detached tmux session `train`.

In: the run request (README.md). Out: {"run_id", "run_dir", "log", "log_start", "session", "archived",
"linked", "notes"}, once the guard says that the run holds the lease; refused with the reason otherwise.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import Any

import answer
import checkpoint_archive
import guard_link
import launch_checks
import notifications
import run_record
import train_session
import training_secrets
import volume_links
from answer import Refused
from guard_link import GuardGone
from pod_environ import volume_directory

START_TIMEOUT_S = 30.0


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    require_lease(request)
    volume = str(request.get("volume") or volume_directory())
    launch_checks.require_numbers(request)
    launch_checks.require_newest(request, volume)
    train_session.require_none()
    run_record.finish_lost(volume)
    keep_secrets(request)
    try:
        answer_to_give = launch(request, volume)
    except BaseException:
        training_secrets.forget(str(request["run_id"]))
        raise
    answer.give(answer_to_give)


def launch(request: dict[str, Any], volume: str) -> dict[str, Any]:
    """Launch the run and return the answer."""
    links = volume_links.make(request["clone"], volume, request.get("links") or {})
    links.notes.extend(launch_checks.note_limits(request))
    archived = archive(request, links.notes)
    keep_notification(request, links.notes)
    run_dir = create_record({**request, "archived": archived}, volume)
    record = run_record.read(run_dir)
    try:
        start(run_dir, record)
    except Refused as refusal:
        record_refusal(run_dir, refusal)
        refusal.answer["archived"] = archived
        raise
    return {
        "run_id": record["run_id"],
        "run_dir": run_dir,
        "log": record["log"],
        "log_start": record["log_start"],
        "session": train_session.NAME,
        "archived": archived,
        "linked": links.linked,
        "notes": links.notes,
    }


def require_lease(request: dict[str, Any]) -> None:
    """Raise Refused unless the request's token holds the prepare lease: nothing is touched without it."""
    status = guard_status(request.get("token"))
    if not status["token_holds"]:
        raise Refused("This launch does not hold the pod.", holder_text(status), holder=status["lease"])


def holder_text(status: dict[str, Any]) -> str:
    """Return who holds the pod instead."""
    lease = status["lease"]
    if status["stopping"]:
        return f"the pod is being stopped: {status['stopping']}"
    if lease is None:
        return "its lease has ended; prepare again"
    return f"{lease['kind']} {lease['run_id'] or ''} of {lease['who'] or 'somebody'} holds it"


def keep_notification(request: dict[str, Any], notes: list[str]) -> None:
    """Take what is to be notified out of the request, which becomes the record; it is kept on the container disk."""
    target = request.pop("notify", None)
    try:
        notifications.keep(str(request["run_id"]), target)
    except OSError as error:
        notes.append(f"nobody will be notified of this run's end: {error}")


def keep_secrets(request: dict[str, Any]) -> None:
    """Take the secrets out of the request, which becomes the record with their names; keep them for the supervisor.

    Raise Refused when the container disk does not take them: a training must not begin without.
    """
    values = request.pop("secrets", None) or {}
    request["secret_names"] = list(values)
    try:
        training_secrets.keep(str(request["run_id"]), values)
    except OSError as error:
        raise Refused("The pod's container disk does not take the secrets of this training.", str(error)) from None


def archive(request: dict[str, Any], notes: list[str]) -> str | None:
    """Set checkpoints aside that would poison the run; resume from one of them where it is then.

    Those are all of them where the run is to start afresh, and the newer ones where it was told to go back.
    """
    directory = request.get("checkpoint_dir") or request.get("output_dir")
    checkpoint = request.get("checkpoint")
    goes_back = bool(request.get("resume_from")) and checkpoint is not None and checkpoint.get("step") is not None
    if directory is None or not (request.get("force_restart") or goes_back):
        return None
    place = os.path.join(request["clone"], directory)
    newer_than = None if request.get("force_restart") or checkpoint is None else checkpoint["step"]
    archived = checkpoint_archive.archive(place, request["checkpoint_pattern"], notes, newer_than)
    if archived is not None and checkpoint is not None:
        path = checkpoint_archive.new_place(checkpoint["path"], place, archived)
        request["command"] = [replace_path(word, checkpoint["path"], path) for word in request["command"]]
        request["checkpoint"] = {**checkpoint, "path": path}
    return archived


def replace_path(word: str, path: str, new: str) -> str:
    """Return a word of a command with `new` for `path`, but not for a longer name that begins alike."""
    return re.sub(rf"(?<![\w./-]){re.escape(path)}(?![\w.-])", lambda _: new, word)


def create_record(request: dict[str, Any], volume: str) -> str:
    """Make the run's folder and record; its part of the log begins where the log now ends."""
    run_dir = os.path.join(volume, "runs", request["run_id"])
    if os.path.basename(os.path.normpath(run_dir)) != request["run_id"] or os.path.lexists(run_dir):
        raise Refused("This run id cannot be used.", f"{run_dir} is there already, or is no plain name")
    log = os.path.join(volume, "logs", "current.log")
    try:
        os.makedirs(os.path.dirname(log), exist_ok=True)
        with open(log, "ab") as file:
            log_start = file.seek(0, os.SEEK_END)
        unknown = (
            "log_end",
            "started_at",
            "training_started_at",
            "ended_at",
            "exit_code",
            "reason",
            "failure",
            "last_step",
            "ending",
            "stalled_at",
            "stall_gpu_known",
            "supervisor_pid",
        )
        record = {**request, "volume": volume, "log": log, "log_start": log_start, **dict.fromkeys(unknown)}
        run_record.create(run_dir, {**record, "launched_at": time.time()})
    except OSError as error:
        raise Refused("The volume does not take the run's record.", str(error)) from None
    return run_dir


def start(run_dir: str, record: dict[str, Any]) -> None:
    """Start the supervisor and wait until its run holds the lease. Raise Refused with what it said if not."""
    errors = train_session.errors_path()
    train_session.forget_errors(errors)
    pane_pid = train_session.start(run_dir, errors)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not holds_lease(record["run_id"]):
        if not train_session.is_alive(pane_pid) and not holds_lease(record["run_id"]):
            raise Refused("The tmux session ended at once.", train_session.read_errors(errors))
        if time.monotonic() > deadline:
            train_session.end()
            raise Refused("The supervisor did not start in 30 s.", train_session.read_errors(errors))
        time.sleep(0.02)


def holds_lease(run_id: str) -> bool:
    """Say whether the run holds the lease, or did so already; not as long as there is no guard to tell."""
    try:
        return bool(ask_guard()["last_run_id"] == run_id)
    except GuardGone:
        return False


def guard_status(token: object) -> dict[str, Any]:
    """Return the guard's status, and whether `token` holds the lease. Raise Refused when there is no guard."""
    try:
        return ask_guard(token=token)
    except GuardGone as error:
        raise Refused("The pod has no guard.", f"{error}; prepare again") from None


def ask_guard(**fields: object) -> dict[str, Any]:
    """Return the guard's status. Raise GuardGone when there is no guard."""
    link = guard_link.connect()
    try:
        return link.request("status", **fields)
    finally:
        link.close()


def record_refusal(run_dir: str, refusal: Refused) -> None:
    """Note on the record that the run never began."""
    reason = f"not launched: {refusal.answer['error']}"
    try:
        run_record.update(run_dir, ended_at=time.time(), reason=reason, token=None)
    except OSError as error:
        print(f"{run_dir}: {error}", file=sys.stderr)


if __name__ == "__main__":
    try:
        sys.exit(answer.run(main))
    except subprocess.TimeoutExpired as late:
        sys.exit(f"tmux does not answer: {late}")
