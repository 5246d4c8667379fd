"""Pods where the machine cannot sandbox."""

from __future__ import annotations

import base64
import importlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.local_cloud import Emulator, Pods, wait_for


@pytest.fixture
def plain(
    new_emulator: Callable[..., Emulator], ssh_key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Pods]:
    """Pods on an emulator that runs them as plain processes."""
    runpod = importlib.import_module("runpod")
    emulator = new_emulator("--sandbox", "processes").start()
    monkeypatch.setenv("RUNPOD_API_BASE_URL", emulator.info["url"])
    monkeypatch.setattr(runpod, "api_key", emulator.info["key"])
    yield Pods(emulator, runpod, ssh_key, tmp_path)
    emulator.shut_down()


def test_a_plain_pod_says_what_it_is(plain: Pods) -> None:
    status = plain.emulator.control("GET", "/status")
    assert status["sandbox"] == plain.emulator.info["sandbox"] == "processes"
    assert "plain processes" in status["sandbox_note"]


def test_a_plain_pod_has_ssh_a_volume_and_its_environment_in_a_file(plain: Pods) -> None:
    pod_id = plain.ready_pod(env={"HF_HOME": "/workspace/.cache", "TEXT": "/workspaces and\nlines"})
    volume = plain.sdk.get_pod(pod_id)["volumeMountPath"]
    assert volume == plain.emulator.inside(pod_id)["volume"]
    pairs = plain.ssh(pod_id, 'cat "$PODTASKS_ENVIRON_FILE"').split("\0")
    environment = dict(pair.split("=", 1) for pair in pairs if pair)
    assert environment["HF_HOME"] == f"{volume}/.cache"
    assert environment["TEXT"] == "/workspaces and\nlines"
    assert environment["RUNPOD_POD_ID"] == pod_id
    session = plain.ssh(pod_id, 'echo "$PODTASKS_VOLUME"; echo "$HOME"; echo "$RUNPOD_POD_ID"; command -v runpodctl')
    disk = plain.emulator.inside(pod_id)["disk"]
    assert session.splitlines() == [volume, f"{disk}/root", "", f"{disk}/bin/runpodctl"]
    plain.ssh(pod_id, "python3 -V && uv --version")


def test_every_process_of_a_plain_pod_ends_with_it(plain: Pods) -> None:
    pod_id = plain.ready_pod()
    volume = Path(plain.emulator.inside(pod_id)["volume"])
    plain.ssh(pod_id, 'tmux new-session -d "echo \\$\\$ > $PODTASKS_VOLUME/tmux.pid; exec sleep 600"')
    plain.ssh(pod_id, 'setsid -f sh -c "echo \\$\\$ > $PODTASKS_VOLUME/setsid.pid; exec sleep 600" > /dev/null 2>&1')
    disk = Path(plain.emulator.inside(pod_id)["disk"])
    (volume / "sshd.pid").write_text((disk / "run/sshd.pid").read_text())
    files = [volume / "tmux.pid", volume / "setsid.pid", volume / "sshd.pid"]
    wait_for(lambda: all(file.exists() and file.read_text().strip() for file in files), "both run")
    plain.try_ssh(pod_id, f"runpodctl pod stop {pod_id}")
    plain.wait_until_ended(pod_id)
    # A killed process is listed until its new parent has taken note.
    wait_for(lambda: not [file for file in files if os.path.exists(f"/proc/{file.read_text().strip()}")], "all end")
    plain.sdk.resume_pod(pod_id, 1)
    plain.ready(pod_id)
    plain.sdk.terminate_pod(pod_id)
    wait_for(lambda: plain.sdk.get_pod(pod_id) is None, "the pod is gone")


def test_a_host_key_for_the_pod_never_reaches_the_machines_own(plain: Pods, tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "host")], check=True)
    own = sorted((path.name, path.stat().st_mtime_ns) for path in Path("/etc/ssh").glob("ssh_host_*"))
    key = base64.b64encode((tmp_path / "host").read_bytes()).decode()
    pod_id = plain.ready_pod(env={"PODTASKS_HOST_KEY": key})
    assert "PODTASKS_HOST_KEY" not in plain.ssh(pod_id, 'cat "$PODTASKS_ENVIRON_FILE"')
    port = plain.emulator.inside(pod_id)["public_ports"]["22"]
    scan = ["ssh-keyscan", "-p", str(port), "-t", "ed25519", "127.0.0.1"]
    offered = subprocess.run(scan, capture_output=True, text=True, check=True).stdout.split()
    assert offered[-1] == (tmp_path / "host.pub").read_text().split()[1]
    assert sorted((path.name, path.stat().st_mtime_ns) for path in Path("/etc/ssh").glob("ssh_host_*")) == own


def test_a_plain_pods_command_is_started_again_when_it_ends(plain: Pods) -> None:
    pod_id = plain.create(docker_args="bash -c 'echo start >> $PODTASKS_VOLUME/starts; exit 1'")
    starts = Path(plain.emulator.inside(pod_id)["volume"], "starts")
    wait_for(lambda: starts.exists() and starts.read_text().count("start") >= 2, "two starts")
