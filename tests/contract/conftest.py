"""One emulator for all contract tests, driven by the unmodified SDK and by real ssh."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.contract.local_cloud import Emulator, Pods, wait_for
from tests.contract.s3_client import make_client


@pytest.fixture(scope="session")
def new_emulator() -> Iterator[Callable[..., Emulator]]:
    """A factory of emulators with a state directory of their own; all end with the session."""
    emulators: list[Emulator] = []

    def make(*options: str) -> Emulator:
        emulators.append(Emulator(Path(tempfile.mkdtemp(prefix="em-")), *options))
        return emulators[-1]

    yield make
    for emulator in emulators:
        if emulator.process is not None:
            emulator.shut_down()
        shutil.rmtree(emulator.state)


@pytest.fixture(scope="session")
def shared_emulator(new_emulator: Callable[..., Emulator]) -> Emulator:
    return new_emulator().start()


@pytest.fixture(scope="session")
def default_dials(shared_emulator: Emulator) -> dict[str, Any]:
    return dict(shared_emulator.control("GET", "/dials"))


@pytest.fixture
def emulator(shared_emulator: Emulator, default_dials: dict[str, Any]) -> Iterator[Emulator]:
    """The session's emulator, with default dials, without faults and without pods after each test."""
    yield shared_emulator
    for troubles in ("/faults", "/starts"):
        shared_emulator.control("DELETE", troubles)
    shared_emulator.turn(**{**default_dials, "stop_grace_s": 0})
    for pod_id in shared_emulator.control("GET", "/status")["pods"]:
        query = f'mutation {{ podTerminate(input: {{podId: "{pod_id}"}}) }}'
        shared_emulator.graphql(query)
    wait_for(lambda: not shared_emulator.control("GET", "/status")["pods"], "all pods are gone")
    shared_emulator.turn(**default_dials)


@pytest.fixture
def sdk(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The runpod package, pointed at the emulator by nothing but its own settings."""
    runpod = importlib.import_module("runpod")
    monkeypatch.setenv("RUNPOD_API_BASE_URL", emulator.info["url"])
    monkeypatch.setattr(runpod, "api_key", emulator.info["key"])
    return runpod


@pytest.fixture(scope="session")
def ssh_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture
def pods(emulator: Emulator, sdk: ModuleType, ssh_key: Path, tmp_path: Path) -> Pods:
    return Pods(emulator, sdk, ssh_key, tmp_path)


@pytest.fixture(scope="session")
def shared_s3(shared_emulator: Emulator) -> Iterator[Any]:
    client = make_client(shared_emulator)
    yield client
    client.close()


@pytest.fixture
def s3(emulator: Emulator, volume: Path, shared_s3: Any) -> Iterator[Any]:  # noqa: ANN401
    """A boto3 client of a volume that is empty, and empty again afterwards."""
    del emulator
    _empty(volume)
    yield shared_s3
    _empty(volume)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


@pytest.fixture
def bucket(emulator: Emulator) -> str:
    return str(emulator.info["volume_id"])


@pytest.fixture
def volume(emulator: Emulator, bucket: str) -> Path:
    return Path(emulator.control("GET", "/status")["network_volumes"][bucket])
