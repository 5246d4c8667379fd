"""Whom secrets reach: a whole training on the local cloud, searched for them from outside while it runs."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.end_to_end.project import PIPELINE, Done, TrainingProject, descendants
from tests.end_to_end.watching import ArgumentLists, files_holding, listening_addresses, read_of_all

# Each mark is part of one value, so that a search finds it wherever quoting has changed what is around it.
TOKEN = "s3ntinel-token-5b1e"
LOGIN = "s3ntinel-login-90ac"
API_KEY = "rpa_s3ntinelkey77f2"
S3_KEYS = ("s3ntinelaccess1d3f", "s3ntinelsecret88e0")
VALUES = {
    "HF_TOKEN": f"it's \"{TOKEN}\" $HOME `id` \\n;\u00fc\u4e2d",
    "MY_LOGIN": f"{LOGIN}\nsecond line {LOGIN}\n" + LOGIN * 3000,
}
PROVE = """
import hashlib as _hashlib, os as _os
for _name in ("HF_TOKEN", "MY_LOGIN"):
    print(_name, _hashlib.sha256(_os.environb.get(_name.encode(), b"")).hexdigest(), flush=True)
"""


@dataclass
class Seen:
    """What was seen of one training while it ran, and after it."""

    project: TrainingProject
    arguments: set[bytes] = field(default_factory=set)
    looks: int = 0
    files: dict[str, list[str]] = field(default_factory=dict)
    holders: dict[str, list[str]] = field(default_factory=dict)
    pod_files: list[str] = field(default_factory=list)
    account_keys: list[str] = field(default_factory=list)
    api: str = ""
    listening: set[str] = field(default_factory=set)
    settings: str = ""
    doctor: str = ""
    said: str = ""
    log: str = ""


def make_project(path: Path) -> TrainingProject:
    project = TrainingProject.make(path)
    script = PIPELINE.read_text().replace("import argparse\n", f"import argparse\n{PROVE}", 1)
    (project.path / "scripts/train.py").write_text(script)
    project.set(secrets="[HF_TOKEN, MY_LOGIN]", cloud="local")
    project.commit("prove")
    quoted = VALUES["MY_LOGIN"].replace("\n", "\\n")
    keys = zip(("RUNPOD_S3_ACCESS_KEY", "RUNPOD_S3_SECRET_KEY"), S3_KEYS, strict=True)
    lines = [f'MY_LOGIN="{quoted}"', f"RUNPOD_API_KEY={API_KEY}", *(f"{name}={value}" for name, value in keys)]
    (project.path / ".runpod.env").write_text("\n".join(lines) + "\n")
    return project


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    project = make_project(tmp_path_factory.mktemp("e2e") / "my project")
    seen = Seen(project)
    try:
        with ArgumentLists(TOKEN, LOGIN, API_KEY, *S3_KEYS) as arguments, pytest.MonkeyPatch.context() as patch:
            patch.setenv("HF_TOKEN", VALUES["HF_TOKEN"])
            patch.setattr(TrainingProject, "environment", with_api_key(TrainingProject.environment))
            watch_training(project, seen)
        seen.arguments, seen.looks = arguments.found, arguments.looks
        yield seen
    finally:
        project.end()


def with_api_key(environment: object) -> object:
    """Return `environment` with the keys that a user's shell may export."""

    def extended(self: TrainingProject, **extra: str) -> dict[str, str]:
        assert callable(environment)
        found: dict[str, str] = environment(self, **extra)
        return {**found, "RUNPOD_API_KEY": API_KEY, "RUNPOD_S3_SECRET_KEY": S3_KEYS[1]}

    return extended


def watch_training(project: TrainingProject, seen: Seen) -> None:
    """Run a training, look at everything while it waits in its middle, and again after its end."""
    process = project.start("cloud", "up")
    assert process.wait(60) == 0, project.said()
    project.hold_at(3)
    process = project.start("train", "--config", "configs/run.yaml")
    project.wait_for_step(3)
    look(project, seen)
    project.release()
    assert process.wait(60) == 0, project.said()
    seen.said, seen.log = project.said(), project.log
    project.wait_for(project.is_idle, "the pod to stop")
    seen.files["after"] = files_holding(project.path, TOKEN, LOGIN)


def look(project: TrainingProject, seen: Seen) -> None:
    [pod] = project.running_pods()
    inside = descendants(project.pod_pid(pod))
    emulator = project.server()["pid"]
    seen.files["during"] = files_holding(project.path, TOKEN, LOGIN)
    environments = read_of_all("environ", [emulator, *inside])
    words = read_of_all("cmdline", [emulator, *inside])
    for mark in (TOKEN, LOGIN, API_KEY, *S3_KEYS):
        holding = [pid for pid, text in environments.items() if mark.encode() in text]
        seen.holders[mark] = sorted({words[pid].replace(b"\0", b" ").decode() for pid in holding})
    look_for_account_keys(project, seen, pod, inside)
    details = [project.ask(route) for route in ("status", "calls", f"pods/{pod}")]
    listed = project.graphql("{ myself { pods { id name env dockerArgs imageName } } }")
    seen.api = json.dumps([*details, listed], ensure_ascii=False)
    seen.listening = listening_addresses([emulator, *inside])
    for command in ("settings", "doctor"):
        done = project.inv(command)
        setattr(seen, command, done.stdout + done.stderr)


