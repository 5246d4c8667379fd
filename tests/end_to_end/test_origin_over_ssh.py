"""`--code origin` from a private repository over SSH: forwarded agent, host keys from this machine."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.project import Done, TrainingProject
from tests.remote.sshd import Agent, Sshd, make_key


class PrivateServer:
    """A bare repository of the project behind a real sshd, and an agent with the only key it lets in."""

    def __init__(self, folder: Path, project: TrainingProject) -> None:
        key = make_key(folder / "key")
        self.agent = Agent(folder)
        self.agent.add(key)
        self.sshd = Sshd(folder, Path(f"{key}.pub"))
        self.known_hosts = project.path / ".home/.ssh/known_hosts"
        self._project = project
        origin = folder / "origin.git"
        user = Path.home().owner()
        self.user = user
        project.set(repository=f"ssh://{user}@127.0.0.1:{self.sshd.port}{origin}", forward_agent="true")
        self.commit = project.commit("train from the private origin")
        subprocess.run(["git", "clone", "-q", "--bare", str(project.path), str(origin)], check=True)

    def learn_host(self) -> None:
        """Make the server known to the user, as a first ssh to it would."""
        self.known_hosts.parent.mkdir(exist_ok=True)
        public = Path(f"{self.sshd.host_key}.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.sshd.port} {public}")

    def train(self) -> Done:
        """Run `inv train` with the agent. OpenSSH does not heed HOME, so the file is named to it."""
        ssh = f"ssh -o BatchMode=yes -o 'UserKnownHostsFile=\"{self.known_hosts}\"'"
        words = ("train", "--config", "configs/run.yaml")
        return self._project.inv(*words, SSH_AUTH_SOCK=str(self.agent.socket), GIT_SSH_COMMAND=ssh)

    def end(self) -> None:
        """End what was started."""
        self.sshd.end()
        self.agent.end()


@pytest.fixture
def server(project: TrainingProject) -> Iterator[PrivateServer]:
    folder = Path(tempfile.mkdtemp(prefix="origin-", dir="/tmp"))
    server = PrivateServer(folder, project)
    yield server
    server.end()
    shutil.rmtree(folder)


def test_pod_clones_a_private_repository_over_ssh(server: PrivateServer) -> None:
    server.learn_host()

    done = server.train()

    assert done.code == 0, done.stderr
    assert f"COMMIT: {server.commit} (main)" in done.stdout


def test_server_that_is_not_known_here_is_refused_before_a_pod(project: TrainingProject, server: PrivateServer) -> None:
    done = server.train()

    assert done.code == 104, done.stderr
    assert f"ssh -T -p {server.sshd.port} {server.user}@127.0.0.1 once here" in done.stderr
    assert not (project.path / ".podtasks/cloud/server.json").exists()
