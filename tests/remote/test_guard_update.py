"""guard_update.py: the guard of an earlier version gives way to this one's."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from podtasks.pure.boot import BOOT_FILES
from tests.remote.fake_pod import REMOTE, FakePod, as_object, wait_until

GUARD_FILES = sorted({*BOOT_FILES} - {"boot.sh"})
CALL = "import guard_update, sys; sys.exit(0 if guard_update.update() else 3)"


def update(pod: FakePod) -> tuple[bool, str]:
    """Have the kit update the pod's guard; return whether it did, and what it said."""
    process = pod.start([sys.executable, "-c", CALL], PYTHONPATH=str(pod.kit))
    _, said = process.communicate(timeout=30)
    assert process.returncode in (0, 3), said
    return process.returncode == 0, said.decode()


def make_older(pod: FakePod) -> None:
    """Give the pod the guard of an earlier version."""
    path = pod.directory / "guard.py"
    text = path.read_text()
    assert "\nVERSION = 2\n" in text
    path.write_text(text.replace("\nVERSION = 2\n", "\nVERSION = 0\n"))


def files(directory: Path) -> dict[str, bytes]:
    """Return the guard's files in a folder."""
    return {name: (directory / name).read_bytes() for name in GUARD_FILES if (directory / name).exists()}


def test_an_update_brings_all_that_the_start_command_brings_except_what_runs_as_process_1() -> None:
    words = [sys.executable, "-c", "import guard_update; print(*guard_update.FILES)"]
    done = subprocess.run(words, cwd=REMOTE, capture_output=True, text=True, check=True)
    names = done.stdout.split()
    assert sorted(names) == GUARD_FILES
    assert names[-1] == "guard.py", "a guard that starts in the middle of an update must have its parts"


def test_an_older_guard_is_replaced_and_its_successor_keeps_its_deadlines(pod: FakePod) -> None:
    make_older(pod)
    (pod.directory / "grace_began").write_text(f"{time.time() - 400}\n")
    old = pod.start_guard(PODTASKS_GRACE_MINUTES="10")
    assert (pod.status()["version"], round(pod.status()["grace_left_s"], -1)) == (0, 200)
    updated, said = update(pod)
    assert updated
    assert "the guard of an earlier version was replaced (guard.py)" in said
    assert old.wait(timeout=10) != 0
    assert files(pod.directory) == files(REMOTE)
    assert pod.status()["version"] == 2
    assert 150 < pod.status()["grace_left_s"] <= 200


def test_spares_of_an_older_guard_do_not_take_its_place(pod: FakePod) -> None:
    make_older(pod)
    for _ in range(3):
        pod.start_guard()
    assert update(pod)[0]
    assert pod.status()["version"] == 2
    assert update(pod) == (False, "")


def test_a_spare_of_an_older_version_that_became_the_guard_is_replaced_though_no_file_differs(pod: FakePod) -> None:
    make_older(pod)
    pod.start_guard()
    assert pod.status()["version"] == 0
    for name in GUARD_FILES:
        (pod.directory / name).write_bytes((REMOTE / name).read_bytes())
    updated, said = update(pod)
    assert (updated, "(a spare)" in said) == (True, True)
    assert pod.status()["version"] == 2


def test_files_that_an_older_guard_did_not_have_are_added(pod: FakePod) -> None:
    old = pod.start_guard()
    (pod.directory / "guard.py").write_text("# all in one file\n")
    for name in ("guard_loop.py", "guard_state.py", "guard_end.py"):
        (pod.directory / name).unlink()
    assert update(pod)[0]
    assert files(pod.directory) == files(REMOTE)
    assert old.wait(timeout=10) != 0
    assert pod.status()["version"] == 2


def test_the_guard_of_a_run_stays_as_it_is(pod: FakePod) -> None:
    make_older(pod)
    before = files(pod.directory)
    old = pod.start_guard()
    pod.launch("import time; print('begun'); time.sleep(1000)")
    assert update(pod) == (False, "")
    assert (files(pod.directory), old.poll(), pod.status()["version"]) == (before, None, 0)
    assert pod.status()["lease"]["kind"] == "run"


def test_the_guard_of_another_launch_stays_as_it_is(pod: FakePod) -> None:
    make_older(pod)
    old = pod.start_guard()
    _, token = pod.prepare()
    assert update(pod) == (False, "")
    assert old.poll() is None
    assert pod.client().ask("status", token=token)["token_holds"]


def test_a_guard_of_this_version_is_left_alone(pod: FakePod) -> None:
    guard = pod.start_guard()
    assert update(pod) == (False, "")
    assert guard.poll() is None


def test_where_no_guard_answers_the_files_are_there_for_the_next_one(pod: FakePod) -> None:
    make_older(pod)
    assert update(pod)[0]
    assert files(pod.directory) == files(REMOTE)
    pod.start_guard()
    assert pod.status()["version"] == 2


@pytest.mark.parametrize("older", [True, False])
def test_prepare_holds_the_lease_of_the_guard_that_came_with_it(pod: FakePod, older: bool) -> None:
    if older:
        make_older(pod)
    pod.start_guard()
    process = pod.start_program("prepare.py", {"clone": str(pod.clone), "who": "ann"})
    assert process.stdout is not None
    answer = as_object(process.stdout.readline())
    assert answer["guard"]["version"] == 2
    wait_until(lambda: pod.client().ask("status", token=answer["token"])["token_holds"], "the lease")
