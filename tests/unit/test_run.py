"""A run's id, its command, and the request that launches it."""

from __future__ import annotations

import datetime
import json
import re
from dataclasses import replace
from typing import Any

import pytest

from podtasks.pure.errors import UsageError
from podtasks.pure.run import (
    Checkpoint,
    Launch,
    Run,
    build_run_id,
    build_run_request,
    build_words,
    fill_resume_args,
    find_differences,
    parse_run,
)
from tests.unit.fakes import make_pod

NOW = datetime.datetime(2026, 11, 23, 12, 0, 5, tzinfo=datetime.timezone.utc)
COMMIT = "3f2a1b9c0ffee0ddba11cafebabe0123456789ab"
LAUNCH = Launch(
    run_id="digits-20261123-120005-3f2a1b9",
    config="configs/digits.yaml",
    volume="/workspace",
    clone="/workspace/demo",
    code="local",
    branch="main",
    commit=COMMIT,
    repository=None,
    output_dir="/workspace/demo/out",
    checkpoint_dir="/workspace/demo/out",
    checkpoint_pattern="checkpoint-*",
    resume_args="--resume {checkpoint}",
    resume_from=None,
    force_restart=False,
    python="python",
    words=("scripts/train.py", "--config", "configs/digits.yaml"),
    requirements="requirements.txt",
    venv="container",
    links={"data": "data"},
    env={"HF_TOKEN": "hf_VERYSECRET"},
    when_done="stop",
    max_hours=24,
    stop_grace_s=30,
    notify="https://hooks.example/VERYSECRET",
)


@pytest.mark.parametrize(
    ("config", "run_id"),
    [
        ("configs/digits.yaml", "digits-20261123-120005-3f2a1b9"),
        ("configs/My Big_Run.v2.yaml", "my-big-run-v2-20261123-120005-3f2a1b9"),
        ("$(rm -rf ~);'\n.yaml", "rm-rf-20261123-120005-3f2a1b9"),
        ("configs/日本.yaml", "run-20261123-120005-3f2a1b9"),
        ("../../etc/passwd", "passwd-20261123-120005-3f2a1b9"),
        ("x" * 200 + ".yaml", "x" * 40 + "-20261123-120005-3f2a1b9"),
    ],
)
def test_run_id_is_safe_in_shells_paths_and_tmux(config: str, run_id: str) -> None:
    assert build_run_id(config, COMMIT, NOW) == run_id
    assert re.fullmatch(r"[a-z0-9-]+", run_id)


@pytest.mark.parametrize(
    ("flag", "args", "words"),
    [
        ("--config", "", ("t.py", "--config", "c d.yaml")),
        ("--config=", "", ("t.py", "--config=c d.yaml")),
        ("", "--debug", ("t.py", "c d.yaml", "--debug")),
        ("-c", "--name 'a b' \"$HOME\" ;", ("t.py", "-c", "c d.yaml", "--name", "a b", "$HOME", ";")),
    ],
)
def test_training_command_words(flag: str, args: str, words: tuple[str, ...]) -> None:
    assert build_words("t.py", flag, "c d.yaml", args) == words


def test_training_arguments_with_an_open_quote_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot be split"):
        build_words("t.py", "--config", "c.yaml", "--name 'a")


@pytest.mark.parametrize(
    ("resume_args", "words"),
    [
        ("--resume {checkpoint}", ("--resume", "/w/out dir/checkpoint-7; rm")),
        ("--resume={checkpoint} --strict", ("--resume=/w/out dir/checkpoint-7; rm", "--strict")),
        ("", ()),
    ],
)
def test_checkpoint_path_stays_one_word(resume_args: str, words: tuple[str, ...]) -> None:
    assert fill_resume_args(resume_args, Checkpoint("/w/out dir/checkpoint-7; rm", 7)) == words


def test_no_checkpoint_adds_no_words() -> None:
    assert fill_resume_args("--resume {checkpoint}", None) == ()


