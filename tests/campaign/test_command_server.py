"""A command of the command server is a process like one that `python -m invoke` starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.campaign.command_server import Command, CommandServer
from tests.end_to_end.project import ROOT

TASKS = """
import os, signal, sys, time
from invoke.tasks import task
from podtasks import ns

@task
def tell(c):
    told = [sys.argv[1:], os.getcwd(), os.environ["COLOUR"], "HIDDEN" in os.environ, sys.stdin.read()]
    told += [signal.getsignal(signal.SIGINT) is signal.default_int_handler, signal.getsignal(signal.SIGCHLD)]
    told += [os.getsid(0) == os.getpgid(0) == os.getpid(), __name__, sys.path[0] == os.getcwd()]
    told += [len(os.listdir("/proc/self/fd"))]
    print(told)
    sys.exit(7)

@task
def wait(c):
    print("waiting", flush=True)
    time.sleep(60)

for each in (tell, wait):
    ns.add_task(each)
"""
ENOUGH_S = 60


@pytest.fixture(scope="module")
def server() -> Iterator[CommandServer]:
    made = CommandServer(ROOT, {**os.environ, "HIDDEN": "1"})
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "COLOUR": "green", "PYTHONPATH": str(ROOT)}


def start(server: CommandServer, project: Path, *words: str) -> Command:
    return server.start(words, project / "said", project, environment())


def test_command_is_what_python_m_invoke_is(server: CommandServer, project: Path) -> None:
    command = start(server, project, "tell")
    assert command.wait(ENOUGH_S) == 7, command.stderr()
    plain = subprocess.run(
        [sys.executable, "-m", "invoke", "tell"],
        cwd=project,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        start_new_session=True,
        check=False,
    )
    assert plain.returncode == 7
    assert command.stdout() == plain.stdout and b"'green', False, '', True" in plain.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGHUP, -1), (signal.SIGINT, 1)])
def test_command_hears_signals_and_its_end_is_told(
    server: CommandServer, project: Path, number: signal.Signals, code: int
) -> None:
    command = start(server, project, "wait")
    while b"waiting" not in command.stdout():
        assert command.poll() is None
    os.kill(command.pid, number)
    assert command.wait(ENOUGH_S) == code
    assert command.ended is not None and command.ended >= command.began


def test_command_that_does_not_end_is_not_waited_for_forever(server: CommandServer, project: Path) -> None:
    command = start(server, project, "wait")
    with pytest.raises(TimeoutError):
        command.wait(0.1)
    os.kill(command.pid, signal.SIGKILL)
    assert command.wait(ENOUGH_S) == -9
