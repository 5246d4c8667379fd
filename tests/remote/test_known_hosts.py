"""`--code origin` over SSH: the host keys this machine knows are all the pod trusts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from podtasks.doors import local_git
from podtasks.pure.errors import CodeError
from tests.remote.sshd import Agent, Sshd, make_key

PROGRAM = Path(__file__).parents[2] / "remote" / "sync_code.py"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
OTHER_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJvHNGYg8T2PmIKPhjUDMgGcuRsQ3uwTBIMVe3f0Bm0b"


@pytest.fixture
def known_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's known_hosts file."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    return tmp_path / ".ssh" / "known_hosts"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("git@github.com:you/project.git", "github.com"),
        ("GitHub.com:project.git", "github.com"),
        ("ssh://git@github.com/you/project.git", "github.com"),
        ("git+ssh://github.com:22/you/project.git", "github.com"),
        ("ssh://ada@host.example:2222/~/project.git", "[host.example]:2222"),
        ("ssh://[::1]:2222/project.git", "[::1]:2222"),
        ("[::1]:project.git", "::1"),
    ],
)
@pytest.mark.parametrize("hashed", [False, True])
def test_ssh_addresses_give_the_lines_of_their_host(known_hosts: Path, url: str, name: str, hashed: bool) -> None:
    known_hosts.write_text(f"other.example {OTHER_KEY}\n# a note\n{name},192.0.2.1 {KEY} me@here\n")
    if hashed:
        subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(known_hosts)], check=True, capture_output=True)
        assert name not in known_hosts.read_text()
    assert [line.split()[:3] for line in local_git.known_host_lines(url)] == [[name, *KEY.split()]]


def test_markers_and_all_keys_of_the_host_are_kept(known_hosts: Path) -> None:
    known_hosts.write_text(f"@revoked github.com {OTHER_KEY}\n@cert-authority *.com {KEY}\n*.com {KEY}\n")
    assert local_git.known_host_lines("git@github.com:x.git") == [
        f"@revoked github.com {OTHER_KEY}",
        f"@cert-authority github.com {KEY}",
        f"github.com {KEY}",
    ]


@pytest.mark.parametrize(
    "url", ["https://github.com/x.git", "git://github.com/x.git", "/srv/a:b.git", "./a:b", "file:///x", "-x:y"]
)
def test_other_addresses_need_no_host_key(known_hosts: Path, url: str) -> None:
    assert not known_hosts.exists()
    assert local_git.known_host_lines(url) == []


@pytest.mark.parametrize(
    ("url", "command"),
    [
        ("git@github.com:x.git", "ssh -T git@github.com once here"),
        ("github.com:x.git", "ssh -T git@github.com once here"),
        ("ssh://ada@host.example:2222/x.git", "ssh -T -p 2222 ada@host.example once here"),
    ],
)
def test_host_that_is_not_known_here_is_refused(known_hosts: Path, url: str, command: str) -> None:
    known_hosts.write_text(f"other.example {KEY}\n")
    with pytest.raises(CodeError, match="does not know the SSH host key") as refused:
        local_git.known_host_lines(url)
    assert refused.value.next_step.startswith(command)
    assert refused.value.means == "No pod was created."


@dataclass
class Server:
    """A bare repository behind a real sshd, and an agent with the key that it lets in."""

    folder: Path
    sshd: Sshd
    agent: Agent
    url: str
    commit: str

    def host_line(self) -> str:
        public = Path(f"{self.sshd.host_key}.pub").read_text()
        return f"[127.0.0.1]:{self.sshd.port} {public.strip()}"

    def sync(self, lines: list[str]) -> tuple[int, dict[str, Any], str]:
        """Run sync_code.py as on a fresh pod; return its exit code, its answer and what it said."""
        request = {"clone": str(self.folder / "volume/clone"), "code": "origin", "url": self.url, "branch": "main"}
        done = subprocess.run(
            [sys.executable, str(PROGRAM)],
            input=json.dumps({**request, "commit": self.commit, "known_hosts": lines}).encode() + b"\n",
            env={
                **os.environ,
                "SSH_AUTH_SOCK": str(self.agent.socket),
                "PODTASKS_VOLUME": str(self.folder / "volume"),
                "TMPDIR": str(self.folder / "5% temporary"),
            },
            capture_output=True,
            check=False,
        )
        assert list((self.folder / "5% temporary").iterdir()) == [], "nothing is left behind"
        return done.returncode, json.loads(done.stdout), done.stderr.decode()


@pytest.fixture
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="it's ", dir="/tmp"))
    (folder / "volume").mkdir()
    (folder / "5% temporary").mkdir()
    git = ["git", "-C", str(folder / "work"), "-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "init", "-q", "-b", "main", str(folder / "work")], check=True)
    (folder / "work/train.py").write_text("print('one')\n")
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "First"], check=True)
    subprocess.run(["git", "clone", "-q", "--bare", str(folder / "work"), str(folder / "origin.git")], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True).stdout.decode().strip()
    key = make_key(folder / "key")
    agent = Agent(folder)
    agent.add(key)
    sshd = Sshd(folder, Path(f"{key}.pub"))
    user = Path.home().owner()
    address = f"ssh://{user}@127.0.0.1:{sshd.port}{folder}/origin.git"
    yield Server(folder, sshd, agent, address, commit)
    sshd.end()
    agent.end()
    shutil.rmtree(folder)


def test_pod_clones_over_ssh_with_the_host_key_that_was_sent(server: Server) -> None:
    code, answer, said = server.sync([server.host_line()])
    assert (code, answer.get("commit"), answer.get("cloned")) == (0, server.commit, True), said
    assert (server.folder / "volume/clone/train.py").read_text() == "print('one')\n"


@pytest.mark.parametrize("lines", [[], [f"other.example {KEY}"]])
def test_pod_refuses_a_host_whose_key_was_not_sent(server: Server, lines: list[str]) -> None:
    code, answer, said = server.sync(lines)
    assert code == 20
    assert "does not know the host key" in answer["error"], said


def test_pod_refuses_a_host_that_shows_another_key(server: Server) -> None:
    code, answer, said = server.sync([f"[127.0.0.1]:{server.sshd.port} {OTHER_KEY}"])
    assert code == 20
    assert "host key" in answer["error"], said
    assert not (server.folder / "volume/clone/train.py").exists()