def test_request_to_launch_is_exactly_what_the_pod_expects() -> None:
    request = build_run_request(LAUNCH, make_pod(), Checkpoint("/workspace/demo/out/checkpoint-200", 200), "t0ken")
    assert json.loads(json.dumps(request)) == {
        "run_id": "digits-20261123-120005-3f2a1b9",
        "config": "configs/digits.yaml",
        "clone": "/workspace/demo",
        "commit": COMMIT,
        "branch": "main",
        "code": "local",
        "command": [
            "python",
            "scripts/train.py",
            "--config",
            "configs/digits.yaml",
            "--resume",
            "/workspace/demo/out/checkpoint-200",
        ],
        "script_env": {"HF_TOKEN": "hf_VERYSECRET"},
        "output_dir": "/workspace/demo/out",
        "logging_dir": None,
        "checkpoint_dir": "/workspace/demo/out",
        "checkpoint_pattern": "checkpoint-*",
        "checkpoint": {"path": "/workspace/demo/out/checkpoint-200", "step": 200},
        "force_restart": False,
        "resume_from": None,
        "resume_args": "--resume {checkpoint}",
        "requirements": "requirements.txt",
        "venv": "container",
        "python": "python",
        "links": {"data": "data"},
        "pod": {"id": "pod1", "gpu": "RTX 4090", "usd_per_hour": 0.69},
        "when_done": "stop",
        "max_hours": 24,
        "stop_grace_s": 30,
        "token": "t0ken",
        "notify": "https://hooks.example/VERYSECRET",
        "volume": "/workspace",
        "max_cost_usd": None,
        "keep_failed_s": 0.0,
        "stall_minutes": 0.0,
        "on_stall": "notify",
        "secrets": {},
        "chain": None,
        "after_run": None,
    }


def test_request_of_a_fresh_start_names_no_checkpoint() -> None:
    request = build_run_request(LAUNCH, make_pod(), None, "t0ken")
    assert request["checkpoint"] is None
    assert "--resume" not in request["command"]


def test_launch_does_not_show_its_environment() -> None:
    assert "VERYSECRET" not in repr(LAUNCH)


RECORD = {
    **build_run_request(LAUNCH, make_pod(), Checkpoint("/workspace/demo/out/checkpoint-200", 200), "t0ken"),
    "run_dir": "/workspace/runs/digits",
    "log": "/workspace/logs/current.log",
    "log_start": 17,
    "exit_code": None,
}


def test_run_parsed_from_a_record_with_more_in_it() -> None:
    assert parse_run({**RECORD, "log_start": "17"}) == Run(
        LAUNCH.run_id,
        "/workspace/runs/digits",
        "/workspace/logs/current.log",
        17,
        "stop",
        "/workspace/demo/out",
    )


def test_same_training_has_no_differences_whatever_its_id_and_checkpoint() -> None:
    assert find_differences(replace(LAUNCH, run_id="another", max_hours=1), json.loads(json.dumps(RECORD))) == []
    fresh = build_run_request(LAUNCH, make_pod(), None, "t0ken")
    assert find_differences(LAUNCH, fresh) == []


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"config": "configs/other.yaml"}, ["configuration"]),
        ({"commit": "0" * 40}, ["commit"]),
        ({"branch": "other"}, ["branch"]),
        ({"words": (*LAUNCH.words, "--debug")}, ["arguments"]),
        ({"words": LAUNCH.words[:-1]}, ["arguments"]),
        ({"words": LAUNCH.words[:1]}, ["arguments"]),
        ({"python": "python3.11"}, ["arguments"]),
        ({"force_restart": True}, ["--force-restart"]),
        ({"resume_from": "checkpoint-100"}, ["--resume-from"]),
        ({"commit": "0" * 40, "force_restart": True}, ["commit", "--force-restart"]),
    ],
)
def test_another_training_is_told_by_what_differs(changes: dict[str, Any], named: list[str]) -> None:
    assert find_differences(replace(LAUNCH, **changes), RECORD) == named


def test_training_with_fewer_arguments_than_the_running_one_is_another() -> None:
    running = {**RECORD, "command": [*RECORD["command"], "--debug"]}
    assert find_differences(LAUNCH, running) == ["arguments"]


def test_record_with_nothing_in_it_is_no_training_like_this_one() -> None:
    assert find_differences(LAUNCH, {})[:2] == ["configuration", "commit"]
