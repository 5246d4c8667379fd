"""The programs of remote/ on a pod: the command that runs one, and the parser of what it answers.

Each takes one JSON object on its standard input and answers with one on its standard output
(remote/README.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from podtasks.pure.errors import (
    CloneSetAsideError,
    CodeError,
    OvertakenError,
    PodtasksError,
    RemoteCommandError,
    RemoteRefusedError,
    UsageError,
)
from podtasks.pure.shell import Raw, command_line

REFUSED = 20
NOT_INSTALLED = 97
LAST_LINES = 12


@dataclass(frozen=True)
class PodFolders:
    """Where things lie on one pod.

    Args:
        container: the folder of podtasks on the container disk, which is wiped at each start.
        volume: where the volume is mounted.
        kit: the folder of this version's programs, named after their contents.
    """

    container: str
    volume: str
    kit: str


def build_folders(container: str, volume: str, programs: Mapping[str, bytes]) -> PodFolders:
    """Given a pod's two roots and the programs, return its folders."""
    digest = hashlib.sha256()
    for name in sorted(programs):
        digest.update(f"{name}\0{len(programs[name])}\0".encode() + programs[name])
    return PodFolders(container, volume, f"{container}/kit-{digest.hexdigest()[:12]}")


def build_presence_command(folders: PodFolders) -> str:
    """Return the command that succeeds where the pod has these programs already."""
    return command_line(["test", "-d", folders.kit])


def build_install_command(folders: PodFolders, nonce: str) -> str:
    """Return the command that unpacks the programs from a tar.gz on its standard input, all or nothing.

    `nonce` keeps two launches at once apart; the programs of whichever comes first stay.
    """
    partial = f"{folders.kit}.{nonce}"
    words: list[str | Raw] = ["mkdir", "-p", partial, Raw("&&"), "tar", "xz", "-C", partial, Raw("&&")]
    words += [Raw("{"), "mv", "-T", partial, folders.kit, Raw("2>/dev/null || {")]
    words += ["rm", "-rf", partial, Raw("&&"), "test", "-d", folders.kit, Raw("; }; }")]
    return command_line(words)


def build_program_command(folders: PodFolders, program: str) -> str:
    """Return the command that runs one of the programs."""
    return command_line(
        [
            "env",
            f"PODTASKS_DIR={folders.container}",
            f"PODTASKS_VOLUME={folders.volume}",
            "python3",
            f"{folders.kit}/{program}",
        ]
    )


def build_guarded_command(folders: PodFolders, program: str) -> str:
    """Return the command that runs one of the programs, or ends with NOT_INSTALLED where the pod has none."""
    missing = f"|| exit {NOT_INSTALLED} ;"
    return f"{build_presence_command(folders)} {missing} {build_program_command(folders, program)}"


def build_question(arguments: Mapping[str, Any]) -> bytes:
    """Return a program's standard input for these arguments."""
    return json.dumps(arguments).encode() + b"\n"


def parse_answer(program: str, exit_code: int, stdout: bytes, stderr: bytes) -> dict[str, Any]:
    """Return a program's answer.

    Raises the error that its refusal stands for, RemoteCommandError when it failed.
    """
    answer = _parse_json(stdout)
    if exit_code == REFUSED and answer is not None:
        raise describe_refusal(program, answer)
    if exit_code != 0 or answer is None:
        raise _failure(program, exit_code, stderr)
    return answer


def require_success(purpose: str, exit_code: int, stderr: bytes) -> None:
    """Raise RemoteCommandError unless a command on the pod succeeded."""
    if exit_code != 0:
        raise _failure(purpose, exit_code, stderr)


def _parse_json(stdout: bytes) -> dict[str, Any] | None:
    lines = stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def describe_refusal(program: str, answer: Mapping[str, Any]) -> PodtasksError:
    """Return the error that a program's refusal stands for."""
    reasons = [_quote(str(answer[name])).rstrip(".") for name in ("error", "detail") if answer.get(name)]
    detail = ": ".join(reasons) or "no reason given"
    if answer.get("overtaken"):
        return OvertakenError(
            f"The pod refused. {detail}.",
            run_id=str(answer["overtaken"]),
            means="Nothing was touched: somebody else was faster.",
            next_step="inv logs follows the newest run",
        )
    if answer.get("set_aside"):
        return CloneSetAsideError(
            f"The pod refused. {detail}.",
            kept_in=str(answer["set_aside"]),
            means="No training was started. Edits that were in the clone are saved on the volume.",
            next_step="run the same command again: the code is then sent whole",
        )
    kinds = {"sync_code.py": CodeError, "find_checkpoint.py": UsageError}
    steps = {
        "sync_code.py": "mend the repository or its access, then run the same command again",
        "prepare.py": "use an image that has these programs, or apt-get to install them: the setting image",
        "find_checkpoint.py": "name a complete checkpoint, or leave --resume-from out to take the newest",
    }
    return kinds.get(program, RemoteRefusedError)(
        f"The pod refused. {detail}.",
        means="No training was started. The pod stops itself within its grace time; inv stop does it now.",
        next_step=steps.get(program, "inv logs shows what the pod did last; then run the same command again"),
    )


def _quote(text: str) -> str:
    """Return what a program said with each line once, and no line of it where one of ours could be."""
    return "\n  ".join(dict.fromkeys(line.rstrip() for line in text.strip().splitlines() if line.strip()))


def _failure(program: str, exit_code: int, stderr: bytes) -> RemoteCommandError:
    tail = "\n".join(stderr.decode("utf-8", "replace").strip().splitlines()[-LAST_LINES:])
    return RemoteCommandError(
        f"{program} failed on the pod with exit code {exit_code}:\n{tail or '(it wrote nothing)'}",
        means="No training was started. The pod stops itself within its grace time; inv stop does it now.",
        next_step="run the same command again; if it lasts, inv terminate and inv train make a new pod",
    )
