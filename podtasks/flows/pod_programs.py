"""Running the programs of `remote/` on a pod, uploaded once for each of their versions."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from typing import Any

from podtasks.doors import ssh
from podtasks.doors.project_files import read_pod_programs
from podtasks.pure import pod_programs
from podtasks.pure.boot import build_archive
from podtasks.pure.pod import Pod
from podtasks.pure.pod_programs import PodFolders


class PodPrograms:
    """The programs of `remote/` on one pod, uploaded once for each of their versions."""

    def __init__(self, shell: ssh.PodShell, pod: Pod) -> None:
        self._shell = shell
        self._programs = read_pod_programs()
        self.folders: PodFolders = pod_programs.build_folders(pod.container_dir, pod.mount_path, self._programs)
        self._installed = False

    def run(self, program: str, arguments: Mapping[str, Any], more: Iterable[bytes] = ()) -> dict[str, Any]:
        """Run a program to its end and return its answer.

        `more` follows the arguments on its standard input. Raises what the program's refusal stands for,
        RemoteCommandError, TransportError.
        """
        self.install()
        question = pod_programs.build_question(arguments)
        command = pod_programs.build_program_command(self.folders, program)
        output = self._shell.run(command, _chain(question, more))
        return pod_programs.parse_answer(program, output.exit_code, output.stdout, output.stderr)

    def ask(self, program: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Run a program like `run`, in one command where the pod has it already, as most have."""
        if not self._installed:
            command = pod_programs.build_guarded_command(self.folders, program)
            output = self._shell.run(command, [pod_programs.build_question(arguments)])
            if output.exit_code != pod_programs.NOT_INSTALLED:
                self._installed = True
                return pod_programs.parse_answer(program, output.exit_code, output.stdout, output.stderr)
        return self.run(program, arguments)

    def start(self, program: str, arguments: Mapping[str, Any]) -> ssh.RemoteProcess:
        """Start a program that stays, with its arguments sent and its standard input left open."""
        self.install()
        process = self._shell.start(pod_programs.build_program_command(self.folders, program))
        process.send(pod_programs.build_question(arguments))
        return process

    def install(self) -> None:
        """Upload the programs unless this pod has this version of them."""
        if self._installed:
            return
        if self._shell.run(pod_programs.build_presence_command(self.folders)).exit_code != 0:
            archive = build_archive(self._programs)
            command = pod_programs.build_install_command(self.folders, secrets.token_hex(4))
            output = self._shell.run(command, [archive])
            pod_programs.require_success("the upload", output.exit_code, output.stderr)
        self._installed = True


def _chain(question: bytes, more: Iterable[bytes]) -> Iterable[bytes]:
    yield question
    yield from more
