"""Containers made with bubblewrap: own mount, PID, UTS and IPC namespaces, the host's network.

Isolation is for likeness, not for safety: a program in a pod is as trusted as one run by hand.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from podtasks.emulator import disk, gpus
from podtasks.emulator.dials import ImageRule
from podtasks.emulator.environment import network_settings, path_is_within, paths_named_in
from podtasks.emulator.layout import Layout
from podtasks.emulator.pod import Container, Pod
from podtasks.emulator.process import ProcessIdentity, children_of, end_process, processes_with

# What Docker leaves to root in a container.
_CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP"),
    *("NET_BIND_SERVICE", "NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"),
)
_NAMESPACES = ("--unshare-pid", "--unshare-uts", "--unshare-ipc", "--as-pid-1", "--hostname")
_CERTIFICATE_FOLDERS = (
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls",
    "/etc/pki/ca-trust",
    "/etc/ca-certificates",
    "/etc/alternatives",
    "/etc/fonts",
)
_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")


class SandboxError(Exception):
    """A container could not be started; the text says why."""


class Sandbox(Protocol):
    """A way to run containers."""

    name: str
    note: str
    ssh_user: str

    def new_disk(self, pod: Pod, hostname: str, rule: ImageRule) -> None:
        """Replace the pod's container disk by a new one with its image's files."""

    def start(
        self, pod: Pod, hostname: str, environment: Mapping[str, str], command: Sequence[str], rule: ImageRule
    ) -> Container:
        """Start process 1 of a pod on its container disk."""

    async def stop(self, pod: Pod, container: Container, grace_s: float) -> None:
        """End every process of a container; return when all are gone."""

    async def ended(self, container: Container) -> None:
        """Wait until process 1 and with it the container has ended."""

    async def end_strays(self, pods: Collection[Pod]) -> None:
        """End every process of any pod that is in no container on record.

        Args:
            pods: all pods that exist.
        """

    def volume_mount_path(self, pod: Pod) -> str:
        """Return where processes of the pod find its volume."""

    def listed_environment(self, pod: Pod) -> dict[str, str]:
        """Return the variables that the API lists besides those a pod was ordered with."""


class Bubblewrap:
    """Runs containers with bwrap, as root or as an ordinary user.

    Args:
        layout: the state directory.
        program: the path of bwrap.
    """

    name = "bubblewrap"
    note = ""
    ssh_user = "root"

    def __init__(self, layout: Layout, program: str) -> None:
        self._layout = layout
        self._program = program
        self._monitors: dict[int, subprocess.Popen[bytes]] = {}

    def new_disk(self, pod: Pod, hostname: str, rule: ImageRule) -> None:
        """Replace the pod's container disk by a new one with its image's files."""
        folder = self._layout.container_disk(pod)
        disk.wipe(folder)
        disk.populate(folder, hostname=hostname, ssh_port=pod.sshd_port, rule=rule)
        gpus.furnish(folder / disk.IMAGE_BIN, pod, rule)

    def start(
        self, pod: Pod, hostname: str, environment: Mapping[str, str], command: Sequence[str], rule: ImageRule
    ) -> Container:
        """Start process 1 of a pod on its container disk.

        Raises:
            SandboxError: bwrap refused, or the kernel did.
        """
        report, report_end = os.pipe()
        words = [*self._words(pod, hostname, rule), "--info-fd", str(report_end), "--", *command]
        log_path = self._layout.container_log(pod)
        with log_path.open("ab") as log, os.fdopen(report, "rb") as reader:
            try:
                monitor = subprocess.Popen(
                    words,
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(report_end,),
                    start_new_session=True,
                )
            finally:
                os.close(report_end)
            text = reader.read()
        return self._container(monitor, text, hostname, log_path)

    async def stop(self, pod: Pod, container: Container, grace_s: float) -> None:
        """End every process of a container; return when all are gone."""
        del pod
        await end_process(container.process, grace_s)
        await self.ended(container)

    async def ended(self, container: Container) -> None:
        """Wait until process 1 and with it the container has ended."""
        await container.process.gone()
        await container.monitor.gone()
        popen = self._monitors.pop(container.monitor.pid, None)
        if popen is not None:
            popen.poll()

    async def end_strays(self, pods: Collection[Pod]) -> None:
        """End every container of this state directory that is not on record."""
        known = {process for pod in pods if pod.container for process in (pod.container.monitor, pod.container.process)}
        # Until it runs its command, process 1 has bwrap's own words.
        monitors = [process for process in processes_with(self._bind_words()) if process not in known]
        for monitor in monitors:
            # A stopped monitor starts nothing more while its children are looked for.
            monitor.send(signal.SIGSTOP)
        strays = [*children_of(monitors), *monitors]
        for process in strays:
            process.send(signal.SIGKILL)
        for process in strays:
            await process.gone()

    def _bind_words(self) -> bytes:
        return b"\0--bind\0" + os.fsencode(self._layout.pods) + b"/"

    def volume_mount_path(self, pod: Pod) -> str:
        """Return where processes of the pod find its volume: where it was ordered."""
        return pod.order.volume_mount_path

    def listed_environment(self, pod: Pod) -> dict[str, str]:
        """Return nothing: a container is where its order says."""
        del pod
        return {}

    def _container(self, monitor: subprocess.Popen[bytes], report: bytes, hostname: str, log_path: Path) -> Container:
        if not report:
            monitor.wait()
            raise SandboxError(f"bwrap ended with code {monitor.returncode}; its words are in {log_path}")
        pid = int(json.loads(report)["child-pid"])
        process, watcher = ProcessIdentity.of(pid), ProcessIdentity.of(monitor.pid)
        self._monitors[monitor.pid] = monitor
        gone = ProcessIdentity(pid, -1)
        return Container(process or gone, watcher or ProcessIdentity(monitor.pid, -1), hostname, time.time())

    def _words(self, pod: Pod, hostname: str, rule: ImageRule) -> list[str]:
        words = [self._program]
        if os.getuid() == 0:
            words += ["--cap-drop", "ALL"]
            for name in _CAPABILITIES:
                words += ["--cap-add", f"CAP_{name}"]
        else:
            words += ["--unshare-user"]
        words += [*_NAMESPACES, hostname, "--bind", str(self._layout.container_disk(pod)), "/"]
        for path in self._read_only_paths():
            words += ["--ro-bind", path, path]
        words += self._uv_words(rule)
        words += self._own_folder_words(pod, rule)
        volume = self._layout.volume(pod)
        if volume is not None:
            words += ["--bind", str(volume), pod.order.volume_mount_path]
        return [*words, "--proc", "/proc", "--dev", "/dev", "--chdir", "/"]

    def _read_only_paths(self) -> list[str]:
        """Return what pods see of this machine: programs, certificates, the interpreter, local indexes."""
        system = [path for path in _SYSTEM_FOLDERS if os.path.isdir(path) and not os.path.islink(path)]
        python = [str(Path(sys.base_prefix)), os.path.realpath(sys.base_prefix)]
        wanted = [
            *(path for path in _CERTIFICATE_FOLDERS if os.path.exists(path)),
            *python,
            *paths_named_in(network_settings(os.environ)),
        ]
        result = list(system)
        for path in wanted:
            if not path_is_within(path, tuple(result)):
                result.append(path)
        return result

    def _uv_words(self, rule: ImageRule) -> list[str]:
        words: list[str] = []
        for name in ("uv", "uvx"):
            program = find_beside_python(name)
            if program and name not in rule["without"] and "uv" not in rule["without"]:
                words += ["--ro-bind", program, f"/{disk.IMAGE_BIN}/{name}"]
        return words

    def _own_folder_words(self, pod: Pod, rule: ImageRule) -> list[str]:
        """Mount the folders of an image that lacks programs over this machine's, which stay beside them."""
        words: list[str] = []
        for name in disk.program_folders(rule):
            own = disk.own_folder(self._layout.container_disk(pod), name)
            words += ["--ro-bind", f"/usr/{name}", f"/{disk.HOST_PROGRAMS}/{name}"]
            words += ["--bind", str(own), f"/usr/{name}"]
        return words


def find_bubblewrap(layout: Layout) -> tuple[Bubblewrap | None, str]:
    """Try whether this machine can sandbox, by doing it once.

    Returns:
        the sandbox and an empty text, or None and the reason.
    """
    program = shutil.which("bwrap")
    if program is None:
        return None, "bwrap is not installed"
    user = [] if os.getuid() == 0 else ["--unshare-user"]
    words = [program, *user, *_NAMESPACES, "try", "--ro-bind", "/", "/"]
    words += ["--proc", "/proc", "--dev", "/dev", "true"]
    attempt = subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if attempt.returncode == 0:
        return Bubblewrap(layout, program), ""
    return None, attempt.stderr.strip() or f"bwrap ended with code {attempt.returncode}"


def find_beside_python(name: str) -> str | None:
    """Return a program's path: in the interpreter's own scripts directory, else on the PATH."""
    beside = Path(sysconfig.get_path("scripts"), name)
    return str(beside) if beside.exists() else shutil.which(name)


def is_port_free(port: int, address: str) -> bool:
    """Say whether a TCP port of this machine can be listened on."""
    import socket

    with contextlib.closing(socket.socket()) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
        return True
