"""The OpenSSH client and rsync over a real sshd, with hostile names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from podtasks.doors import rsync, ssh_program
from podtasks.doors.clock import SystemClock
from podtasks.doors.project_files import ProjectFiles
from podtasks.doors.runpod_rest import RunPodRest
from podtasks.doors.runpod_sdk import RunPodSdk
from podtasks.doors.ssh import PodShell, SshLogin
from podtasks.flows.cloud import Cloud
from podtasks.flows.ssh_carrier import SshCarrier
from podtasks.pure.errors import InstallationError, TransportError
from podtasks.pure.pod import Pod, PodStatus, SshEndpoint
from podtasks.pure.secret import Secret
from podtasks.pure.transfer import LocalFile, VolumeFile
from tests.remote.sshd import Sshd, make_key

HOSTILE = ["-rf", "two words", "$(touch x);'q\"", "new\nline", "umläut", "\udcff\udcfe", "*", "a:b", " x", "\\#012"]


@dataclass
class Heard:
    """A progress bar and a reporter that remember."""

    files: int = 0
    size_bytes: int = 0
    notes: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, files: int = 0, size_bytes: int = 0) -> None:
        with self.lock:
            self.files += files
            self.size_bytes += size_bytes

    def step(self, text: str) -> None:
        del text

    def note(self, text: str) -> None:
        self.notes.append(text)


class HurriedClock(SystemClock):
    """Waits a hundredth of what it is told."""

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 100)


class Volume:
    """A volume behind an sshd, and a project that reaches it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "pro ject's"
        self.mount = folder / "vol ume's"
        self.kit = folder / "kit"
        for path in (self.folder, self.mount, self.kit):
            path.mkdir()
        key = make_key(self.folder / "key %h")
        self.sshd = Sshd(folder, key.with_name(key.name + ".pub"))
        self.files = ProjectFiles(self.folder)
        self.heard = Heard()
        host_key = self.sshd.host_key.with_name(self.sshd.host_key.name + ".pub").read_text().strip()
        env = {"PODTASKS_HOST_PUBLIC_KEY": host_key, "PODTASKS_DIR": str(self.kit)}
        endpoint = SshEndpoint("127.0.0.1", self.sshd.port)
        self.pod = Pod("p", "p", PodStatus.RUNNING, "i", "g", 1, 0.0, str(self.mount), "", endpoint, env)
        clock = SystemClock()
        secret = Secret("k")
        api, rest = RunPodSdk(secret, "http://127.0.0.1:9", clock), RunPodRest(secret, "http://127.0.0.1:9", clock)
        user = os.environ.get("USER") or "root"
        self.cloud = Cloud(
            "c", True, api=api, rest=rest, identity_path=folder, pod_id="", network_volume_id="v",
            key_path=key, public_key="", ssh_user=user,
        )  # fmt: skip
        self.login = SshLogin(key, host_key, user)
        self.shell = PodShell(endpoint, self.login)
        self.shell.connect()

    def carrier(self, streams: int = 4) -> SshCarrier:
        return SshCarrier(self.shell, self.pod, self.cloud, self.files, self.heard, HurriedClock(), streams=streams)

    def make(self, name: str, data: bytes, place: str | None = None) -> LocalFile:
        path = self.folder / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        found = path.stat()
        return LocalFile(path, place or f"data/{name}", found.st_size, found.st_mtime_ns)

    def ssh_words(self, *, tty: bool = False) -> list[str]:
        known_hosts = ssh_program.write_known_hosts(self.files, self.pod.id, self.login.host_public_key)
        assert self.pod.ssh is not None
        return ssh_program.build_ssh_words(self.pod.ssh, self.login, known_hosts, tty=tty)

    def run_ssh(self, *words: str, **options: Any) -> subprocess.CompletedProcess[bytes]:  # noqa: ANN401
        command = [*self.ssh_words(), f"{self.login.user}@127.0.0.1", *words]
        return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL, **options)

    def end(self) -> None:
        self.shell.close()
        self.sshd.end()


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Volume]:
    volume = Volume(tmp_path)
    yield volume
    volume.end()


def test_ssh_reaches_this_pod_with_a_known_hosts_file_of_its_own(volume: Volume) -> None:
    done = volume.run_ssh("echo", "reached")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"reached\n", b"")
    path = volume.folder / ".podtasks/known_hosts/p"
    assert path.stat().st_mode & 0o077 == 0
    assert path.read_text().startswith("podtasks-pod ssh-ed25519 ")


