"""A program on the pod that a signal ended, told apart from a link that broke."""

from __future__ import annotations

import getpass
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from podtasks.doors.ssh import PodShell, SshLogin, _translate
from podtasks.pure.errors import SshRefusedError, TransportError
from podtasks.pure.pod import SshEndpoint
from tests.remote.sshd import Sshd, make_key


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[PodShell]:
    key = make_key(tmp_path / "key")
    sshd = Sshd(tmp_path, Path(f"{key}.pub"))
    login = SshLogin(key, Path(f"{sshd.host_key}.pub").read_text().strip(), getpass.getuser())
    with PodShell(SshEndpoint("127.0.0.1", sshd.port), login) as opened:
        yield opened
    sshd.end()


def test_a_killed_program_has_an_exit_code_and_keeps_what_it_said(shell: PodShell) -> None:
    output = shell.run("echo last words >&2; kill -9 $$")

    assert output.exit_code == 137
    assert output.stderr == b"last words\n"
    assert shell.run("true").exit_code == 0


def test_a_link_that_breaks_is_no_exit_code(shell: PodShell) -> None:
    with pytest.raises(TransportError):
        shell.run("kill -9 $PPID; sleep 60")


def test_the_sdks_import_has_no_librarys_log_printed() -> None:
    code = (
        "import logging; from podtasks.doors import runpod_sdk, ssh; runpod_sdk._import_sdk();"
        "logging.getLogger('paramiko.transport').error('a secret of paramiko')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)

    assert "a secret" not in done.stderr


@pytest.mark.parametrize("said", ["Authentication timeout.", "Authentication failed: transport shut down or saw EOF"])
def test_no_answer_to_a_login_says_nothing_of_the_key(said: str) -> None:
    import paramiko

    late = _translate(paramiko.AuthenticationException(said))
    refused = _translate(paramiko.AuthenticationException("Authentication failed."))

    assert type(late) is TransportError and "link" in late.what
    assert isinstance(refused, SshRefusedError)
