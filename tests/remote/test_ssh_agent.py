"""Keys with a passphrase, against real ssh-agent and sshd."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from podtasks.doors.ssh import PodShell, SshLogin, agent_offers
from podtasks.pure.errors import SshRefusedError
from podtasks.pure.pod import SshEndpoint
from tests.remote.sshd import Agent, Sshd, make_key


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="agent-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def agent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    agent = Agent(folder)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
    yield agent
    agent.end()


@pytest.fixture
def locked_key(folder: Path) -> Path:
    return make_key(folder / "key", "open sesame")


def public_half(key: Path) -> str:
    return Path(f"{key}.pub").read_text().strip()


def test_agent_offers_what_was_added_and_nothing_else(folder: Path, agent: Agent, locked_key: Path) -> None:
    assert not agent_offers(public_half(locked_key))
    agent.add(locked_key, "open sesame")
    assert agent_offers(public_half(locked_key))
    assert not agent_offers(public_half(make_key(folder / "other")))
    assert not agent_offers("")


@pytest.mark.parametrize("place", ["", "/nowhere/agent"])
def test_no_agent_offers_nothing(locked_key: Path, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", place)
    assert not agent_offers(public_half(locked_key))


def test_key_with_a_passphrase_logs_in_once_the_agent_has_it(folder: Path, agent: Agent, locked_key: Path) -> None:
    sshd = Sshd(folder, Path(f"{locked_key}.pub"))
    try:
        login = SshLogin(locked_key, public_half(sshd.host_key), Path.home().owner())
        shell = PodShell(SshEndpoint("127.0.0.1", sshd.port), login)
        with pytest.raises(SshRefusedError, match="has a passphrase") as refused:
            shell.connect()
        assert refused.value.next_step.startswith("ssh-add ")
        agent.add(locked_key, "open sesame")
        with shell:
            assert shell.run("echo in").stdout == b"in\n"
    finally:
        sshd.end()
