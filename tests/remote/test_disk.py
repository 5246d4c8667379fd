"""gpu.py and disk.py: what nvidia-smi tells, and how much of the volume is used."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from tests.remote.fake_pod import REMOTE, wait_until


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The module, its own folder in the test's."""
    (tmp_path / "pod").mkdir()
    monkeypatch.setenv("PODTASKS_DIR", str(tmp_path / "pod"))
    monkeypatch.syspath_prepend(str(REMOTE))
    return importlib.import_module("disk")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module, imported as its siblings import it."""
    monkeypatch.syspath_prepend(str(REMOTE))
    return importlib.import_module("gpu")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """A volume with 3,500 bytes in three files, one of them through a link that must not count twice."""
    volume = tmp_path / "volume"
    (volume / "a" / "b").mkdir(parents=True)
    (volume / "x").write_bytes(b"x" * 1000)
    (volume / "a" / "y").write_bytes(b"x" * 2000)
    (volume / "a" / "b" / "z").write_bytes(b"x" * 500)
    (volume / "loop").symlink_to("a")
    return volume


def test_a_walk_that_ends_in_time_is_exact_and_kept(disk: ModuleType, volume: Path) -> None:
    usage = disk.find_usage(str(volume))
    assert usage == {"used_bytes": 3501, "total_bytes": None, "measured_at": usage["measured_at"], "is_exact": True}
    assert usage["measured_at"] == pytest.approx(time.time(), abs=20)
    assert json.loads((volume / ".cache" / "podtasks-usage.json").read_text())["used_bytes"] == 3501


def test_a_walk_that_takes_too_long_gives_the_last_measurement(disk: ModuleType, volume: Path) -> None:
    for number in range(200):
        (volume / "a" / f"{number}").touch()
    disk.keep(str(volume), 77)
    usage = disk.find_usage(str(volume), look_s=0)
    assert (usage["used_bytes"], usage["is_exact"]) == (77, False)
    assert not (Path(disk.container_directory()) / "disk.started").exists()


def look(volume: Path) -> None:
    """Look at the volume for no time at all, in a process of its own, as status.py is; nothing is known."""
    program = "import sys, disk; assert disk.find_usage(sys.argv[1], 0) is None"
    environ = {**os.environ, "PYTHONPATH": str(REMOTE)}
    subprocess.run([sys.executable, "-c", program, str(volume)], env=environ, check=True)


def test_where_nothing_was_measured_it_is_done_in_the_background_once(disk: ModuleType, volume: Path) -> None:
    for number in range(200):
        (volume / "a" / f"{number}").touch()
    look(volume)
    kept = wait_until(lambda: disk.last_measurement(str(volume)), "the measurement")
    assert kept["used_bytes"] == 3501
    started = Path(disk.container_directory()) / "disk.started"
    os.utime(started, (time.time() - 60, time.time() - 60))
    before = started.stat().st_mtime
    (volume / ".cache" / "podtasks-usage.json").unlink()
    look(volume)
    assert started.stat().st_mtime == before


@pytest.mark.parametrize("text", ["", "[]", '{"used_bytes": 1}', '{"used_bytes": "x", "measured_at": 1}'])
def test_a_measurement_that_cannot_be_read_is_none(disk: ModuleType, volume: Path, text: str) -> None:
    (volume / ".cache").mkdir()
    (volume / ".cache" / "podtasks-usage.json").write_text(text)
    assert disk.last_measurement(str(volume)) is None


@pytest.mark.parametrize(("terabytes", "is_believed"), [(4, True), (400, False)])
def test_a_file_system_of_the_size_of_a_volume_is_believed(
    disk: ModuleType, volume: Path, monkeypatch: pytest.MonkeyPatch, terabytes: int, is_believed: bool
) -> None:
    real_stat = os.stat

    def stat(path: str) -> os.stat_result:
        found = list(real_stat(path))
        return os.stat_result([*found[:2], 999 if path == str(volume) else found[2], *found[3:]])

    def statvfs(_: str) -> os.statvfs_result:
        return os.statvfs_result((4096, 1000, terabytes * 10**9, 10**9, 10**9, 0, 0, 0, 0, 255))

    monkeypatch.setattr(disk.os, "stat", stat)
    monkeypatch.setattr(disk.os, "statvfs", statvfs)
    usage = disk.find_usage(str(volume))
    assert usage["used_bytes"] == 3501
    assert usage["total_bytes"] == (4 * 10**12 if is_believed else None)


def test_a_volume_that_is_not_there_is_unknown(disk: ModuleType, tmp_path: Path) -> None:
    assert disk.find_usage(str(tmp_path / "none")) is None


def test_a_volume_that_takes_nothing_is_measured_all_the_same(disk: ModuleType, volume: Path) -> None:
    (volume / ".cache").write_text("")
    assert disk.find_usage(str(volume))["used_bytes"] == 3500 + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0, NVIDIA A100-SXM4-80GB, 100, 70123, 81920\n", [(0, "NVIDIA A100-SXM4-80GB", 100, 70123, 81920)]),
        ("0, A, 1, 2, 3\n1, B, 4, 5, 6\n", [(0, "A", 1, 2, 3), (1, "B", 4, 5, 6)]),
        ("0, NVIDIA GB10, [N/A], [Not Supported], [N/A]\n", [(0, "NVIDIA GB10", None, None, None)]),
        ("No devices were found\n", []),
        ("", []),
    ],
)
def test_the_lines_of_nvidia_smi_are_read(gpu: ModuleType, text: str, expected: list[tuple[object, ...]]) -> None:
    assert [tuple(entry.values()) for entry in gpu.parse(text)] == expected


@pytest.mark.parametrize("script", ["exec sleep 1000", "echo '0, A, 1, 2, 3'; exit 9", "echo broken"])
def test_a_driver_that_hangs_or_fails_tells_of_no_gpu(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    query = gpu.start_query()
    assert isinstance(query, subprocess.Popen)
    assert gpu.read_answer(query, 0.3) == []
    query.wait(10)
    assert query.stdout is not None
    query.stdout.close()
