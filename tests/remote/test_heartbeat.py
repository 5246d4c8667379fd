"""The heartbeat of a run: it beats while its supervisor lives, and a volume that hangs holds nothing up."""

from __future__ import annotations

import importlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.remote.fake_pod import FakePod, as_object, is_running, wait_until

SLOW = "import time; print('begun'); time.sleep(1000)"


@pytest.fixture
def beating(pod: FakePod) -> FakePod:
    """A pod with a guard and quick heartbeats."""
    pod.environ["PODTASKS_HEARTBEAT_S"] = "0.05"
    pod.start_guard()
    return pod


def read_beat(run_dir: str) -> dict[str, Any]:
    """Return the last beat; none there yet counts as beat 0."""
    try:
        return as_object((Path(run_dir) / "heartbeat").read_bytes())
    except FileNotFoundError:
        return {"beat": 0}


def wait_for_beat(run_dir: str, number: int) -> dict[str, Any]:
    """Wait for a beat of this number or a later one; return it."""
    return wait_until(lambda: (beat := read_beat(run_dir))["beat"] >= number and beat, f"beat {number}")


def supervisor(pod: FakePod) -> int:
    """Return the process id of the supervisor."""
    return int((pod.directory / "supervisor.pid").read_text())


@pytest.fixture
def hanging(beating: FakePod) -> Iterator[tuple[FakePod, str]]:
    """A pod whose run hangs with its next heartbeat, as on a volume that does not answer."""
    answer = beating.launch(SLOW)
    beating.wait_for_log(b"begun\n")
    wait_for_beat(answer["run_dir"], 2)
    hang(answer["run_dir"])
    yield beating, answer["run_dir"]


def hang(run_dir: str) -> None:
    """Have whoever writes the next heartbeat wait for ever: nobody reads this pipe."""
    place = Path(run_dir) / "heartbeat.new"

    def is_in_the_way() -> bool:
        try:
            os.mkfifo(place)
        except FileExistsError:
            return place.is_fifo()
        return False

    wait_until(is_in_the_way, "the pipe")
    wait_until(lambda: _is_still(run_dir), "the last beat")


def _is_still(run_dir: str) -> bool:
    before = read_beat(run_dir)["beat"]
    time.sleep(0.3)  # six beats
    return bool(read_beat(run_dir)["beat"] == before)


def test_it_changes_while_the_run_goes_on_and_stays_when_its_supervisor_is_dead(beating: FakePod) -> None:
    answer = beating.launch(SLOW)
    beating.wait_for_log(b"begun\n")
    first = wait_for_beat(answer["run_dir"], 1)
    later = wait_for_beat(answer["run_dir"], first["beat"] + 3)
    assert abs(later["at"] - time.time()) < 30
    line = (Path(answer["run_dir"]) / "heartbeat").read_bytes()
    assert (line.count(b"\n"), line[-1:]) == (1, b"\n")
    os.kill(supervisor(beating), signal.SIGKILL)
    beating.wait_for_stop()
    wait_until(lambda: _is_still(answer["run_dir"]), "the end of the heartbeat")


def test_the_status_tells_its_age_for_a_run_without_an_end_only(beating: FakePod) -> None:
    answer = beating.launch(SLOW)
    wait_for_beat(answer["run_dir"], 1)
    _, status = beating.run_program("status.py", {"lines": 0})
    assert 0 <= status["heartbeat_age_s"] < 10
    beating.client().ask("end", reason="user")
    beating.wait_for_end(answer["run_dir"])
    _, status = beating.run_program("status.py", {"lines": 0})
    assert status["heartbeat_age_s"] is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_heartbeat_that_hangs_holds_up_no_signal(hanging: tuple[FakePod, str], number: int) -> None:
    pod, run_dir = hanging
    began, pid = time.monotonic(), supervisor(pod)
    os.kill(pid, number)
    assert pod.wait_for_end(run_dir)["exit_code"] == 143
    assert pod.wait_for_stop() == ["pod stop pod123"]
    # The notes wait 5 s for the thread that hangs only if that hangs with a note.
    assert time.monotonic() - began < 15
    wait_until(lambda: not is_running(pid), "the end of the supervisor")
    assert pod.log().endswith(b"EXIT_CODE=143\n")


def test_a_heartbeat_that_hangs_holds_up_no_end_of_the_training_itself(beating: FakePod) -> None:
    script = f"import os, time\nwhile not os.path.exists({str(beating.root / 'go')!r}): time.sleep(0.01)"
    answer = beating.launch(script)
    wait_for_beat(answer["run_dir"], 2)
    hang(answer["run_dir"])
    (beating.root / "go").touch()
    assert beating.wait_for_end(answer["run_dir"])["reason"] == "finished"
    assert beating.wait_for_stop() == ["pod stop pod123"]


