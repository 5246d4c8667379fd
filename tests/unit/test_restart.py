"""The launch that goes on after a run: rebuilt from its record alone, with what is left of its bounds."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podtasks.pure.chain import Chain, FailedAt
from podtasks.pure.restart import build_restart, parse_launch, parse_stored_run
from podtasks.pure.run import Checkpoint, Launch, Run, build_run_request
from podtasks.pure.secret import Secret
from tests.unit.fakes import make_pod
from tests.unit.test_run import LAUNCH

NOW = datetime.datetime(2026, 11, 24, 1, 2, 3, tzinfo=datetime.timezone.utc)
CHECKPOINT = Checkpoint("/workspace/demo/out/checkpoint-200", 200)
CHAIN = Chain("digits-0", 2, 5.0, 3.0, max_restarts=10, max_hours=24.0, max_cost_usd=10.0)


def record_of(launch: Launch, checkpoint: Checkpoint | None = CHECKPOINT, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what remote/launch.py makes of a request, read back from the volume."""
    request = build_run_request(launch, make_pod(), checkpoint, "t0ken")
    for name in ("token", "notify", "secrets"):
        del request[name]
    record: dict[str, Any] = json.loads(json.dumps({**request, "log": "/workspace/logs/current.log", "log_start": 170}))
    return {**record, **changes}


def restart(record: dict[str, Any], chain: Chain = CHAIN) -> Launch:
    return build_restart(record, chain, NOW, repository="R", notify="N", secrets={"HF_TOKEN": Secret("hf")})


def test_what_is_launched_again_is_what_was_launched() -> None:
    launch = replace(LAUNCH, force_restart=True, resume_from="/x/checkpoint-200", chain=CHAIN, after_run="digits-0")
    again = restart(record_of(launch))
    assert again == replace(
        launch,
        run_id="digits-20261124-010203-3f2a1b9",
        repository="R",
        notify="N",
        secrets={"HF_TOKEN": Secret("hf")},
        force_restart=False,
        resume_from=None,
        at_least=CHECKPOINT,
        max_hours=19.0,
        max_cost_usd=7.0,
        after_run=LAUNCH.run_id,
    )


def test_run_without_a_limit_of_money_gets_none() -> None:
    assert restart(record_of(LAUNCH), replace(CHAIN, max_cost_usd=None)).max_cost_usd is None


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
WORDS = st.lists(TEXTS, min_size=1, max_size=4).map(tuple)
LAUNCHES = st.builds(
    replace,
    st.just(LAUNCH),
    config=TEXTS,
    words=WORDS,
    python=TEXTS.filter(bool),
    env=st.dictionaries(TEXTS, TEXTS, max_size=3),
    links=st.dictionaries(TEXTS, TEXTS, max_size=3),
    force_restart=st.booleans(),
    resume_from=st.none() | TEXTS,
    resume_args=st.sampled_from(["", "--resume {checkpoint}", "--resume={checkpoint}", "{checkpoint} -r 'a b'"]),
    requirements=st.none() | TEXTS,
    logging_dir=st.none() | TEXTS,
    max_hours=st.floats(0.1, 100),
    max_cost_usd=st.none() | st.floats(0.1, 100),
    keep_failed_s=st.floats(0, 100),
    stall_minutes=st.floats(0, 100),
    on_stall=st.sampled_from(["notify", "stop"]),
    after_run=st.none() | TEXTS,
    chain=st.none() | st.just(replace(CHAIN, last_failure=FailedAt(3, None, trained=False))),
)
CHECKPOINTS = st.none() | st.builds(Checkpoint, TEXTS.filter(bool), st.none() | st.integers(0, 10**6))


@given(LAUNCHES, CHECKPOINTS)
def test_any_launch_is_read_back_from_its_record(launch: Launch, checkpoint: Checkpoint | None) -> None:
    read = parse_launch(record_of(launch, checkpoint))
    assert read == replace(launch, repository=None, notify=None)


@pytest.mark.parametrize("name", ["command", "config", "clone", "commit", "links", "resume_args", "max_hours"])
@pytest.mark.parametrize("value", [None, "missing", 7j], ids=str)
def test_broken_record_is_one_clear_error(name: str, value: object) -> None:
    record = {**record_of(LAUNCH), name: value}
    if value == "missing":
        del record[name]
    with pytest.raises(ValueError, match=r"\w+Error"):
        parse_launch(record)


def test_run_is_read_from_its_record_on_the_volume() -> None:
    run = parse_stored_run(record_of(LAUNCH))
    assert run == Run(
        LAUNCH.run_id,
        f"/workspace/runs/{LAUNCH.run_id}",
        "/workspace/logs/current.log",
        170,
        "stop",
        "/workspace/demo/out",
    )
    assert run.checkpoint == CHECKPOINT.path
    with pytest.raises(ValueError, match="KeyError"):
        parse_stored_run({"run_id": "x"})
