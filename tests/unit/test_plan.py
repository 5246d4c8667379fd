"""The plan, as the user reads it before paying."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from podtasks.pure.budget import warn_budget
from podtasks.pure.plan import Plan, render
from podtasks.pure.pod import PodStatus
from tests.unit.fakes import A100, RTX_4090, SPEC, make_pod
from tests.unit.test_run import LAUNCH

PLAN = Plan(
    cloud="RunPod",
    project="demo",
    launch=LAUNCH,
    commit_subject="Learn the digits",
    spec=SPEC,
    offers=(RTX_4090, A100),
    max_usd_per_hour=2.0,
    pod=None,
    grace_minutes=15,
    pod_ready_timeout_s=900,
    forward_agent=False,
    notes=("Submodules are not sent ('lib').", "another"),
)
WHOLE = """\
Plan
  config      configs/digits.yaml
  code        main at 3f2a1b9c0f, sent from here: 'Learn the digits'
  pod         a new one: 1 x RTX 4090 24 GB $0.69/h, stock high, or 1 x A100 PCIe 80 GB $1.39/h, stock low \
(RunPod, EU-RO-1, secure cloud)
  image       runpod/pytorch:1.0.3-cu1290-torch291-ubuntu2204
  volume      network volume vol1 at /workspace
  outputs     /workspace/demo/out
  checkpoint  newest complete checkpoint-* in /workspace/demo/out, else a fresh start
  command     python scripts/train.py --config configs/digits.yaml
  ends        the pod stops itself when done, after 24 h at the latest ($33.36)
  note: Submodules are not sent ('lib').
  note: another"""


def row(plan: Plan, name: str) -> str:
    return next(line[14:] for line in render(plan).splitlines() if line.startswith(f"  {name:<12}"))


def test_plan_of_a_new_pod_whole() -> None:
    assert render(PLAN) == WHOLE


def test_plan_with_a_running_pod_says_that_it_is_used() -> None:
    assert row(replace(PLAN, pod=make_pod()), "pod") == "use pod1, which runs: RTX 4090, $0.69/h"


def test_plan_with_a_running_pod_counts_its_own_price() -> None:
    plan = replace(PLAN, pod=make_pod(usd_per_hour=0.5, gpu_count=2), spec=replace(SPEC, gpu_count=2))
    assert row(plan, "ends").endswith("($12.00)")


def test_plan_with_a_stopped_pod_counts_the_dearest_it_may_become() -> None:
    plan = replace(PLAN, pod=make_pod(usd_per_hour=0.01, status=PodStatus.EXITED))
    assert row(plan, "ends").endswith("($33.36)")


def test_plan_with_a_stopped_pod_says_what_happens_if_it_cannot_be_resumed() -> None:
    stopped = replace(PLAN, pod=make_pod(status=PodStatus.EXITED), offers=(RTX_4090,))
    assert row(stopped, "pod") == (
        "resume pod1; if that fails a new one: 1 x RTX 4090 24 GB $0.69/h, stock high (RunPod, EU-RO-1, secure cloud)"
    )


def test_plan_counts_every_gpu() -> None:
    plan = replace(PLAN, spec=replace(SPEC, gpu_count=3, data_center=None), offers=(RTX_4090,))
    assert row(plan, "pod").startswith("a new one: 3 x RTX 4090 24 GB $2.07/h, stock high (RunPod, any data centre")
    assert row(plan, "ends").endswith("($49.68)")


def test_plan_without_a_network_volume_says_what_is_lost_when() -> None:
    plan = replace(PLAN, spec=replace(SPEC, network_volume_id=None))
    assert row(plan, "volume") == "20 GB on the pod's host at /workspace, lost when the pod is terminated"


@pytest.mark.parametrize(
    ("resume_from", "force_restart", "text"),
    [
        ("/w/checkpoint-7", False, "resume from /w/checkpoint-7"),
        (None, True, "ignored; old ones in /workspace/demo/out are moved aside, not deleted"),
    ],
)
def test_plan_says_which_checkpoint(resume_from: str | None, force_restart: bool, text: str) -> None:
    plan = replace(PLAN, launch=replace(LAUNCH, resume_from=resume_from, force_restart=force_restart))
    assert row(plan, "checkpoint") == text


@pytest.mark.parametrize(
    ("when_done", "text"),
    [
        ("terminate", "the pod deletes itself when done, after 1.5 h at the latest ($2.08)"),
        ("keep", "the pod is KEPT and billed on when done, after 1.5 h at the latest ($2.08)"),
    ],
)
def test_plan_says_what_becomes_of_the_pod(when_done: str, text: str) -> None:
    plan = replace(PLAN, launch=replace(LAUNCH, when_done=when_done, max_hours=1.5))
    assert row(plan, "ends") == text


def test_plan_quotes_the_command_so_that_it_could_be_pasted() -> None:
    plan = replace(PLAN, launch=replace(LAUNCH, words=("train it.py", "--name", "a'b; rm", "$HOME")))
    assert row(plan, "command") == "python 'train it.py' --name 'a'\"'\"'b; rm' '$HOME'"


def test_plan_shows_no_environment() -> None:
    assert "VERYSECRET" not in render(PLAN)
    assert "VERYSECRET" not in repr(PLAN)


# What bounds it


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"max_cost_usd": 33.36}, "after 24 h at the latest ($33.36)"),
        ({"max_cost_usd": 20.0}, "after 24 h or $20.00 at the latest (max_cost_usd comes first above $0.83/h)"),
        ({"max_cost_usd": 16.0}, "after $16.00 at the latest (max_cost_usd: 11 h 31 min at $1.39/h)"),
        ({"max_cost_usd": 16.0, "max_hours": 2.0}, "after 2 h at the latest ($2.78)"),
        (
            {"on_stall": "stop", "stall_minutes": 45.0},
            "after 24 h at the latest ($33.36), or 45 min after its last sign of work (on_stall)",
        ),
        ({"on_stall": "stop", "stall_minutes": 0.0}, "after 24 h at the latest ($33.36)"),
        ({"on_stall": "notify", "stall_minutes": 45.0}, "after 24 h at the latest ($33.36)"),
        (
            {"keep_failed_s": 1800.0},
            "after 24 h at the latest ($33.36); if training fails, the pod is billed 30 min more for a look "
            "(on_failure)",
        ),
    ],
)
def test_plan_says_the_bound_that_comes_first(changes: dict[str, Any], text: str) -> None:
    assert row(replace(PLAN, launch=replace(LAUNCH, **changes)), "ends") == f"the pod stops itself when done, {text}"


def test_pod_that_is_kept_anyway_is_not_kept_for_a_look() -> None:
    assert "look" not in row(replace(PLAN, launch=replace(LAUNCH, when_done="keep", keep_failed_s=60.0)), "ends")


def test_bound_of_a_running_pod_counts_its_own_price() -> None:
    plan = replace(PLAN, pod=make_pod(usd_per_hour=0.25), launch=replace(LAUNCH, max_cost_usd=5.0))
    assert row(plan, "ends").endswith("after $5.00 at the latest (max_cost_usd: 20 h 0 min at $0.25/h)")


@pytest.mark.parametrize(
    ("max_cost_usd", "prices", "says"),
    [
        (None, (0.69,), ""),
        (0.115, (1.39, 0.69), ""),
        (0.1, (1.39, 0.69), "max_cost_usd of $0.10 is used up after 9 min at $0.69/h, the lowest price"),
        (0.01, (0.69,), "max_cost_usd of $0.0100 is used up after 52 s at $0.69/h"),
        (0.01, (0.0,), ""),
        (0.01, (), ""),
    ],
)
def test_budget_for_minutes_is_warned_about(max_cost_usd: float | None, prices: tuple[float, ...], says: str) -> None:
    warned = "".join(warn_budget(replace(LAUNCH, max_cost_usd=max_cost_usd), prices))
    assert warned.startswith(says) and bool(warned) is bool(says)