def test_ssh_refuses_another_machine_at_the_same_address(volume: Volume, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other").with_name("other.pub").read_text()
    volume.login = SshLogin(volume.login.key_path, other.strip(), volume.login.user)
    done = volume.run_ssh("echo", "reached")
    assert (done.returncode, done.stdout) == (255, b"")
    assert b"verification failed" in done.stderr


def test_users_ssh_configuration_and_agent_do_not_count(volume: Volume) -> None:
    (volume.folder / ".ssh").mkdir()
    (volume.folder / ".ssh/config").write_text("Host *\n  ForwardAgent yes\n  ProxyCommand false\n")
    words = volume.ssh_words()
    assert words[1:3] == ["-F", "none"]
    assert {"ForwardAgent=no", "IdentitiesOnly=yes", "StrictHostKeyChecking=yes", "BatchMode=yes"} <= set(words)
    assert "BatchMode=no" in volume.ssh_words(tty=True)
    assert volume.run_ssh("true", env={**os.environ, "HOME": str(volume.folder)}).returncode == 0


def test_missing_ssh_program_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InstallationError, match="no program ssh"):
        ssh_program.find_program()


@pytest.mark.parametrize("name", ["a/b", "../../x", ""])
def test_known_hosts_file_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    path = ssh_program.write_known_hosts(ProjectFiles(tmp_path), name, "ssh-ed25519 AAAA x")
    assert path.parent == tmp_path / ".podtasks/known_hosts"


def test_files_with_hostile_names_arrive_and_are_skipped_the_second_time(volume: Volume) -> None:
    files = [volume.make(f"in ner/{name}", name.encode(errors="surrogateescape") * 5) for name in HOSTILE]
    files.append(volume.make("words.jsonl", b"{}", "text/other name.jsonl"))
    whole = sum(file.size_bytes for file in files)
    tally = volume.carrier().upload(files, volume.heard)
    assert (tally.sent_files, tally.sent_bytes, tally.skipped_files, tally.failures) == (len(files), whole, 0, [])
    assert (volume.heard.files, volume.heard.size_bytes) == (len(files), whole)
    for file in files:
        arrived = volume.mount / file.place
        assert arrived.read_bytes() == file.path.read_bytes()
        assert int(arrived.stat().st_mtime) == int(file.path.stat().st_mtime)
    again = volume.carrier().upload(files, volume.heard)
    assert (again.sent_files, again.skipped_files, again.skipped_bytes) == (0, len(files), whole)
    assert volume.heard.files == 2 * len(files)


def test_a_name_that_rsync_takes_for_a_comment_arrives_both_ways(volume: Volume) -> None:
    files = [volume.make(name, b"x", f"clips/{name}") for name in ("#a", ";b", "c")]
    assert volume.carrier().upload(files, volume.heard).sent_files == 3
    assert sorted(path.name for path in (volume.mount / "clips").iterdir()) == ["#a", ";b", "c"]
    (volume.mount / "#top").write_bytes(b"top")
    volume.carrier().download([VolumeFile("#top", 3, 0.0)], volume.folder / "here", volume.heard)
    assert (volume.folder / "here/#top").read_bytes() == b"top"


