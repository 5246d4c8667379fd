"""Containers where the machine cannot sandbox: plain processes in a directory of their own.

Such a pod shares the machine's files, process numbers and user. What it would find at fixed paths lies in
its container disk instead, and variables say where: POD_ROOT, HOME, PODTASKS_DIR, PODTASKS_VOLUME,
PODTASKS_START_SCRIPT and PODTASKS_ENVIRON_FILE (the environment a pod has in /proc/1/environ).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import getpass
import importlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from podtasks.emulator import disk, gpus
from podtasks.emulator.dials import ImageRule
from podtasks.emulator.environment import IMAGE_PATH
from podtasks.emulator.layout import Layout
from podtasks.emulator.pod import Container, Pod
from podtasks.emulator.process import ProcessIdentity, end_process
from podtasks.emulator.sandbox import Sandbox, find_beside_python, find_bubblewrap

_DIRECTORIES = ("bin", "etc/ssh", "root/.ssh", "run", "tmp")
_HOST_KEY = "PODTASKS_HOST_KEY"


class Processes:
    """Runs containers as plain processes.

    Args:
        layout: the state directory.
        reason: why there is no sandbox.
    """

    name = "processes"

    def __init__(self, layout: Layout, reason: str) -> None:
        self._layout = layout
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self.ssh_user = getpass.getuser()
        self.note = (
            f"{reason}: pods are plain processes of {self.ssh_user} under {layout.home}, "
            "with this machine's files and programs"
        )

    def new_disk(self, pod: Pod, hostname: str, rule: ImageRule) -> None:
        """Replace the pod's container disk by a new one with its image's files."""
        del hostname
        root = self._layout.container_disk(pod)
        disk.wipe(root)
        for name in _DIRECTORIES:
            (root / name).mkdir(parents=True)
        (root / "root/.ssh").chmod(0o700)
        shutil.rmtree(_short_directory(pod), ignore_errors=True)
        _short_directory(pod).mkdir(mode=0o700)
        (root / "root/.bashrc").write_text(disk.BASHRC)
        _install_programs(root, rule)
        gpus.furnish(root / "bin", pod, rule)
        (root / "etc/ssh/sshd_config").write_text(self._sshd_config(pod, root))

    def start(
        self, pod: Pod, hostname: str, environment: Mapping[str, str], command: Sequence[str], rule: ImageRule
    ) -> Container:
        """Start process 1 of a pod in its container disk."""
        del rule
        self._end_leftovers(pod)
        root = self._layout.container_disk(pod)
        values = self._environment(pod, root, environment)
        _take_host_key(values, root / "etc/ssh/ssh_host_ed25519_key")
        (root / "environ").write_bytes("".join(f"{key}={value}\0" for key, value in values.items()).encode())
        (root / "environ").chmod(0o600)
        words = [f"{root}/start.sh"] if list(command) == ["/start.sh"] else list(command)
        with self._layout.container_log(pod).open("ab") as log:
            child = subprocess.Popen(
                words,
                env=values,
                cwd=root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children[child.pid] = child
        identity = ProcessIdentity.of(child.pid) or ProcessIdentity(child.pid, -1)
        return Container(identity, identity, hostname, time.time())

    async def stop(self, pod: Pod, container: Container, grace_s: float) -> None:
        """End every process of a container; return when all are gone."""
        members = self._members(pod, known=[container.process.pid])
        await end_process(container.process, grace_s)
        for process in members:
            process.send(signal.SIGKILL)
            await process.gone()
        self._end_leftovers(pod)
        shutil.rmtree(_short_directory(pod), ignore_errors=True)
        await self.ended(container)

    async def ended(self, container: Container) -> None:
        """Wait until process 1 has ended."""
        await container.process.gone()
        child = self._children.pop(container.process.pid, None)
        if child is not None:
            child.wait()

    def volume_mount_path(self, pod: Pod) -> str:
        """Return where processes of the pod find its volume: the directory itself."""
        return str(self._layout.volume(pod) or self._layout.container_disk(pod) / "workspace")

    def _sshd_config(self, pod: Pod, root: Path) -> str:
        lines = [
            f'HostKey "{root}/etc/ssh/ssh_host_ed25519_key"',
            f'AuthorizedKeysFile "{root}/root/.ssh/authorized_keys"',
            f'PidFile "{root}/run/sshd.pid"',
            "StrictModes no",
        ]
        session = {"PATH": _search_path(root), **self._where(pod, root)}
        return "\n".join(lines) + "\n" + disk.sshd_config(pod.sshd_port, session)

    def _where(self, pod: Pod, root: Path) -> dict[str, str]:
        return {
            "HOME": f"{root}/root",
            "TMUX_TMPDIR": str(_short_directory(pod)),
            "POD_ROOT": str(root),
            "PODTASKS_DIR": str(_short_directory(pod)),
            "PODTASKS_VOLUME": self.volume_mount_path(pod),
            "PODTASKS_START_SCRIPT": f"{root}/start.sh",
            "PODTASKS_ENVIRON_FILE": f"{root}/environ",
        }

    def listed_environment(self, pod: Pod) -> dict[str, str]:
        """Return where podtasks keeps its own files on this pod, which no client could guess."""
        return {"PODTASKS_DIR": str(_short_directory(pod))}

    def _environment(self, pod: Pod, root: Path, environment: Mapping[str, str]) -> dict[str, str]:
        """Return a pod's environment with its paths turned into the real ones."""
        Path(self.volume_mount_path(pod)).mkdir(exist_ok=True)
        mount = re.compile(rf"(^|:){re.escape(pod.order.volume_mount_path)}(?=[/:]|$)")
        real = self.volume_mount_path(pod)
        values = {name: mount.sub(lambda found: found.group(1) + real, value) for name, value in environment.items()}
        return {**values, "PATH": _search_path(root), "TMPDIR": f"{root}/tmp", **self._where(pod, root)}

    async def end_strays(self, pods: Collection[Pod]) -> None:
        """End every process of a pod without a running container."""
        without = [pod for pod in pods if pod.container is None or not pod.container.process.is_alive()]
        strays = await asyncio.to_thread(self._members, *without) if without else []
        for process in strays:
            process.send(signal.SIGKILL)
        for process in strays:
            await process.gone()

    def _end_leftovers(self, pod: Pod) -> None:
        """Kill what a pod's process 1 left behind when it ended; a real container takes all with it."""
        for process in self._members(pod):
            process.send(signal.SIGKILL)

    def _members(self, *pods: Pod, known: Collection[int] = ()) -> list[ProcessIdentity]:
        """Return the processes of pods: those that know an environment file of theirs, and all their descendants."""
        psutil: Any = importlib.import_module("psutil")
        roots = [str(self._layout.container_disk(pod)) for pod in pods]
        markers = {f"{root}/environ" for root in roots}
        found = set(known)
        parents: dict[int, int] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                parents[process.pid] = process.ppid()
                # sshd wipes its environment, but shows the configuration it was started with.
                words = " ".join(process.cmdline())
                configured = any(f"{root}/etc/ssh/" in words for root in roots)
                if configured or process.environ().get("PODTASKS_ENVIRON_FILE") in markers:
                    found.add(process.pid)
        while more := {pid for pid, parent in parents.items() if parent in found} - found:
            found |= more
        identities = (ProcessIdentity.of(pid) for pid in found - {os.getpid()})
        return [identity for identity in identities if identity is not None]