def look_for_account_keys(project: TrainingProject, seen: Seen, pod: str, inside: list[int]) -> None:
    """Search what a pod can see for the account's keys: its own files, its processes, the whole of its volume."""
    server = project.server()
    keys = [str(server[name]) for name in ("key", "s3_access_key", "s3_secret_key")]
    keys += [login_key_part(project), API_KEY, *S3_KEYS]
    assert all(keys)
    root = Path(f"/proc/{project.pod_pid(pod)}/root")
    folders = [root / name for name in ("root", "opt", "etc", "tmp", "run", "var", "workspace")]
    seen.account_keys = [f"{folder.name}/{path}" for folder in folders for path in files_holding(folder, *keys)]
    for kind in ("environ", "cmdline"):
        found = read_of_all(kind, inside)
        seen.account_keys += [f"{kind} of {pid}" for pid in found if any(key.encode() in found[pid] for key in keys)]
    seen.pod_files = files_holding(root / "workspace", "output_dir")
    assert not (root / str(project.path).lstrip("/")).exists(), "the pod sees this machine's project"


def login_key_part(project: TrainingProject) -> str:
    """Return a line of the private login key that no other key has: the beginning is the same for all."""
    return (project.path / ".podtasks/local_key").read_text().splitlines()[-2]


def test_the_training_got_every_value_as_it_was(seen: Seen) -> None:
    for name, value in VALUES.items():
        assert f"{name} {hashlib.sha256(value.encode()).hexdigest()}" in seen.log


def test_while_it_runs_they_lie_in_one_file_on_the_container_disk_and_in_the_users_own(seen: Seen) -> None:
    kept, own = seen.files["during"]
    assert own == ".runpod.env"
    assert kept.startswith(".podtasks/cloud/pods/")
    assert "/volumes/" not in kept
    assert Path(kept).name.startswith("secrets-run-")


def test_after_it_they_are_in_the_users_own_file_only(seen: Seen) -> None:
    assert seen.files["after"] == [".runpod.env"]


def test_no_argument_list_ever_held_one(seen: Seen) -> None:
    assert seen.looks > 10
    assert seen.arguments == set()


def test_of_all_processes_only_the_training_has_them(seen: Seen) -> None:
    for mark in (TOKEN, LOGIN):
        [holder] = seen.holders[mark]
        assert "scripts/train.py" in holder


def test_the_cloud_knows_nothing_of_them(seen: Seen) -> None:
    assert "PODTASKS_PROJECT" in seen.api
    for mark in (TOKEN, LOGIN):
        assert mark not in seen.api


def test_no_output_shows_one(seen: Seen) -> None:
    shown = seen.said + seen.log + seen.settings + seen.doctor
    assert "HF_TOKEN" in seen.settings
    assert "environment HF_TOKEN" in seen.doctor
    for mark in (TOKEN, LOGIN, API_KEY, *S3_KEYS):
        assert mark not in shown


def test_nothing_that_the_pod_can_see_is_a_key_of_the_account(seen: Seen) -> None:
    assert seen.pod_files, "the search finds what is there"
    assert seen.account_keys == []
    assert {mark: seen.holders[mark] for mark in (API_KEY, *S3_KEYS)} == {mark: [] for mark in (API_KEY, *S3_KEYS)}


def test_the_cloud_and_the_pod_listen_on_loopback_only(seen: Seen) -> None:
    assert seen.listening == {"127.0.0.1"}


def test_without_a_value_nothing_is_rented(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    done: Done = project.train()
    assert done.code == 103, done.stderr
    assert "HF_TOKEN has no value" in done.stderr
    assert not (project.path / ".podtasks/cloud").exists()


def test_a_training_whose_supervisor_is_killed_leaves_none(project: TrainingProject) -> None:
    project.set(secrets="[HF_TOKEN]")
    project.commit("secrets")
    project.hold_at(2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", TOKEN)
        process = project.start("train", "--config", "configs/run.yaml")
        project.wait_for_step(2)
        assert files_holding(project.path, TOKEN)
        [supervisor] = project.pod_processes("supervise.py")[-1:]
        os.kill(supervisor, signal.SIGKILL)
        assert process.wait(60) == 137, project.said()
    assert files_holding(project.path, TOKEN) == []
