"""From a pod that answers SSH to a training that runs: one connection, step by step."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from podtasks.doors import local_git, ssh
from podtasks.doors.clock import Clock, growing_pauses
from podtasks.doors.console import Reporter
from podtasks.flows.checkpoint_search import find_checkpoint
from podtasks.flows.pod_programs import PodPrograms
from podtasks.pure import pod_programs
from podtasks.pure.errors import CloneSetAsideError, CodeError, PodFailedError, PodtasksError, RunActiveError
from podtasks.pure.pod import Pod
from podtasks.pure.run import Checkpoint, Launch, Run, build_run_request, parse_run

# Another launch that died leaves its lease as soon as sshd notices; one that lives takes seconds.
LEASE_WAIT_S = 20


def launch_training(shell: ssh.PodShell, pod: Pod, launch: Launch, root: Path, report: Reporter, clock: Clock) -> Run:
    """Put the code on the pod, find the checkpoint, start the training and return its run.

    The pod's guard lets one launch or run at a time work on it. Raises RunActiveError with the holder,
    CodeError, RemoteCommandError, TransportError; then no training was started.
    """
    programs = PodPrograms(shell, pod)
    prepared = _take_lease(programs, launch.clone, launcher_name(root), clock)
    for name in prepared.get("installed") or []:
        report.note(f"the image has no {name}; it was installed")
    _sync_code(programs, launch, prepared, root, report)
    checkpoint = find_checkpoint(programs, launch, report)
    return _start_training(programs, launch, pod, checkpoint, str(prepared["token"]), report)


def launcher_name(root: Path) -> str:
    """Return who launches, and from which checkout, as the pod's guard tells others."""
    return f"inv train by {getpass.getuser()} on {platform.node()} in {root}"


def _take_lease(programs: PodPrograms, clone: str, who: str, clock: Clock) -> dict[str, Any]:
    """Take the pod for this launch, for as long as the connection lasts; return what was found there."""
    deadline = clock.now() + LEASE_WAIT_S
    pauses = growing_pauses(0.3, 1.5, 3.0)
    while True:
        process = programs.start("prepare.py", {"clone": clone, "who": who})
        line = process.read_line()
        if not line:
            output = process.wait()
            pod_programs.parse_answer("prepare.py", output.exit_code or 1, b"", output.stderr)
        answer = pod_programs.parse_answer("prepare.py", 0, line, b"")
        if answer.get("ok"):
            return answer
        process.close()
        holder = answer.get("holder")
        if holder is None:
            raise _refusal(answer)
        if holder.get("kind") == "run" or clock.now() >= deadline:
            raise _held(holder)
        clock.sleep(next(pauses))


def _refusal(answer: Mapping[str, Any]) -> PodtasksError:
    """Return the error for a pod that takes no launch, though nobody holds it."""
    if answer.get("stopping"):
        return PodFailedError(
            f"The pod takes no launch: it is being stopped ({answer['stopping']}).",
            means="No training was started.",
            next_step="run the same command again",
        )
    return pod_programs.describe_refusal("prepare.py", answer)


class PodHeldError(RunActiveError):
    """The pod is taken; `holder` is what its guard says of who has it."""

    def __init__(self, what: str, holder: Mapping[str, Any]) -> None:
        super().__init__(
            what,
            means="It was not touched.",
            next_step="inv logs follows it; inv stop ends it",
        )
        self.holder = holder


def _held(holder: Mapping[str, Any]) -> PodHeldError:
    if holder.get("kind") == "run":
        return PodHeldError(f"Run {holder.get('run_id')} is training on this pod.", holder)
    return PodHeldError(f"Another launch is under way on this pod: {holder.get('who')}.", holder)


def _sync_code(
    programs: PodPrograms,
    launch: Launch,
    prepared: Mapping[str, Any],
    root: Path,
    report: Reporter,
) -> None:
    have = [str(commit) for commit in prepared.get("clone_commits") or []]
    try:
        answer = _send_code(programs, launch, have, root)
    except CloneSetAsideError as error:
        report.note(f"the pod's clone was damaged; its .git is kept in {error.kept_in}, and the code is sent whole")
        answer = _send_code(programs, launch, [], root)
    how = "cloned" if answer.get("cloned") else "synced" if answer.get("changed") else "unchanged"
    report.step(f"code {how}: {launch.branch} at {launch.commit[:10]} in {launch.clone}")
    for text in _describe_kept(answer):
        report.note(text)


def _send_code(programs: PodPrograms, launch: Launch, have: Sequence[str], root: Path) -> dict[str, Any]:
    """Put the clone, which has the commits `have`, on the launch's commit; return what the pod says of it."""
    pack = launch.code != "origin" and launch.commit not in have
    if pack and launch.after_run and not local_git.has_commit(root, launch.commit):
        raise _lost_code(launch)
    # A restart finds its code in the clone: nothing needs to be fetched, and no agent is at hand where cron watches.
    code = "local" if launch.after_run and launch.commit in have else launch.code
    question = {
        "clone": launch.clone,
        "code": code,
        "url": launch.repository,
        "branch": launch.branch,
        "commit": launch.commit,
        "shallow": local_git.shallow_commits(root) if pack else [],
        "pack": pack,
        "known_hosts": local_git.known_host_lines(launch.repository or "") if code == "origin" else [],
    }
    if pack:
        with local_git.open_pack(root, launch.commit, have) as process:
            return programs.run("sync_code.py", question, ssh.read_in_chunks(process.stdout))
    return programs.run("sync_code.py", question)


def _lost_code(launch: Launch) -> CodeError:
    return CodeError(
        f"The code of run {launch.after_run}, commit {launch.commit[:12]} of branch {launch.branch}, is neither in the "
        "pod's clone any more nor in this checkout.",
        means="Nothing was launched.",
        next_step="inv watch in the checkout that the run was launched from, or inv train --until-done with other code",
    )


def _describe_kept(answer: Mapping[str, Any]) -> list[str]:
    """Return what was found in the pod's clone and put aside, in words."""
    notes = []
    if answer.get("patch"):
        notes.append(f"the pod's clone had edits; they are saved in {answer['patch']}")
    if answer.get("kept_ref"):
        notes.append(f"the pod's clone had commits of its own; they are kept as {answer['kept_ref']}")
    if answer.get("overwritten"):
        notes.append(f"files in the way were copied aside: {', '.join(answer['overwritten'])}")
    return notes


def _start_training(
    programs: PodPrograms,
    launch: Launch,
    pod: Pod,
    checkpoint: Checkpoint | None,
    token: str,
    report: Reporter,
) -> Run:
    answer = programs.run("launch.py", build_run_request(launch, pod, checkpoint, token))
    if answer.get("archived"):
        which = "old" if launch.force_restart else "newer"
        folder = answer["archived"]
        report.note(f"the {which} checkpoints were moved aside; --resume-from {folder}/NAME takes one of them")
    for text in answer.get("notes") or []:
        report.note(str(text))
    report.step(f"run {launch.run_id} started in tmux session train")
    asked = {"when_done": launch.when_done, "output_dir": launch.output_dir, "keep_failed_s": launch.keep_failed_s}
    return parse_run({**answer, **asked, "checkpoint": checkpoint and {"path": checkpoint.path}})
