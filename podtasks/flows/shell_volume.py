"""The volume's files through a pod's shell: for parts of logs, where rsync would copy them whole."""

from __future__ import annotations

import posixpath

from podtasks.doors.ssh import PodShell
from podtasks.pure import volume_questions
from podtasks.pure.transfer import VolumeFile


class ShellVolume:
    """The files of the volume that a pod has mounted.

    Args:
        shell: the connection to the pod.
        mount_path: where the volume is there.
    """

    name = "SSH"

    def __init__(self, shell: PodShell, mount_path: str) -> None:
        self._shell = shell
        self._mount_path = mount_path

    def find(self, place: str) -> VolumeFile | None:
        """Return one file's size and time, None where there is none."""
        stdout = self._run(volume_questions.build_find_command(self._path(place)))
        return None if stdout is None else volume_questions.parse_found(place, stdout)

    def read(self, place: str) -> bytes | None:
        """Return a small file whole, None where there is none."""
        return self.read_range(place, 0, None)

    def read_range(self, place: str, first_byte: int, last_byte: int | None) -> bytes | None:
        """Return bytes from one to another, both included; None where there is no file."""
        if self.find(place) is None:
            return None
        return self._run(volume_questions.build_read_command(self._path(place), first_byte, last_byte))

    def list_folder(self, place: str) -> tuple[list[str], list[VolumeFile]]:
        """Return the names of the folders in a folder; its files are not told."""
        stdout = self._run(volume_questions.build_list_command(self._path(place)))
        return volume_questions.parse_folders(stdout or b""), []

    def _path(self, place: str) -> str:
        return posixpath.join(self._mount_path, place)

    def _run(self, command: str) -> bytes | None:
        output = self._shell.run(command)
        return output.stdout if output.exit_code == 0 else None
