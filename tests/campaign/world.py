"""One training project on its own local cloud, in which many seeds are played one after the other."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from podtasks.doors.key_files import ensure_login_key
from tests.campaign import pipeline
from tests.campaign.command_server import Command, CommandServer
from tests.campaign.observer import SCANNER, Observer
from tests.campaign.schedule import Plan
from tests.campaign.strike import Missed
from tests.campaign.users_files import TOKEN, UsersFiles
from tests.end_to_end.project import ROOT, TrainingProject

VOLUME_SIZE = "24m"
IDENTITY = """\
# Mine: this line stays as it is.
RUNPOD_API_KEY={key}
NETWORK_VOLUME_ID={volume_id}

POD_ID=
SSH_KEY_PATH={ssh_key}
HF_TOKEN={token}
{more}
"""
CONFIG = f"""\
output_dir: checkpoints/run
logging_dir: logs/run
steps: {pipeline.STEPS}
save_steps: {pipeline.SAVE_STEPS}
step_s: {pipeline.STEP_S}
token_sha256: {{token_sha256}}
"""
# What a command launched for the next seed must not find of the seeds before it.
LEFT_ALONE = frozenset({"cloud", "local_key", "local_key.pub", ".gitignore"})
ENOUGH_S = 60.0


class World:
    """A project, a cloud, the commands that train there, and the timeline of the seed being played.

    Args:
        folder: an empty folder for it, on a short path.
        code: the checkout whose podtasks/ and remote/ are used; mutants have one of their own.
    """

    def __init__(self, folder: Path, code: Path = ROOT) -> None:
        self.folder = folder
        self.project = TrainingProject.make(folder / "my project")
        self.commands: list[Command] = []
        self.began = time.time()
        self.timeline: list[tuple[float, str]] = []
        self.is_relayed = False
        self._code = code
        self._name = f"campaign-{os.getpid()}-{id(self)}"
        self._plan: Plan | None = None
        self._is_mounted = False
        self._numbers = itertools.count()
        self._exits = contextlib.ExitStack()

    # What strikes may use

    @property
    def command(self) -> Command:
        """The newest `inv train` of the seed, a process with `pid`, `poll` and `returncode`."""
        if not self.commands:
            raise Missed("no command was started yet")
        return self.commands[-1]

    def start_again(self) -> Command:
        """Start a second `inv train` beside the running one; with --until-done, two watch the same training."""
        self.note("a second inv train")
        return self.start(*self.struck_words)

    @property
    def struck_words(self) -> tuple[str, ...]:
        """The further words of the commands that are struck."""
        return ("--until-done",) if self._now_playing.until_done else ()

    def restart_cloud(self) -> None:
        """Kill the emulator and start it again on its state; its pods go on meanwhile."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(self.project.server()["pid"], signal.SIGKILL)
        if self.project.cloud is not None:
            self.project.cloud.wait()
        self.project.start_cloud()

    def fill_volume(self, leave_bytes: int = 0) -> None:
        """Fill the network volume but for some bytes; raises Missed where it is no small disk of its own."""
        if not self._is_mounted:
            raise Missed("the volume is no disk of its own here")
        filler = os.open(self.project.volume / "filler", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            while (more := self.free_bytes() - leave_bytes) > 0:
                os.write(filler, bytes(min(more, 1 << 20)))
        except OSError as error:
            self.note(f"the volume takes no more: {error.strerror}")
        finally:
            os.close(filler)

    def free_volume(self) -> None:
        """Undo fill_volume."""
        (self.project.volume / "filler").unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Return what is free on the network volume."""
        told = os.statvfs(self.project.volume)
        return told.f_bavail * told.f_frsize

    def note(self, text: str) -> None:
        """Write into the timeline."""
        self.timeline.append((time.time(), text))

    # One seed

    def begin(self, plan: Plan) -> None:
        """Make everything ready for a seed."""
        self._plan = plan
        self.commands.clear()
        self.timeline.clear()
        self._write_identity(plan)
        self.users.write()
        self._make_journal()
        self._reset_cloud(plan)
        self.began = time.time()
        self.observer.begin()

    def start(self, *more: str) -> Command:
        """Start `inv train` with these further words."""
        words = ("train", "--config", "configs/run.yaml", *more)
        folder = self.folder / "said" / str(next(self._numbers))
        start = self._start_plainly if self._now_playing.plain else self._server.start
        command = start(words, folder, self.project.path, self._environment())
        self.commands.append(command)
        self.note(f"inv {' '.join(words)} ({command.pid})")
        return command

    def is_idle(self) -> bool:
        """Return whether no pod is billed and nothing of any runs."""
        told = self.project.ask("status")["pods"]
        return "RUNNING" not in told.values() and not any(self._inside(pod)["process_id"] for pod in told)

    def is_billed(self) -> bool:
        """Return whether a pod runs, as far as the cloud can be asked now."""
        try:
            return bool(self.project.ask("status")["running"])
        except (OSError, ValueError):
            return True

    def end_troubles(self) -> None:
        """Put the cloud in order: no faults, dials as the seed has them, space on the volume."""
        self._reset_cloud(self._now_playing)
        self.free_volume()

    def wait_for(self, reached: Callable[[], bool], timeout_s: float, pause_s: float = 0.05) -> bool:
        """Wait until something is so; return whether it came to be in time."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                if reached():
                    return True
            time.sleep(pause_s)
        return False

    def finish(self) -> None:
        """Remove what the seed has left: commands, pods, files."""
        self.observer.end()
        for command in self.commands:
            with contextlib.suppress(ProcessLookupError):
                if command.poll() is None:
                    os.kill(command.pid, signal.SIGKILL)
        self._remove_pods()
        _empty(self.project.volume, frozenset())
        _empty(self.project.path / ".podtasks", LEFT_ALONE)
        shutil.rmtree(self.folder / "said", ignore_errors=True)

    @property
    def log_path(self) -> Path:
        """The log of all runs, on the volume."""
        return self._volume / "logs/current.log"

    @property
    def output(self) -> Path:
        """The training's output directory, on the volume."""
        return self._volume / "checkpoints/run"

    @property
    def journal_path(self) -> Path:
        """The pipeline's journal."""
        return self._volume / "mine/journal"

    # The life of a world

    def __enter__(self) -> World:
        self._exits.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._exits.callback(self.project.end)
        self.project.start_cloud("--idle-exit-s", "600")
        server = self.project.server()
        self._volume = self.project.volume
        self._token = f"hf_SENTINEL{os.urandom(12).hex()}"
        self._mount()
        self._write_project()
        key = ensure_login_key(self.folder / "key")
        self._identity = {"volume_id": server["volume_id"], "ssh_key": str(key), "token": self._token}
        self._key, self._url = server["key"], server["url"]
        self._sentinel = f"rpa_SENTINEL{os.urandom(12).hex()}"
        secrets = {
            "the API key": self._key,
            "the S3 secret key": server["s3_secret_key"],
            "the unused API key": self._sentinel,
            TOKEN: self._token,
        }
        self.secrets = {name: value.encode() for name, value in secrets.items()}
        self.users = UsersFiles(self.project.path, self._volume)
        self.observer = Observer(self._name, self.project.path / ".runpod.env", self.secrets, frozenset({TOKEN}))
        SCANNER.add(self.observer)
        self._exits.callback(SCANNER.remove, self.observer)
        self._server = CommandServer(self._code, self.project.environment())
        self._exits.callback(self._server.close)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, ValueError, TimeoutError):
            self.finish()
        self._exits.close()

    @property
    def _now_playing(self) -> Plan:
        assert self._plan is not None, "no seed is being played"
        return self._plan

    def _mount(self) -> None:
        """Make the network volume a small disk in memory, where this user may."""
        if os.geteuid() == 0 and shutil.which("mount"):
            words = ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_SIZE},mode=755", "podtasks", str(self._volume)]
            self._is_mounted = subprocess.run(words, check=False, capture_output=True).returncode == 0
        if self._is_mounted:
            self._exits.callback(subprocess.run, ["umount", "--lazy", str(self._volume)], check=False)

    def _write_project(self) -> None:
        self.project.set(
            project=self._name,
            env='{CAMPAIGN_JOURNAL: "{mount_path}/mine/journal"}',
            stop_grace_s="2",
            data="{}",
            secrets="[HF_TOKEN]",
        )
        config = CONFIG.format(token_sha256=hashlib.sha256(self._token.encode()).hexdigest())
        (self.project.path / "configs/run.yaml").write_text(config)
        (self.project.path / "scripts/train.py").write_text(Path(pipeline.__file__).read_text())
        with open(self.project.path / ".gitignore", "a") as ignored:
            ignored.write("notes.txt\n")
        self.project.commit("the campaign's pipeline")

    def _write_identity(self, plan: Plan) -> None:
        if plan.as_runpod:
            key, more = self._key, f"RUNPOD_API_BASE_URL={self._url}   # the local cloud, taken for RunPod"
        else:
            key, more = self._sentinel, "# the local cloud as itself"
        path = self.project.path / ".runpod.env"
        path.write_text(IDENTITY.format(key=key, more=more, **self._identity))
        path.chmod(0o600)

    def _make_journal(self) -> None:
        self.journal_path.parent.mkdir(parents=True, exist_ok=True)
        self.journal_path.write_bytes(bytes(pipeline.REGIONS * pipeline.REGION_BYTES))

    def _reset_cloud(self, plan: Plan) -> None:
        self.wait_for(lambda: self.project.ask("status") is not None, ENOUGH_S)
        self._delete("faults")
        self.project.ask("dials", {**self._first_dials, "ssh_s": plan.boot_s, "relay": True, "stale_runtime_s": 0.5})

    @property
    def _first_dials(self) -> dict[str, Any]:
        from podtasks.emulator.dials import Dials

        return dict(vars(Dials()))

    def _delete(self, route: str) -> None:
        import urllib.request

        server = self.project.server()
        request = urllib.request.Request(
            f"{server['url']}/_cloud/{route}", method="DELETE", headers={"Authorization": f"Bearer {server['key']}"}
        )
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()

    def _environment(self) -> dict[str, str]:
        plan = self._now_playing
        settings = {
            "PODTASKS_GRACE_MINUTES": f"{plan.grace_s / 60:.6f}",
            "PODTASKS_POD_READY_TIMEOUT_S": f"{plan.ready_timeout_s:g}",
            "PODTASKS_WHEN_DONE": plan.when_done,
            "PODTASKS_CLOUD": "auto" if plan.as_runpod else "local",
        }
        return self.project.environment(**{**settings, "PYTHONPATH": str(self._code)})

    def _start_plainly(self, words: tuple[str, ...], folder: Path, cwd: Path, environment: dict[str, str]) -> Command:
        """Start a command as a user does, with all its imports."""
        import threading

        command = Command(words, folder, time.time())
        with open(command.out, "wb") as out, open(command.err, "wb") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "invoke", *words],
                cwd=cwd,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        command.pid = process.pid
        threading.Thread(target=lambda: command.end(process.wait()), daemon=True).start()
        return command

    def _inside(self, pod: str) -> dict[str, Any]:
        inside: dict[str, Any] = self.project.ask(f"pods/{pod}")
        return inside

    def _remove_pods(self) -> None:
        """Terminate all pods and wait until nothing of them is left."""
        self.wait_for(lambda: self.project.ask("status") is not None, ENOUGH_S)
        for pod, state in self.project.ask("status")["pods"].items():
            if state == "RUNNING":
                self.project.ask(f"pods/{pod}/kill", {})
            self.project.graphql(f'mutation {{ podTerminate(input: {{podId: "{pod}"}}) }}')
        if not self.wait_for(lambda: not self.project.ask("status")["pods"], ENOUGH_S):
            raise AssertionError(f"pods are left: {self.project.ask('status')['pods']}")


def _empty(folder: Path, kept: frozenset[str]) -> None:
    for path in folder.iterdir():
        if path.name in kept:
            continue
        if path.is_dir() and not path.is_symlink():
            _make_accessible(path)
            shutil.rmtree(path)
        else:
            path.unlink()


def _make_accessible(folder: Path) -> None:
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o700)
