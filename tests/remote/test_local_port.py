"""Ports of this machine: who gets one, who has one, and what is started on one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from podtasks.doors import local_port, local_tensorboard
from podtasks.doors.clock import SystemClock
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import local_board
from podtasks.flows.board import claim_port
from podtasks.pure.errors import InstallationError, PodtasksError, UsageError
from tests.remote.fake_pod import wait_until
from tests.unit.fakes import FakeReporter


@pytest.fixture
def taken() -> Iterator[int]:
    with local_port.claim(0) as listener:
        yield local_port.port_of(listener)


def test_owner_of_a_port_is_named_with_its_process(taken: int) -> None:
    owner = local_port.find_owner(taken)
    assert owner.endswith(f"(process {os.getpid()})")


def test_owner_that_cannot_be_seen_is_another_program(tmp_path: Path, taken: int) -> None:
    (tmp_path / "net").mkdir()
    row = f"   0: 0100007F:{taken:04X} 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1"
    (tmp_path / "net/tcp").write_text(f"  sl  local_address\n{row}\n")
    assert local_port.find_owner(taken, tmp_path) == "another program"
    (tmp_path / "12/fd").mkdir(parents=True)
    (tmp_path / "12/fd/3").symlink_to("socket:[4711]")
    (tmp_path / "12/comm").write_text("python3\n")
    assert local_port.find_owner(taken, tmp_path) == "python3 (process 12)"
    (tmp_path / "12/cmdline").write_bytes(b"/x/bin/python3.11\0/x/.venv/bin/inv\0tensorboard\0--port\x006007\0")
    assert local_port.find_owner(taken, tmp_path) == "inv tensorboard (process 12)"
    assert local_port.shorten_command(["python3", "-m", "http.server"]) == "python3"
    assert local_port.shorten_command(["/usr/bin/sshd", "--token", "x"]) == "sshd"


def test_owner_is_asked_of_lsof_where_there_is_no_proc(
    tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "lsof"
    program.write_text("#!/bin/sh\necho p812\necho cControlCe\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert local_port.find_owner(taken, tmp_path) == "ControlCe (process 812)"
    program.unlink()
    assert local_port.find_owner(taken, tmp_path) == "another program"


def test_wanted_port_that_is_taken_is_an_error_that_names_who_has_it(taken: int) -> None:
    with pytest.raises(UsageError, match=rf"Port {taken} of this machine is taken by .+ \(process \d+\)"):
        claim_port(taken, FakeReporter())


def test_default_port_that_is_taken_gives_way_to_the_next_free_one(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("podtasks.flows.board.DEFAULT_PORT", taken)
    report = FakeReporter()
    with claim_port(None, report) as listener:
        port = local_port.port_of(listener)
        assert listener.getsockname()[0] == "127.0.0.1"
    assert taken < port <= taken + 100
    assert f"port {taken} of this machine is taken by" in report.notes[0]
    assert report.notes[0].endswith(f"using {port}")


def test_no_free_port_is_an_error(monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setattr(local_port, "PORTS_TO_TRY", 1)
    with pytest.raises(UsageError, match="No port from"):
        local_port.claim_from(taken)


def test_local_tensorboard_that_does_not_start_is_an_error_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho No module named tensorboard >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(
        local_tensorboard, "ensure_venv", {tmp_path / ".podtasks/tensorboard-venv": program}.__getitem__
    )
    with pytest.raises(PodtasksError, match="No module named tensorboard"):
        local_board.show_fetched(
            tmp_path,
            ProjectFiles(tmp_path),
            local_port.claim(0),
            on_ready=pytest.fail,
            report=FakeReporter(),
            clock=SystemClock(),
        )


def test_uv_that_fails_is_told_with_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_tensorboard, "PACKAGES", ("./no-such-package",))
    with pytest.raises(InstallationError, match="no-such-package"):
        local_tensorboard.ensure_venv(tmp_path / "venv")
    with pytest.raises(InstallationError, match="no-such-package"):
        local_tensorboard.ensure_venv(tmp_path / "venv")


def test_program_on_this_machine_ends_with_the_one_who_started_it(tmp_path: Path) -> None:
    package = tmp_path / "tensorboard"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "main.py").write_text("import sys, time\nprint(sys.argv[1:], flush=True)\ntime.sleep(600)\n")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{tmp_path}" exec "{sys.executable}" "$@"\n')
    program.chmod(0o755)
    log = tmp_path / "log"
    with local_tensorboard.running(program, tmp_path, 1, log) as process:
        wait_until(lambda: b"--logdir" in log.read_bytes(), "its first words")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(timeout=20) == 0
