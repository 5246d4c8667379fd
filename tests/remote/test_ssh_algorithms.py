"""Modern algorithms, one host key and no questions: both SSH programs against a real sshd."""

from __future__ import annotations

import getpass
import os
import pty
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from podtasks.doors import ssh_program
from podtasks.doors.project_files import ProjectFiles
from podtasks.doors.ssh import PodShell, SshLogin
from podtasks.pure.errors import HostKeyError, SshRefusedError, TransportError
from podtasks.pure.pod import SshEndpoint
from tests.remote.sshd import Agent, Sshd, make_key

ROOT = Path(__file__).parents[2]
OLD = {
    "key exchange": "KexAlgorithms diffie-hellman-group14-sha1,diffie-hellman-group1-sha1",
    "key exchange of 2048 bits": "KexAlgorithms diffie-hellman-group14-sha256,diffie-hellman-group-exchange-sha256",
    "cipher": "Ciphers aes128-cbc,aes256-cbc,3des-cbc",
    "code": "Ciphers aes128-ctr\nMACs hmac-sha1,hmac-sha1-etm@openssh.com,hmac-md5,umac-64@openssh.com",
}
NEW = re.compile(r"kex: (?:client->server|server->client) cipher: (\S+) MAC: (\S+)")


class Server:
    """An sshd with some options, and both ways to it."""

    def __init__(self, folder: Path, more: str = "", host_key_type: str = "ed25519") -> None:
        self.folder = folder
        key = make_key(folder / "key")
        self.sshd = Sshd(folder, Path(f"{key}.pub"), more=more, host_key_type=host_key_type)
        made = self.sshd.host_key if host_key_type == "ed25519" else make_key(folder / "other_host_key")
        self.login = SshLogin(key, Path(f"{made}.pub").read_text().strip(), getpass.getuser())
        self.endpoint = SshEndpoint("127.0.0.1", self.sshd.port)

    def shell(self, login: SshLogin | None = None) -> PodShell:
        return PodShell(self.endpoint, login or self.login)

    def openssh(self, *command: str, verbose: bool = False) -> subprocess.CompletedProcess[str]:
        files = ProjectFiles(self.folder)
        known_hosts = ssh_program.write_known_hosts(files, "p", self.login.host_public_key)
        words = ssh_program.build_ssh_words(self.endpoint, self.login, known_hosts, tty=False)
        words += ["-vv", "-o", "LogLevel=DEBUG2"] if verbose else []
        words.append(ssh_program.build_destination(self.endpoint, self.login))
        return subprocess.run(
            [*words, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=30
        )


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    made = Server(tmp_path, *getattr(request, "param", ()))
    yield made
    made.sshd.end()


@pytest.mark.parametrize("server", [(options,) for options in OLD.values()], ids=list(OLD), indirect=True)
def test_a_server_that_offers_only_old_algorithms_is_refused_and_it_is_said_why(server: Server) -> None:
    with pytest.raises(SshRefusedError, match="speaks outdated SSH only") as refused:
        server.shell().connect()
    assert "set image in invoke.yaml" in refused.value.next_step
    assert "Nothing was sent to it" in refused.value.means
    done = server.openssh("echo", "in", verbose=True)
    assert (done.returncode, done.stdout) == (255, "")
    assert re.search(r"Unable to negotiate|no matching (key exchange method|cipher|MAC) found", done.stderr)


@pytest.mark.parametrize("server", [(OLD["cipher"],)], indirect=True)
def test_a_refusal_is_one_message_without_paramikos_own_traceback(server: Server) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom podtasks.doors.ssh import PodShell, SshLogin\n"
        "from podtasks.pure.errors import SshRefusedError\nfrom podtasks.pure.pod import SshEndpoint\n"
        "login = SshLogin(Path(sys.argv[1]), sys.argv[2])\n"
        "try:\n    PodShell(SshEndpoint('127.0.0.1', int(sys.argv[3])), login).connect()\n"
        "except SshRefusedError:\n    print('refused')\n"
    )
    words = [sys.executable, "-c", code, str(server.login.key_path), server.login.host_public_key]
    done = subprocess.run(
        [*words, str(server.endpoint.port)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")


@pytest.mark.parametrize("server", [("", "rsa"), ("", "ecdsa")], ids=["rsa", "ecdsa"], indirect=True)
def test_a_machine_without_an_ed25519_key_is_not_the_pod(server: Server) -> None:
    with pytest.raises(HostKeyError, match="is not this pod"):
        server.shell().connect()
    assert server.openssh("echo", "in").returncode == 255


@pytest.mark.parametrize("server", [("HostKeyAlgorithms rsa-sha2-512,ssh-rsa", "rsa")], indirect=True)
def test_a_key_of_another_kind_is_refused_even_where_the_api_names_it(server: Server) -> None:
    line = Path(f"{server.sshd.host_key}.pub").read_text().strip()
    with pytest.raises(HostKeyError, match="names no host key that podtasks made"):
        server.shell(SshLogin(server.login.key_path, line, server.login.user)).connect()


@pytest.mark.parametrize("line", ["", "x", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-ed25519 *", "ssh-ed25519 \u00fc"])
def test_a_host_key_that_is_none_is_our_error(server: Server, line: str) -> None:
    with pytest.raises(HostKeyError, match="names no host key"):
        server.shell(SshLogin(server.login.key_path, line, server.login.user)).connect()


def test_the_first_connection_to_another_machine_is_refused_by_both(server: Server, tmp_path: Path) -> None:
    stranger = Path(f"{make_key(tmp_path / 'stranger')}.pub").read_text().strip()
    server.login = SshLogin(server.login.key_path, stranger, server.login.user)
    with pytest.raises(HostKeyError):
        server.shell().connect()
    done = server.openssh("echo", "in")
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr
    assert "Accepted publickey" not in server.sshd.log.read_text()


def test_what_is_agreed_on_is_modern(server: Server) -> None:
    done = server.openssh("echo", "in", verbose=True)
    assert done.stdout == "in\n"
    assert "Server host key: ssh-ed25519" in done.stderr
    agreed = {word for pair in NEW.findall(done.stderr) for word in pair}
    assert agreed
    assert not [word for word in agreed if re.search(r"cbc|sha1|md5|umac-64", word)]
    with server.shell() as shell:
        transport = shell._connection.transport
        agreed = {transport.local_cipher, transport.remote_cipher, transport.local_mac, transport.remote_mac}
        assert not [word for word in agreed if re.search(r"cbc|sha1|md5", word)]
        assert transport.host_key_type == "ssh-ed25519"


@pytest.mark.parametrize("server", [("AuthenticationMethods publickey,password\nPasswordAuthentication yes",)],
                         indirect=True)  # fmt: skip
def test_a_server_that_asks_for_a_password_too_gets_no_answer_and_no_prompt(server: Server) -> None:
    with pytest.raises(SshRefusedError):
        server.shell().connect()
    done = server.openssh("echo", "in")
    assert done.returncode == 255
    assert "assword:" not in done.stdout + done.stderr


@pytest.mark.parametrize("server", [("AuthenticationMethods publickey,keyboard-interactive\n"
                                     "KbdInteractiveAuthentication yes\nUsePAM yes",)], indirect=True)  # fmt: skip
def test_a_servers_questions_are_not_shown_on_the_terminal(
    server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    monkeypatch.setattr("getpass.getpass", lambda *_: pytest.fail("somebody was asked"))
    with pytest.raises(TransportError):
        server.shell().connect()
    assert "assword" not in "".join(capfd.readouterr())


@pytest.mark.parametrize("forward", [False, True])
def test_the_agent_is_at_the_pod_only_when_asked(
    server: Server, forward: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = Agent(Path(os.path.realpath(server.folder)))
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent.socket))
        login = SshLogin(server.login.key_path, server.login.host_public_key, server.login.user, forward)
        with server.shell(login) as shell:
            told = shell.run('printf "%s|%s" "${SSH_AUTH_SOCK:-none}" "${DISPLAY:-none}"').stdout.decode()
        socket, display = told.split("|")
        assert (socket != "none") is forward
        assert display == "none"
        # rsync, `inv ssh` and `inv attach` never take it along.
        assert server.openssh('printf "%s" "${SSH_AUTH_SOCK:-none}"').stdout == "none"
    finally:
        agent.end()


def test_the_users_own_ssh_configuration_counts_for_neither(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = tmp_path / "touched"
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text(
        f"Host *\n ForwardAgent yes\n ProxyCommand sh -c 'touch {touched}; nc %h %p'\n User nobody\n"
        "StrictHostKeyChecking no\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    with server.shell() as shell:
        assert shell.run("echo in").stdout == b"in\n"
    assert server.openssh("echo", "in").stdout == "in\n"
    assert not touched.exists()


def test_a_terminal_is_not_asked_for_a_password_either(server: Server) -> None:
    """On a terminal OpenSSH would ask: `inv ssh` runs there."""
    (server.folder / "authorized_keys").write_text("")
    known_hosts = ssh_program.write_known_hosts(ProjectFiles(server.folder), "p", server.login.host_public_key)
    words = ssh_program.build_ssh_words(server.endpoint, server.login, known_hosts, tty=True)
    words.append(ssh_program.build_destination(server.endpoint, server.login))
    master, slave = pty.openpty()
    process = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    said = bytearray()
    reader = threading.Thread(target=_read_to_end, args=(master, said))
    reader.start()
    assert process.wait(timeout=30) == 255
    reader.join(timeout=30)
    os.close(master)
    assert b"Permission denied" in said
    assert b"assword:" not in said


def _read_to_end(descriptor: int, into: bytearray) -> None:
    try:
        while block := os.read(descriptor, 4096):
            into += block
    except OSError:
        pass
