"""Files to and from the volume by way of a pod: several rsyncs at once, each over its own SSH connection."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from podtasks.doors import rsync, ssh, ssh_program
from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.many import run_many
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import build_login
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.rsync_part import WordsBuilder, carry_part, find_left_here, find_left_there
from podtasks.pure.errors import RemoteCommandError
from podtasks.pure.pod import Pod
from podtasks.pure.rsync_command import build_download_words, build_upload_words
from podtasks.pure.rsync_parts import RsyncPart, split_download, split_upload
from podtasks.pure.shell import Raw, command_line
from podtasks.pure.transfer import LocalFile, ProgressBar, Tally, VolumeFile, merge

STREAMS = 4


class SshCarrier:
    """The volume by way of a pod that has it mounted; see pure/transfer.Carrier.

    Args:
        shell: an open connection to the pod, for questions; the files go over connections of their own.
        files: where the pod's known_hosts file is kept.
        streams: how many rsyncs may run at once.
    """

    name = "SSH"

    def __init__(
        self,
        shell: ssh.PodShell,
        pod: Pod,
        cloud: Cloud,
        files: ProjectFiles,
        report: Reporter,
        clock: Clock,
        *,
        streams: int = STREAMS,
    ) -> None:
        self._shell = shell
        self._pod = pod
        self._programs = PodPrograms(shell, pod)
        self._report = report
        self._clock = clock
        self._streams = streams
        self._login = build_login(cloud, pod)
        self._files = files
        self._mount_path = pod.mount_path.rstrip("/")

    def upload(self, files: Sequence[LocalFile], progress: ProgressBar) -> Tally:
        """Copy files to the volume, except those that are there with size and time; failures are in the tally.

        Raises TransportError when the link breaks again and again, InstallationError without a usable rsync here.
        """
        if not files:
            return Tally()
        rsync.require_rsync()
        parts = split_upload(files, self._mount_path, self._streams)
        self._prepare_pod({os.path.dirname(part.target) if part.is_renamed else part.target for part in parts})
        ssh_words, destination = self._ssh_words()

        def build(part: RsyncPart) -> list[str]:
            return build_upload_words(part, ssh_words, destination)

        def find_left(part: RsyncPart) -> list[str]:
            return find_left_here(part, build_upload_words(part, ssh_words, destination, dry_run=True))

        return _named_by_place(self._carry_all(parts, build, find_left, progress), self._mount_path)

    def download(self, files: Sequence[VolumeFile], target: Path, progress: ProgressBar) -> Tally:
        """Copy files to `target`, at their places below it, except those that are there; raises as `upload`."""
        if not files:
            return Tally()
        rsync.require_rsync()
        target.mkdir(parents=True, exist_ok=True)
        parts = split_download(files, self._mount_path, str(target), self._streams)
        self._prepare_pod(set())
        ssh_words, destination = self._ssh_words()

        def build(part: RsyncPart) -> list[str]:
            return build_download_words(part, ssh_words, destination)

        return _named_by_place(self._carry_all(parts, build, find_left_there, progress), str(target))

    def list_files(self, place: str) -> Iterator[VolumeFile]:
        """Yield all files at or below a place; none where there is nothing."""
        yield from self._list_deep(place, unfinished=False)

    def list_everything(self, place: str) -> Iterator[VolumeFile]:
        """Yield all files at or below a place, also what interrupted uploads left."""
        yield from self._list_deep(place, unfinished=True)

    def _list_deep(self, place: str, *, unfinished: bool) -> Iterator[VolumeFile]:
        answer = self._programs.run("list_files.py", {"place": place, "deep": True, "unfinished": unfinished})
        for name, size_bytes, modified in answer["files"]:
            yield VolumeFile(name, size_bytes, modified)

    def list_folder(self, place: str) -> tuple[list[str], list[VolumeFile]]:
        """Return one level of a folder: the names of its folders, and its files."""
        answer = self._programs.run("list_files.py", {"place": place, "deep": False})
        return list(answer["folders"]), [VolumeFile(*fields) for fields in answer["files"]]

    def read(self, place: str) -> bytes | None:
        """Return a small file whole, None where there is none."""
        data = self._programs.run("read_file.py", {"place": place})["data"]
        return None if data is None else base64.b64decode(data)

    def delete(self, places: Iterable[str]) -> list[tuple[str, str]]:
        """Delete files; return those that could not be, and why."""
        listed = b"".join(os.fsencode(place) + b"\0" for place in places)
        answer = self._programs.run("delete_files.py", {}, [listed])
        return [(place, why) for place, why in answer["failed"]]

    def _prepare_pod(self, folders: set[str]) -> None:
        """Make the folders that rsync would not make, and install rsync where the image has none: one command."""
        words: list[str | Raw] = ["mkdir", "-p", "--", *sorted(folders), Raw("&&")] if folders else []
        output = self._shell.run(command_line([*words, "command", "-v", "rsync"]))
        if output.exit_code == 0:
            return
        complaint = output.stderr.decode(errors="replace").strip()
        if complaint:
            raise RemoteCommandError(
                f"The pod cannot make the folders: {complaint}.",
                means="Nothing was copied.",
                next_step="choose other places in podtasks.data in invoke.yaml, or make room on the volume",
            )
        installed = self._programs.run("install_programs.py", {"programs": ["rsync"]})["installed"]
        for name in installed:
            self._report.note(f"the image has no {name}; it was installed")

    def _ssh_words(self) -> tuple[list[str], str]:
        known_hosts = ssh_program.write_known_hosts(self._files, self._pod.id, self._login.host_public_key)
        endpoint = self._shell.endpoint
        words = ssh_program.build_ssh_words(endpoint, self._login, known_hosts, tty=False)
        return words, ssh_program.build_destination(endpoint, self._login)

    def _carry_all(
        self,
        parts: Sequence[RsyncPart],
        build: WordsBuilder,
        find_left: Callable[[RsyncPart], list[str]],
        progress: ProgressBar,
    ) -> list[tuple[RsyncPart, Tally]]:
        carried: list[tuple[RsyncPart, Tally]] = []

        def work(part: RsyncPart) -> None:
            carried.append((part, carry_part(part, build, find_left, progress, self._report, self._clock)))

        run_many(work, parts, min(self._streams, len(parts)), on_interrupt=rsync.end_all)
        return carried


def _named_by_place(carried: Sequence[tuple[RsyncPart, Tally]], top: str) -> Tally:
    """Return all tallies as one, with the failures named by their places on the volume."""
    whole = merge(*(tally for _, tally in carried))
    whole.failures = [
        (name if part.is_renamed else os.path.relpath(os.path.join(part.target, name), top), why)
        for part, tally in carried
        for name, why in tally.failures
    ]
    return whole
