"""Run records and heartbeats from the volume, where anything may stand, read by the client."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import sound_record
from hypothesis import given
from hypothesis import strategies as st

from podtasks.doors.project_files import ProjectFiles
from podtasks.flows import run_copies, stored_logs, watched
from podtasks.flows.heartbeats import read_beat
from podtasks.pure.chain import Chain, parse_chain
from podtasks.pure.costs import Bills, count_costs, describe_costs
from podtasks.pure.errors import RemoteCommandError
from podtasks.pure.reap import compare
from podtasks.pure.reasons import describe_reason
from podtasks.pure.restart import build_restart, parse_launch, parse_stored_run
from podtasks.pure.run import parse_run
from podtasks.pure.run_facts import classify, read_facts
from podtasks.pure.run_ids import is_run_id
from podtasks.pure.run_record import make_sound, parse_record
from podtasks.pure.run_table import build_run_rows, describe_runs
from podtasks.pure.signs import Signs
from podtasks.pure.status_report import build_status
from podtasks.pure.status_text import render_status
from podtasks.pure.transfer import is_safe_place
from tests.properties.hostile import JSON, NAMES, NUMBERS, SAMPLES, documents, files
from tests.properties.profile import examples
from tests.properties.test_records_on_the_pod import FIELDS
from tests.unit.fake_volume import FakeVolume
from tests.unit.fakes import make_pod

NOW = 1_800_000_000.0
RUN_ID = "digits-20261123-120000-3f2a1b9"
WHOLE = {
    "run_id": RUN_ID,
    "config": "configs/digits.yaml",
    "clone": "/workspace/demo",
    "commit": "3f2a1b9c",
    "branch": "main",
    "code": "local",
    "command": ["python", "train.py", "--resume", "/workspace/demo/out/checkpoint-5"],
    "script_env": {},
    "output_dir": "/workspace/demo/out",
    "checkpoint_dir": "/workspace/demo/out",
    "checkpoint_pattern": "checkpoint-*",
    "checkpoint": {"path": "/workspace/demo/out/checkpoint-5", "step": 5},
    "resume_args": "--resume {checkpoint}",
    "force_restart": False,
    "links": {},
    "venv": "container",
    "python": "python",
    "volume": "/workspace",
    "when_done": "stop",
    "max_hours": 24,
    "stop_grace_s": 30,
    "log": "/workspace/logs/current.log",
    "log_start": 170,
    "log_end": None,
    "launched_at": NOW - 3600,
    "ended_at": None,
    "exit_code": None,
    "reason": None,
    "pod": {"id": "pod1", "gpu": "RTX 4090", "usd_per_hour": 0.69},
}
CHAIN = Chain(RUN_ID, 1, 1.0, 0.69, 10, 24.0, None)
CHAIN_FIELDS = (*CHAIN.to_json(),)
BROKEN = st.one_of(
    documents(*FIELDS, *WHOLE),
    st.builds(lambda chain: {"chain": {**CHAIN.to_json(), **chain}}, documents(*CHAIN_FIELDS)),
    st.builds(lambda part: {"failure": part}, documents("kind", "title", "lines", "advice")),
    st.builds(lambda part: {"pod": part}, documents("id", "gpu", "usd_per_hour")),
    st.builds(lambda part: {"checkpoint": part}, documents("path", "step")),
    st.sampled_from(SAMPLES).map(lambda text: {"run_id": text}),
    st.one_of(NUMBERS, JSON).map(lambda value: dict.fromkeys([*FIELDS, *WHOLE], value)),
)
BEATS = st.one_of(files(documents("at", "beat")), NUMBERS.map(lambda at: json.dumps({"at": at}).encode()))
RECORDS = st.builds(lambda broken: {**WHOLE, **broken}, BROKEN)


@examples(300)
@given(files(RECORDS), st.booleans())
def test_any_record_is_shown_or_left_out(content: bytes, is_active: bool) -> None:
    record = parse_record(content)
    if record is None:
        return
    document = describe_runs([record], RUN_ID if is_active else None, "the volume", NOW)
    json.dumps(document)
    assert all(isinstance(cell, str) for row in build_run_rows(document["runs"]) for cell in row)
    describe_reason(record.get("reason"))
    for answer in ({}, {"run": record, "guard": None}, {"run": record, "guard": {"lease": {"run_id": RUN_ID}}}):
        status = build_status("local", make_pod(), answer, silence="", now=NOW, last_run=record, source="here")
        json.dumps(status)
        assert render_status(status)
    for bills in (None, Bills((), ())):
        costs = count_costs([record], RUN_ID if is_active else None, bills, None, days=7, now=NOW)
        json.dumps(describe_costs(costs, ""))


@examples(300)
@given(files(RECORDS), BEATS)
def test_any_record_is_taken_up_again_or_refused(content: bytes, beat: bytes) -> None:
    record = parse_record(content) or {}
    seen = watched.from_record(record, CHAIN, make_pod())
    assert seen is not None and isinstance(seen.pod_id, str) and seen.can_be_followed in (True, False)
    facts = read_facts(record, seen.chain, NOW, heartbeat=beat)
    assert 0 <= facts.used_hours < math.inf and 0 <= facts.used_usd < math.inf
    classify(facts)
    for parse in (parse_launch, parse_stored_run):
        with contextlib.suppress(ValueError):
            assert parse(record).run_id == record["run_id"]
    with contextlib.suppress(ValueError):
        now = datetime.datetime.fromtimestamp(NOW, datetime.timezone.utc)
        launch = build_restart(record, CHAIN, now, repository=None, notify=None, secrets={})
        assert launch.after_run == record["run_id"]
    try:
        assert is_run_id(parse_run({"run_dir": "/workspace/runs/x", **record}).run_id)
    except RemoteCommandError as error:
        assert error.next_step


@examples(100)
@given(st.one_of(NUMBERS, JSON))
def test_any_chain_is_bounded_or_none(value: object) -> None:
    for whole in (value, *({**CHAIN.to_json(), name: value} for name in CHAIN_FIELDS)):
        chain = parse_chain(whole)
        if chain is not None:
            numbers = (chain.restarts, chain.used_hours, chain.used_usd, chain.max_restarts, chain.max_hours)
            assert all(0 <= number < math.inf for number in numbers)
            assert chain.max_cost_usd is None or 0 <= chain.max_cost_usd < math.inf
            assert parse_chain(json.loads(json.dumps(chain.to_json()))) == chain


@examples(100)
@given(st.lists(st.one_of(st.none(), files(documents("at", "beat"))), min_size=2, max_size=6))
def test_only_a_heartbeat_that_changes_is_a_sign_of_life(readings: list[bytes | None]) -> None:
    signs = Signs()
    for now, content in enumerate(readings):
        signs = signs.hear_heartbeat(float(now), content)
    assert signs.lives == any((a or b"") != (b or b"") for a, b in itertools.pairwise(readings))
    assert compare(None, None) is not None


class AskedVolume(FakeVolume):
    """A volume that knows which places were read."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.places: list[str] = []

    def read(self, place: str) -> bytes | None:
        self.places.append(place)
        return super().read(place)


