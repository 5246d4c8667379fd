"""Reading parts of a volume's files through a shell, run by a real one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import pytest

from podtasks.doors.ssh import Output, PodShell
from podtasks.flows.shell_volume import ShellVolume

HOSTILE = "-a b'; $(touch x)\n\u00e9"


class LocalShell:
    """The part of a pod's shell that is asked here, on this machine."""

    def run(self, command: str, chunks: Iterable[bytes] = ()) -> Output:
        del chunks
        done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
        return Output(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def volume(tmp_path: Path) -> ShellVolume:
    for name in (HOSTILE, "plain", "saved"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / HOSTILE / "log").write_bytes(bytes(range(256)))
    (tmp_path / "runs" / "newest").write_text("plain\n")
    return ShellVolume(cast(PodShell, LocalShell()), str(tmp_path))


def test_file_is_found_with_size_and_time(volume: ShellVolume, tmp_path: Path) -> None:
    found = volume.find(f"runs/{HOSTILE}/log")
    assert found is not None
    assert (found.size_bytes, found.modified) == (256, int((tmp_path / "runs" / HOSTILE / "log").stat().st_mtime))
    assert volume.find("runs/none") is None
    assert volume.find("runs/plain") is None, "a folder is no file"


def test_bytes_are_read_as_they_are(volume: ShellVolume) -> None:
    place = f"runs/{HOSTILE}/log"
    assert volume.read(place) == bytes(range(256))
    assert volume.read_range(place, 10, 19) == bytes(range(10, 20))
    assert volume.read_range(place, 250, None) == bytes(range(250, 256))
    assert volume.read_range(place, 300, 400) == b""
    assert volume.read("runs/none") is None


def test_folders_are_listed(volume: ShellVolume) -> None:
    assert set(volume.list_folder("runs")[0]) == {HOSTILE, "plain", "saved"}
    assert volume.list_folder("none") == ([], [])
