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
from podtasks.pure import rsync_output
from podtasks.pure.errors import PodtasksError, RemoteCommandError, TransportError
from podtasks.pure.pod import Pod
from podtasks.pure.rsync_command import build_download_words, build_upload_words, list_names
from podtasks.pure.rsync_output import BytesMoved, FileMoved, find_general_reason, parse_complaints
from podtasks.pure.rsync_parts import RsyncPart, split_download, split_upload
from podtasks.pure.shell import Raw, command_line
from podtasks.pure.transfer import LocalFile, ProgressBar, Tally, VolumeFile, merge

STREAMS = 4
# A broken link is made again after these pauses in seconds.
PAUSES_S = (1.0, 3.0, 9.0, 27.0)

WordsBuilder = Callable[[RsyncPart], list[str]]


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
            return _find_left_here(part, build_upload_words(part, ssh_words, destination, dry_run=True))

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

        return _named_by_place(self._carry_all(parts, build, _find_left_there, progress), str(target))

    def list_files(self, place: str) -> Iterator[VolumeFile]:
        """Yield all files at or below a place; none where there is nothing."""
        answer = self._programs.run("list_files.py", {"place": place, "deep": True})
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
            carried.append((part, self._carry(part, build, find_left, progress)))

        run_many(work, parts, min(self._streams, len(parts)))
        return carried

    def _carry(
        self,
        part: RsyncPart,
        build: WordsBuilder,
        find_left: Callable[[RsyncPart], list[str]],
        progress: ProgressBar,
    ) -> Tally:
        """Copy one part; a broken link is made again, and rsync goes on where it was."""
        track = _Track(part, progress)
        for pause_s in (*PAUSES_S, None):
            track.begin()
            outcome = rsync.run_rsync(build(part), list_names(part), track.hear)
            if outcome.exit_code not in rsync_output.LINK_BROKEN:
                break
            if pause_s is None:
                raise _link_broken(outcome)
            why = rsync_output.last_words(outcome.stderr)
            self._report.note(f"the link broke ({why}); going on in {pause_s:.0f} s")
            self._clock.sleep(pause_s)
        return track.end(_judge(part, outcome, find_left))


class _Track:
    """What has gone through of one part, told to the progress bar as it goes."""

    def __init__(self, part: RsyncPart, progress: ProgressBar) -> None:
        self._part = part
        self._progress = progress
        self._sent: dict[str, int] = {}
        self._before_bytes = self._whole_bytes = self._moved_bytes = self._told_bytes = 0

    def begin(self) -> None:
        """Take back what was on its way when the rsync before this one ended."""
        self._before_bytes = sum(self._sent.values())
        self._whole_bytes = self._moved_bytes = 0
        self._tell()

    def hear(self, line: bytes) -> None:
        """Take in one line of rsync's output."""
        news = rsync_output.parse_line(line)
        if isinstance(news, BytesMoved):
            self._moved_bytes = news.size_bytes
            self._tell()
        elif isinstance(news, FileMoved):
            # A renamed file has one name here and another there; it is known by its place.
            name = next(iter(self._part.sizes)) if self._part.is_renamed else news.name
            self._before_bytes -= self._sent.get(name, 0)
            is_new = name not in self._sent
            self._sent[name] = news.size_bytes
            self._whole_bytes += news.size_bytes
            self._tell(files=int(is_new))

    def end(self, failures: dict[str, str]) -> Tally:
        """Return what came of the part, given the files that stayed behind and why."""
        sent = {name: size for name, size in self._sent.items() if name not in failures}
        there = {name: size for name, size in self._part.sizes.items() if name not in failures and name not in sent}
        self._progress.add(
            files=len(sent) + len(there) - len(self._sent),
            size_bytes=sum(sent.values()) + sum(there.values()) - self._told_bytes,
        )
        return Tally(len(sent), sum(sent.values()), len(there), sum(there.values()), list(failures.items()))

    def _tell(self, files: int = 0) -> None:
        reached = self._before_bytes + max(self._whole_bytes, self._moved_bytes)
        if files or reached != self._told_bytes:
            self._progress.add(files=files, size_bytes=reached - self._told_bytes)
        self._told_bytes = reached


def _judge(
    part: RsyncPart, outcome: rsync.RsyncOutcome, find_left: Callable[[RsyncPart], list[str]]
) -> dict[str, str]:
    """Return the files of a part that stayed behind, and why. Raises what stopped rsync as a whole."""
    if outcome.exit_code == 0:
        return {}
    if outcome.exit_code in rsync_output.INCOMPLETE:
        complaints = parse_complaints(outcome.stderr, (part.source, part.target))
        general = find_general_reason(outcome.stderr)
        left = {*find_left(part), *(complaints.keys() & part.sizes.keys())}
        return {name: complaints.get(name, general) for name in sorted(left)}
    if outcome.exit_code in (rsync_output.INTERRUPTED, -2, -15):
        raise KeyboardInterrupt
    raise RemoteCommandError(
        f"rsync failed with exit code {outcome.exit_code}: {rsync_output.last_words(outcome.stderr)}",
        means="What was copied before stays.",
        next_step="the same command goes on where it was",
    )


def _find_left_here(part: RsyncPart, dry_run_words: list[str]) -> list[str]:
    """Return what is not on the volume after an upload: what rsync would still send, and what cannot be read here."""
    wanted: list[str] = []

    def hear(line: bytes) -> None:
        news = rsync_output.parse_line(line)
        if isinstance(news, FileMoved):
            wanted.append(news.name)

    if part.is_renamed:
        return list(part.sizes)
    outcome = rsync.run_rsync(dry_run_words, list_names(part), hear)
    if outcome.exit_code not in (0, *rsync_output.INCOMPLETE):
        raise _link_broken(outcome)
    left = {*wanted, *(name for name in part.sizes if not os.path.isfile(os.path.join(part.source, name)))}
    return sorted(left & part.sizes.keys())


def _find_left_there(part: RsyncPart) -> list[str]:
    """Return what is not here after a download."""
    return [name for name, size in part.sizes.items() if not _has_size(Path(part.target) / name, size)]


def _has_size(path: Path, size_bytes: int) -> bool:
    try:
        return path.stat().st_size == size_bytes
    except OSError:
        return False


def _named_by_place(carried: Sequence[tuple[RsyncPart, Tally]], top: str) -> Tally:
    """Return all tallies as one, with the failures named by their places on the volume."""
    whole = merge(*(tally for _, tally in carried))
    whole.failures = [
        (name if part.is_renamed else os.path.relpath(os.path.join(part.target, name), top), why)
        for part, tally in carried
        for name, why in tally.failures
    ]
    return whole


def _link_broken(outcome: rsync.RsyncOutcome) -> PodtasksError:
    return TransportError(
        f"The SSH link to the pod broke again and again: {rsync_output.last_words(outcome.stderr)}.",
        means="What was copied is there; an unfinished file is kept in part.",
        next_step="run the same command again: it goes on where it was",
    )