NEWEST = st.one_of(
    st.sampled_from([f"{RUN_ID}\n".encode(), b"..", b"../..\n", b"", b"a/b", b"\0"]), st.binary(max_size=8)
)


@examples(60)
@given(files(RECORDS), NEWEST, st.binary(max_size=20))
def test_any_volume_has_logs_or_none(content: bytes, newest: bytes, log: bytes) -> None:
    content_of = {f"runs/{RUN_ID}/run.json": content, "runs/newest": newest, "logs/current.log": log}
    volume = AskedVolume({**content_of, f"runs/{RUN_ID}/heartbeat": log})
    record = stored_logs.read_newest_record(volume)
    found = None if record is None else stored_logs.find_log(volume, record)
    if found is not None:
        assert b"".join(stored_logs.read_log(volume, found)) in log
    read_beat(volume, "pod1")
    assert all(map(is_safe_place, volume.places))


@examples(60)
@given(files(RECORDS), files(RECORDS), st.binary(max_size=20), NAMES)
def test_any_copies_of_runs_are_read(streamed: bytes, final: bytes, log: bytes, run_id: str) -> None:
    with tempfile.TemporaryDirectory() as root:
        project = ProjectFiles(Path(root))
        folder = project.state_folder / "runs" / RUN_ID
        folder.mkdir(parents=True)
        for name, data in (("run.json", streamed), ("record.json", final), ("output.log", log)):
            (folder / name).write_bytes(data)
        assert set(run_copies.read_records(project)) <= {RUN_ID}
        for wanted in (None, RUN_ID, run_id, "../x", ""):
            found = run_copies.find(project, wanted, None)
            assert found is None or found.run_id == RUN_ID
        run_copies.remember_record(project, {**(parse_record(final) or {}), "run_id": run_id})
        assert {path.name for path in (project.state_folder / "runs").iterdir()} <= {RUN_ID, run_id}
        assert os.listdir(root) == [project.state_folder.name]


@examples(200)
@given(st.one_of(documents(*FIELDS, *WHOLE), BROKEN))
def test_pod_and_client_take_the_same_for_sound(record: dict[str, Any]) -> None:
    assert json.dumps(make_sound(record)) == json.dumps(sound_record.make_sound(record))