def test_a_heartbeat_that_hangs_holds_up_no_end_that_was_asked_for(hanging: tuple[FakePod, str]) -> None:
    pod, run_dir = hanging
    code, ended = pod.run_program("end_run.py", {"reason": "user", "timeout_s": 20})
    assert (code, ended["ended"]) == (0, True)
    record = pod.record(run_dir)
    assert (record["reason"], record["exit_code"]) == ("user", 143)


# By itself


@pytest.fixture
def modules(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[ModuleType, ModuleType]]:
    """heartbeat.py and run_notes.py."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "remote"))
    monkeypatch.setenv("PODTASKS_HEARTBEAT_S", "0.02")
    yield importlib.import_module("heartbeat"), importlib.import_module("run_notes")


def test_a_volume_that_takes_no_new_file_has_a_heartbeat_all_the_same(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    heartbeat, run_notes = modules
    beat = heartbeat.Heartbeat(str(tmp_path), str(tmp_path / "log"), run_notes.RunNotes(str(tmp_path), {}))
    beat.start()
    wait_for_beat(str(tmp_path), 1)
    # A folder in the new file's place refuses it whoever asks, as a full volume does.
    wait_until(lambda: _make_folder(tmp_path / "heartbeat.new"), "the folder")
    now = read_beat(str(tmp_path))["beat"]
    assert wait_for_beat(str(tmp_path), now + 3)["at"] > 0
    assert 0 <= heartbeat.age_s(str(tmp_path)) < 10
    beat.stop()


def _make_folder(path: Path) -> bool:
    try:
        path.mkdir()
    except FileExistsError:
        return False
    return True


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"{}", b'{"at": null}', b'{"at": "x"}', b"\xff", b'{"at": 1e999}', b'{"at": -1e999}']
)
def test_a_heartbeat_that_makes_no_sense_has_no_age(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path, text: bytes
) -> None:
    (tmp_path / "heartbeat").write_bytes(text)
    age_s = modules[0].age_s(str(tmp_path))
    assert age_s is None or age_s == 0


def test_a_pipe_in_its_place_is_not_waited_for(modules: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "heartbeat")
    with importlib.import_module("time_limit").limit(5):
        assert modules[0].age_s(str(tmp_path)) is None


def test_each_thing_that_does_not_work_is_said_once(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    beats = []

    class Notes:
        def write_if_due(self) -> None:
            beats.append(1)
            raise OSError("the volume takes no note")

    beat = modules[0].Heartbeat(str(tmp_path / "no folder"), str(tmp_path / "no log"), Notes())
    beat.start()
    wait_until(lambda: len(beats) > 10, "some beats")
    beat.stop()
    said = capfd.readouterr().err
    assert said.count("OSError: the volume takes no note") == 1
    assert said.count("FileNotFoundError: ") == 3, "of the log once; of the heartbeat, new and over the old one"


def test_a_note_that_the_volume_refused_is_written_when_it_takes_it(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    run_dir = tmp_path / "later"
    notes = modules[1].RunNotes(str(run_dir), {"run_id": "r"})
    notes.write_now(started_at=1)
    run_dir.mkdir()
    notes.write_if_due()
    assert json.loads((run_dir / "run.json").read_text())["started_at"] == 1
    run_dir.rename(tmp_path / "away")
    notes.write_soon(ending="user")
    with pytest.raises(OSError, match="No such file"):
        notes.write_if_due()
    (tmp_path / "away").rename(run_dir)
    notes.write_if_due()
    assert json.loads((run_dir / "run.json").read_text())["ending"] == "user"


def test_the_clock_may_jump(modules: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    (tmp_path / "heartbeat").write_text(json.dumps({"at": time.time() + 1e6, "beat": 1}))
    assert modules[0].age_s(str(tmp_path)) == 0


def test_nothing_is_noted_once_the_end_is_being_written(
    modules: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = modules[1].RunNotes(str(tmp_path), {"run_id": "r"})
    notes.write_now(step=1)
    run_record = importlib.import_module("run_record")
    closed: list[bool] = []

    def close_meanwhile(_descriptor: int) -> None:
        # The end begins while the note is half written.
        notes.close(timeout_s=0)
        closed.append(True)

    monkeypatch.setattr(run_record.os, "fsync", close_meanwhile)
    notes.write_soon(step=2)
    notes.write_if_due()
    assert closed
    assert json.loads((tmp_path / "run.json").read_text())["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
