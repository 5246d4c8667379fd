"""The start command, unpacked by a real bash."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
from pathlib import Path

import graphql
import pytest

from podtasks.pure.boot import BOOT_FILES, build_archive, build_start_command
from podtasks.pure.graphql_text import escape

STAND_IN = b"""#!/bin/bash
echo "boot.sh runs as $0 in process $$ of $1"
exit 7
"""
FILES = {
    **dict.fromkeys(BOOT_FILES, b"pass\n"),
    "boot.sh": STAND_IN,
    "guard.py": b"print('\"quotes\" $HOME `id`')\n",
    "stop_pod.py": bytes(range(256)) * 40,
    "pod_environ.py": b"",
    "launch.py": b"not needed at boot\n",
}


def test_start_command_is_one_line_that_graphql_text_can_hold() -> None:
    command = build_start_command(FILES)
    assert not set("\n\r\\") & set(command)
    assert command.isascii()
    assert graphql.parse(f'{{ f(a: "{escape(command)}") }}')


def test_start_command_is_the_same_for_the_same_files() -> None:
    shuffled = dict(reversed(list(FILES.items())))
    assert build_start_command(shuffled) == build_start_command(FILES)
    changed = {**FILES, "guard.py": b"print('another')\n"}
    assert build_start_command(changed) != build_start_command(FILES)


def test_start_command_needs_every_boot_file() -> None:
    with pytest.raises(KeyError):
        build_start_command({"boot.sh": STAND_IN})


def test_start_command_unpacks_itself_and_becomes_boot_sh(tmp_path: Path) -> None:
    folder = tmp_path / "my pod; $(x)" / "container"
    words = shlex.split(build_start_command(FILES))
    assert words[:2] == ["bash", "-c"]
    process = subprocess.Popen(
        words, env={"PATH": os.environ["PATH"], "PODTASKS_DIR": str(folder)}, stdout=subprocess.PIPE
    )
    output, _ = process.communicate(timeout=10)
    assert output.decode().strip() == f"boot.sh runs as {folder}/boot.sh in process {process.pid} of"
    assert process.returncode == 7
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {name: FILES[name] for name in BOOT_FILES}
    assert os.access(folder / "boot.sh", os.X_OK)


def test_start_command_that_cannot_unpack_does_not_run_an_old_boot_sh(tmp_path: Path) -> None:
    (tmp_path / "boot.sh").write_bytes(STAND_IN)
    broken = build_start_command(FILES).replace("|base64 -d", "|base64 -d|head -c 100")
    done = subprocess.run(
        shlex.split(broken),
        env={"PATH": os.environ["PATH"], "PODTASKS_DIR": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert done.returncode not in (0, 7)
    assert done.stdout == b""


def test_archive_does_not_depend_on_the_order_of_its_files() -> None:
    assert build_archive({"b": b"2", "a": b"1"}) == build_archive({"a": b"1", "b": b"2"})


def test_archive_carries_neither_time_nor_owner() -> None:
    archive = build_archive({"a": b"1"})
    assert archive[4:8] == b"\0\0\0\0", "gzip's own time"
    with tarfile.open(fileobj=io.BytesIO(archive)) as members:
        member = members.getmember("a")
    assert (member.mtime, member.uid, member.gid, member.uname) == (0, 0, 0, "")