def choose_sandbox(layout: Layout, wish: str) -> Sandbox:
    """Return the way to run containers on this machine.

    Args:
        layout: the state directory.
        wish: "bubblewrap", "processes", or "auto" for bubblewrap where it works.

    Raises:
        SystemExit: bubblewrap was demanded and does not work.
    """
    if wish == "processes":
        return Processes(layout, "plain processes were asked for")
    bubblewrap, reason = find_bubblewrap(layout)
    if bubblewrap is not None:
        return bubblewrap
    if wish == "bubblewrap":
        raise SystemExit(f"podtasks.emulator: this machine cannot sandbox: {reason}")
    return Processes(layout, reason)


def _install_programs(root: Path, rule: ImageRule) -> None:
    if rule["start_sh"]:
        disk.install(disk.IMAGE_FILES / "start.sh", root / "start.sh")
    if "runpodctl" not in rule["without"]:
        disk.install(disk.IMAGE_FILES / "runpodctl", root / "bin/runpodctl")
    links = {"python": disk.python_executable(), "python3": disk.python_executable()}
    links.update({name: program for name in ("uv", "uvx") if (program := find_beside_python(name))})
    for name, program in links.items():
        if name not in rule["without"]:
            (root / "bin" / name).symlink_to(program)


def _short_directory(pod: Pod) -> Path:
    """Return where the pod's sockets are: the path of one may have 104 characters only."""
    return Path(tempfile.gettempdir()) / f"podtasks-{pod.id}"


def _search_path(root: Path) -> str:
    return f"{root}/bin:{IMAGE_PATH.partition(':')[2]}:{os.environ.get('PATH', '')}"


def _take_host_key(values: dict[str, str], path: Path) -> None:
    """Make a host key given in PODTASKS_HOST_KEY the pod's, and take it out of the environment.

    Process 1 of podtasks would write it to /etc/ssh, which here is the machine's own.
    """
    key = values.pop(_HOST_KEY, None)
    if key and not path.exists():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64decode(key))