def test_files_of_which_the_broken_link_tells_nothing_are_not_counted(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = iter([rsync.RsyncOutcome(23, b"rsync: something\n"), rsync.RsyncOutcome(255, b"ssh: gone\n")])
    monkeypatch.setattr("podtasks.doors.rsync.run_rsync", lambda *_: next(outcomes))
    with pytest.raises(TransportError, match="ssh: gone"):
        volume.carrier().upload([volume.make("x", b"1")], volume.heard)


def test_a_changed_file_is_sent_again_and_no_other(volume: Volume) -> None:
    files = [volume.make(str(number), b"x") for number in range(3)]
    volume.carrier().upload(files, volume.heard)
    changed = volume.make("1", b"changed")
    tally = volume.carrier().upload([files[0], changed, files[2]], volume.heard)
    assert (tally.sent_files, tally.sent_bytes, tally.skipped_files) == (1, 7, 2)


def test_linked_files_and_folders_arrive_as_what_they_lead_to(volume: Volume) -> None:
    volume.make("real/x", b"content")
    (volume.folder / "data/link").symlink_to("real")
    found = (volume.folder / "data/link/x").stat()
    file = LocalFile(volume.folder / "data/link/x", "data/link/x", found.st_size, found.st_mtime_ns)
    (volume.mount / "elsewhere").mkdir()
    (volume.mount / "data").symlink_to("elsewhere")
    assert volume.carrier().upload([file], volume.heard).sent_files == 1
    assert (volume.mount / "data").is_symlink(), "what the user put there stays"
    assert (volume.mount / "elsewhere/link/x").read_bytes() == b"content"


def test_each_file_that_stays_behind_is_named_with_the_reason(volume: Volume) -> None:
    good, gone, blocked = volume.make("good", b"1"), volume.make("gone", b"2"), volume.make("blocked", b"3")
    gone.path.unlink()
    (volume.mount / "data/blocked/full").mkdir(parents=True)
    tally = volume.carrier().upload([good, gone, blocked], volume.heard)
    assert (tally.sent_files, tally.sent_bytes) == (1, 1)
    reasons = dict(tally.failures)
    assert sorted(reasons) == ["data/blocked", "data/gone"]
    assert reasons == {"data/blocked": "a folder with files is in its place", "data/gone": "No such file or directory"}
    assert (volume.heard.files, volume.heard.size_bytes) == (1, 1)


def test_a_file_that_gets_another_name_can_fail_too(volume: Volume) -> None:
    file = volume.make("a.json", b"1", "b.json")
    file.path.unlink()
    assert [place for place, _ in volume.carrier().upload([file], volume.heard).failures] == ["b.json"]


def test_files_come_back_and_those_that_do_not_are_named(volume: Volume) -> None:
    for name in HOSTILE:
        (volume.mount / "out").mkdir(exist_ok=True)
        (volume.mount / "out" / name).write_bytes(b"abc")
    wanted = [*(VolumeFile(f"out/{name}", 3, 0.0) for name in HOSTILE), VolumeFile("out/none", 3, 0.0)]
    target = volume.folder / "fetched here"
    tally = volume.carrier().download(wanted, target, volume.heard)
    assert (tally.sent_files, tally.sent_bytes) == (len(HOSTILE), 3 * len(HOSTILE))
    assert [place for place, _ in tally.failures] == ["out/none"]
    assert sorted(path.name for path in (target / "out").iterdir()) == sorted(HOSTILE)
    assert volume.carrier().download(wanted[:-1], target, volume.heard).skipped_files == len(HOSTILE)


def test_a_link_that_breaks_is_made_again_and_the_rest_sent(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [volume.make(f"{number}.bin", os.urandom(200_000)) for number in range(20)]
    real, breaks = rsync.run_rsync, iter([True, True])

    def run(words: Sequence[str], names: Any, on_line: Callable[[bytes], None]) -> rsync.RsyncOutcome:  # noqa: ANN401
        if next(breaks, False):
            names = list(names)
            real(words, names[:5], on_line)
            return rsync.RsyncOutcome(12, b"rsync: connection unexpectedly closed\n")
        return real(words, names, on_line)

    monkeypatch.setattr("podtasks.doors.rsync.run_rsync", run)
    tally = volume.carrier(1).upload(files, volume.heard)
    assert (tally.sent_files, tally.skipped_files, tally.failures) == (20, 0, [])
    assert (volume.heard.files, volume.heard.size_bytes) == (20, 4_000_000)
    assert "the link broke" in volume.heard.notes[0]


def test_a_link_that_stays_broken_is_an_error_that_says_how_to_go_on(volume: Volume) -> None:
    carrier = volume.carrier()
    file = volume.make("x", b"1")
    carrier._login = SshLogin(volume.folder / "no key", carrier._login.host_public_key, carrier._login.user)
    with pytest.raises(TransportError, match=r"broke again and again.*Permission denied") as caught:
        carrier.upload([file], volume.heard)
    assert "goes on where it was" in caught.value.next_step
    assert len(volume.heard.notes) == 4


@pytest.mark.parametrize("told", ["openrsync: protocol version 29", "rsync  version 3.0.9  protocol version 30", ""])
def test_an_rsync_that_cannot_do_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    program = tmp_path / "rsync"
    program.write_text(f"#!/bin/sh\necho '{told}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path) + ":/bin")
    with pytest.raises(InstallationError, match=r"another one than rsync 3\.1"):
        rsync.require_rsync()


def test_missing_rsync_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InstallationError, match="no program rsync"):
        rsync.require_rsync()


def test_an_rsync_dies_with_the_process_that_runs_it(volume: Volume) -> None:
    file = volume.make("big", os.urandom(3_000_000))
    script = (
        "import sys\nfrom podtasks.doors.rsync import run_rsync\n"
        "run_rsync(['rsync', '--bwlimit=100', '--files-from=-', '--outbuf=L', '--info=progress2', sys.argv[1],"
        " sys.argv[2]], ['big'], lambda line: print(line, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(file.path.parent), str(volume.mount)], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.readline()
    assert rsyncs(volume.mount)
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 10
    while rsyncs(volume.mount):
        assert time.monotonic() < deadline, "rsync lives on"
        time.sleep(0.02)


def rsyncs(mount: Path) -> list[str]:
    """Return the rsyncs that work on this volume."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"rsync") and os.fsencode(mount) in words:
            found.append(path.parent.name)
    return found


COPY = """
import sys
from podtasks.doors import rsync
from podtasks.doors.many import run_many
child = "import os, signal, sys; signal.signal(2, lambda *_: sys.exit(12)); print(os.getpid(), flush=True)"
words = [sys.executable, "-c", child + "; signal.pause()"]
def work(_):
    print(rsync.run_rsync(words, [], lambda line: print(line.decode(), flush=True)).exit_code)
try:
    run_many(work, [1], 1, on_interrupt=rsync.end_all)
except KeyboardInterrupt:
    print("interrupted")
"""


def test_ctrl_c_ends_what_copies_at_once_and_does_not_look_like_a_broken_link() -> None:
    words = [sys.executable, "-c", COPY]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True) as copying:
        assert copying.stdout is not None
        pid = int(copying.stdout.readline())
        began_s = time.monotonic()
        os.killpg(copying.pid, signal.SIGINT)
        told = copying.stdout.read().split()
    assert told == ["-15", "interrupted"]
    assert time.monotonic() - began_s < 30
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
