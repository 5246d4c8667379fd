"""prepare.py: the lease, missing programs, what the clone has."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.remote.fake_pod import FakePod, as_object, wait_until


def start_prepare(pod: FakePod, **settings: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start prepare.py; return it with its answer while it holds the lease."""
    process = pod.start_program("prepare.py", {"clone": str(pod.clone), "who": "ann"}, **settings)
    assert process.stdout is not None
    return process, as_object(process.stdout.readline())


def close_stdin(process: subprocess.Popen[bytes]) -> None:
    """Close a process's standard input, as an SSH connection does that ends."""
    assert process.stdin is not None
    process.stdin.close()


def test_it_holds_the_lease_until_standard_input_closes(pod: FakePod) -> None:
    pod.start_guard()
    process, answer = start_prepare(pod)
    assert answer["ok"] is True
    assert answer["installed"] == []
    assert answer["guard"]["lease"]["who"] == "ann"
    assert pod.client().ask("status", token=answer["token"])["token_holds"] is True
    close_stdin(process)
    assert process.wait(timeout=10) == 0
    wait_until(lambda: pod.status()["lease"] is None, "the lease")


def test_a_second_one_is_refused_and_told_the_holder(pod: FakePod) -> None:
    pod.start_guard()
    start_prepare(pod)
    code, answer = pod.run_program("prepare.py", {"clone": str(pod.clone), "who": "bob"})
    assert (code, answer["ok"], answer["holder"]["who"]) == (20, False, "ann")
    assert "a launch of ann, since 20" in answer["detail"]


def test_a_killed_one_gives_the_lease_back(pod: FakePod) -> None:
    pod.start_guard()
    process, _ = start_prepare(pod)
    process.kill()
    wait_until(lambda: pod.status()["lease"] is None, "the lease")


def test_it_starts_the_guard_where_none_answers(pod: FakePod) -> None:
    (pod.directory / "guard.sock").write_text("left behind by a dead guard")
    _, answer = start_prepare(pod, PODTASKS_GRACE_MINUTES="7")
    assert 0 < answer["guard"]["grace_left_s"] <= 7 * 60
    assert pod.status()["lease"]["who"] == "ann"


def test_a_pod_that_is_being_stopped_is_not_prepared(pod: FakePod) -> None:
    pod.start_guard(PODTASKS_GRACE_MINUTES="0")
    pod.wait_for_stop()
    code, answer = pod.run_program("prepare.py", {"clone": str(pod.clone), "who": "bob"})
    assert (code, answer["error"]) == (20, "The pod is being stopped.")


def test_it_keeps_the_lease_and_the_token_over_a_restart_of_the_guard(pod: FakePod) -> None:
    guard = pod.start_guard()
    _, answer = start_prepare(pod)
    guard.send_signal(signal.SIGKILL)
    guard.wait()
    pod.start_guard()
    wait_until(lambda: pod.client().ask("status", token=answer["token"])["token_holds"], "the lease")


def test_the_commits_of_the_clone_are_told(pod: FakePod) -> None:
    pod.start_guard()
    pod.make_clone()
    git = ["git", "-C", str(pod.clone), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run([*git, "tag", "-a", "-m", "x", "v1"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "second"], check=True)
    subprocess.run([*git, "update-ref", "refs/podtasks/kept/x", "HEAD~"], check=True)
    commits = subprocess.run([*git, "rev-list", "HEAD"], capture_output=True, text=True, check=True).stdout.split()
    assert start_prepare(pod)[1]["clone_commits"] == sorted(commits)


@pytest.mark.parametrize("made", [False, True])
def test_a_clone_that_is_none_has_no_commits(pod: FakePod, made: bool) -> None:
    pod.start_guard()
    if made:
        (pod.clone / ".git").mkdir()
    assert start_prepare(pod)[1]["clone_commits"] == []


def poor_image(pod: FakePod, apt_get: str) -> str:
    """Return a PATH without tmux and rsync, with the given apt-get."""
    programs = pod.root / "few programs"
    programs.mkdir()
    for name in ("git", "sh", "cp", "chmod"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    (programs / "apt-get").write_text(f"#!/bin/sh\n{apt_get}\n")
    (programs / "apt-get").chmod(0o755)
    return str(programs)


def test_missing_programs_are_installed_and_named(pod: FakePod) -> None:
    pod.start_guard()
    noted = pod.root / "apt"
    path = poor_image(
        pod,
        f'echo "$*" >>{noted}\n'
        'for word; do case $word in tmux|rsync) cp "$0" "${0%/*}/$word";; esac; done; echo "on standard output"',
    )
    _, answer = start_prepare(pod, PATH=path)
    assert answer["installed"] == ["rsync", "tmux"]
    assert noted.read_text().splitlines() == [
        "update -qq",
        "install -y -qq --no-install-recommends rsync tmux",
    ]


def test_programs_that_cannot_be_installed_refuse_the_pod(pod: FakePod) -> None:
    pod.start_guard()
    request = {"clone": str(pod.clone), "who": "ann"}
    code, answer = pod.run_program("prepare.py", request, PATH=poor_image(pod, "exit 100"))
    assert (code, answer["detail"]) == (20, "rsync tmux")
    wait_until(lambda: pod.status()["lease"] is None, "the lease")


def test_a_run_lost_with_its_pod_is_recorded(pod: FakePod) -> None:
    pod.start_guard()
    answer = pod.launch("print('begun')", when_done="keep")
    pod.wait_for_end(answer["run_dir"])
    wait_until(lambda: pod.status()["lease"] is None, "the lease")
    path = Path(answer["run_dir"]) / "run.json"
    text = path.read_text().replace(f'"ended_at": {pod.record(answer["run_dir"])["ended_at"]!r}', '"ended_at": null')
    path.write_text(text.replace('"exit_code": 0', '"exit_code": null'))
    start_prepare(pod)
    record = pod.record(answer["run_dir"])
    assert (record["reason"], record["exit_code"]) == ("pod lost", None)
    assert record["ended_at"] == os.stat(answer["log"]).st_mtime
