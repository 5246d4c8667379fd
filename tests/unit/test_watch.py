"""What `inv watch` finds, and what it tells."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import watch
from podtasks.flows.launched import Launched
from podtasks.flows.relaunch import Ground
from podtasks.flows.watch import bounds_of, describe, describe_nothing, find_newest, tell_loss
from podtasks.flows.watch_notes import WatchNotes
from podtasks.flows.watched import from_record
from podtasks.pure.chain import Chain
from podtasks.pure.errors import SettingsError
from podtasks.pure.recovery import Done, GiveUp, Relaunch, Wait
from podtasks.pure.settings import Settings
from podtasks.pure.signs import Silence
from podtasks.tasks.train import _follow_until_done
from tests.unit.fakes import World, make_pod
from tests.unit.test_keep_going import CHAIN, WALL, make_record, make_run, of_record

GIVEN_UP = GiveUp("run run1 was lost with its pod; max_restarts", "raise max_restarts", None, was_lost=True)


def make_ground(world: World, **settings: Any) -> Ground:  # noqa: ANN401
    return Ground(
        world.cloud(),
        Settings(project="demo", **settings),
        ProjectFiles(world.folder),
        world.report,
        world.clock,
        dict,
        lambda: WALL,
    )


def test_bounds_are_the_settings() -> None:
    settings = Settings(max_restarts=3, max_hours=5, max_cost_usd=7)
    assert bounds_of(settings, "run1") == Chain("run1", 0, 0.0, 0.0, 3, 5.0, 7.0)


def test_run_that_nobody_asked_to_keep_going_is_none_to_watch_without_bounds() -> None:
    record = make_record(chain=None)
    assert from_record(record, None, None) is None
    watched = from_record(record, CHAIN, None)
    assert watched is not None and watched.chain == CHAIN and watched.pod_id == "pod1"


@pytest.mark.parametrize(
    ("limits", "max_hours", "max_cost_usd"),
    [
        ({"max_hours": 2.0, "max_cost_usd": 3.0}, 2.0, 3.0),
        ({"max_hours": 99.0, "max_cost_usd": 99.0}, 10.0, 5.0),
        ({"max_hours": 2.0, "max_cost_usd": None}, 2.0, 5.0),
        ({}, 10.0, 5.0),
    ],
)
def test_limits_of_a_run_that_is_adopted_hold_for_all_that_follow(
    limits: dict[str, Any], max_hours: float, max_cost_usd: float
) -> None:
    bounds = replace(CHAIN, max_cost_usd=5.0)
    watched = from_record(make_record(chain=None, **limits), bounds, None)
    assert watched is not None
    assert (watched.chain.max_hours, watched.chain.max_cost_usd) == (max_hours, max_cost_usd)
    without = from_record(make_record(chain=None, **limits), CHAIN, None)
    assert without is not None and without.chain.max_cost_usd == limits.get("max_cost_usd")


def test_until_done_keeps_no_training_going_that_others_launch_later(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Chain | None] = []

    def make_keeper(_: object, bounds: Chain | None, __: object) -> object:
        asked.append(bounds)
        raise KeyboardInterrupt

    monkeypatch.setattr("podtasks.tasks.keep.make_keeper", make_keeper)
    monkeypatch.setattr("podtasks.tasks.keep.make_ground", lambda *_: None)
    project = SimpleNamespace(settings=Settings(project="demo"), console=world.report)
    with pytest.raises(KeyboardInterrupt):
        _follow_until_done(project, world.cloud(), Launched(make_pod(), make_run("run1")))  # type: ignore[arg-type]
    assert asked == [None]


def test_newest_run_is_what_this_machine_saw_last_where_nothing_else_tells(world: World) -> None:
    world.api.on("list_pods", [])
    ground = make_ground(world)
    with pytest.raises(SettingsError, match="there are no S3 keys"):
        find_newest(ground)
    WatchNotes(ground.files, ground.cloud.name).note_record(make_record(script_env={"TOKEN": "VERYSECRET"}))
    found = find_newest(ground)
    assert found is not None and found["run_id"] == "run1" and "script_env" not in found
    path = world.folder / ".podtasks/watch.json"
    assert "VERYSECRET" not in path.read_text() and path.stat().st_mode & 0o077 == 0


def test_notes_are_of_one_account_and_one_run(world: World) -> None:
    files = ProjectFiles(world.folder)
    notes = WatchNotes(files, "RunPod")
    silence = Silence(5.0, 2, '{"beat": 7}')
    notes.note_silence("run1", silence)
    notes.note_failed_launches("run1", 2)
    assert (notes.read_silence("run1"), notes.failed_launches("run1")) == (silence, 2)
    assert (notes.read_silence("run2"), notes.failed_launches("run2"), notes.given_up("run1")) == (None, 0, "")
    assert WatchNotes(files, "local cloud").read_silence("run1") is None
    notes.note_silence("run1", None)
    assert notes.read_silence("run1") is None and notes.failed_launches("run1") == 2
    (files.state_folder / "watch.json").write_text("{half")
    assert notes.read_record() is None and notes.failed_launches("run1") == 0
    (files.state_folder / "watch.json").write_text(
        '{"cloud": "RunPod", "silence": {"run_id": "run1", "value": {"since": "x", "looks": 1, "heartbeat": ""}}}'
    )
    assert notes.read_silence("run1") is None


@pytest.mark.parametrize(
    ("decision", "state"),
    [
        (Wait("it runs"), "running"),
        (Done(0, "finished"), "done"),
        (Relaunch("lost", replace(CHAIN, restarts=1)), "restarted"),
        (GIVEN_UP, "given_up"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_document_has_the_same_names_whatever_was_decided(decision: Any, state: str) -> None:  # noqa: ANN401
    told = describe(of_record(), decision, ["run2"] if state == "restarted" else [], WALL)
    assert told["state"] == state and told["run_id"] == "run1"
    assert set(told) == set(describe(of_record(), Wait(""), [], WALL))
    assert (told["restarted_as"], told["restarts"]) == (("run2", 1) if state == "restarted" else (None, 0))
    assert json.loads(json.dumps(told)) == told
    page = (watch.__file__ or "").partition("podtasks/flows")[0] + "docs/json.md"
    with open(page, encoding="utf-8") as file:
        section = file.read().partition("## inv watch\n")[2].partition("\n## ")[0]
    assert {name for name in told if f"`{name}`" not in section} == set()


def test_nothing_to_watch_is_told_as_such() -> None:
    assert describe_nothing(None, WALL)["state"] == "none"
    assert describe_nothing(make_record(), WALL)["state"] == "not_watched"


def test_loss_that_nobody_makes_good_is_told_with_its_reason(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def notify(target: str, event: str, record: Any, timeout_s: float) -> str:  # noqa: ANN401
        assert timeout_s > 0
        told.append((target, event, record))
        return "told"

    monkeypatch.setattr("podtasks.doors.programs_here.notify", notify)
    watched = replace(of_record(), record=make_record(script_env={"TOKEN": "VERYSECRET"}))
    tell_loss(make_ground(world), watched, GIVEN_UP)
    assert told == [], "nobody is to be notified"
    tell_loss(make_ground(world, notify="https://hooks.example/x"), watched, GIVEN_UP)
    [(target, event, record)] = told
    assert (target, event) == ("https://hooks.example/x", "failed")
    assert "max_restarts" in record["failure"]["title"] and "VERYSECRET" not in json.dumps(record)
