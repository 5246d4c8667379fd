"""What was spent: bills beside records, by the UTC day; and the tables that tell it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from podtasks.flows.costs import read_costs
from podtasks.flows.runs import History
from podtasks.pure.bills import PodBill, VolumeBill, parse_pod_bills, parse_volume_bills
from podtasks.pure.cost_text import build_cost_rows, build_day_rows, build_part_rows, describe_storage, explain_costs
from podtasks.pure.costs import Bills, Costs, Storage, count_costs, describe_costs
from podtasks.pure.cpu_offers import CpuOffer, parse_cpu_offer
from podtasks.pure.errors import ApiError, ApiUnreachableError
from podtasks.pure.run_costs import cost_usd, ended_at, lasted_s, launched_at
from podtasks.pure.run_ids import is_run_id, made_at, sort_newest_first
from tests.unit.fakes import VOLUME, FakeRest, World, make_cloud

TODAY = datetime.date(2026, 11, 23)
YESTERDAY = datetime.date(2026, 11, 22)
NOON = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.timezone.utc).timestamp()
HOUR = 3600.0
POD = {"id": "pod1", "usd_per_hour": 1.0}
STORAGE = Storage("vol1", 100)


def run(run_id: str, began: float, hours: float | None, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return a record of a run that began so many hours from noon, and took so many."""
    ended = None if hours is None else NOON + (began + hours) * HOUR
    return {"run_id": run_id, "launched_at": NOON + began * HOUR, "ended_at": ended, "pod": POD, **more}


def count(records: list[dict[str, Any]], bills: Bills | None = None, **more: Any) -> Costs:  # noqa: ANN401
    active = more.pop("active", None)
    return count_costs(records, active, bills, more.pop("storage", None), **{"days": 2, "now": NOON, **more})


def test_run_over_midnight_is_split_between_the_utc_days() -> None:
    costs = count([run("a", -14, 4)])
    assert [(day.day, day.runs_usd) for day in costs.days] == [(YESTERDAY, 2.0), (TODAY, 2.0)]
    assert costs.runs[0][1] == 4.0


def test_run_is_counted_with_what_these_days_saw_of_it() -> None:
    costs = count([run("a", -14, 4), run("old", -90, 10)], days=1)
    assert [(record["run_id"], usd) for record, usd in costs.runs] == [("a", 2.0)]
    assert costs.total_usd == 2.0


def test_run_that_runs_counts_until_now_and_one_without_an_end_not_at_all() -> None:
    costs = count([run("a", -2, None), run("b", -3, None)], active="a")
    assert [record["run_id"] for record, _ in costs.runs] == ["a"]
    assert costs.total_usd == 2.0


def test_run_of_many_days_ends() -> None:
    assert count([run("a", -24 * 30, 24 * 30)], days=40).total_usd == pytest.approx(720)


@pytest.mark.parametrize(
    "record", [{}, {"launched_at": "x"}, {"launched_at": 1e300}, {"run_id": "a", "launched_at": 5.0}, {"pod": None}]
)
def test_records_that_say_little_cost_nothing(record: dict[str, Any]) -> None:
    assert count([record]).total_usd == 0.0


def test_estimate_has_the_volume_by_the_day_and_today_as_far_as_it_has_come() -> None:
    costs = count([], storage=STORAGE)
    daily = 7.0 * 24 / 730
    assert [day.storage_usd for day in costs.days] == [pytest.approx(daily), pytest.approx(daily / 2)]
    assert not costs.is_billed


def test_parts_of_the_bills_add_up_to_the_total() -> None:
    bills = Bills(
        (
            PodBill(TODAY, "pod1", 3.0, 0.0, 0.5),
            PodBill(TODAY, "stranger", 4.0, 0.0, 0.0),
            PodBill(YESTERDAY, "cpu1", 0.0, 0.25, 0.0),
            PodBill(datetime.date(2026, 1, 1), "pod1", 99.0, 0.0, 0.0),
        ),
        (VolumeBill(TODAY, "vol1", 0.125), VolumeBill(datetime.date(2026, 1, 1), "vol1", 99.0)),
    )
    costs = count([run("a", -2, 1)], bills, storage=STORAGE)
    assert dict(costs.parts) == {
        "runs, from launch to end": 1.0,
        "boot and idle time of their pods": 2.0,
        "other GPU pods of the account": 4.0,
        "CPU pods, such as those that copy files": 0.25,
        "pods' own disks": 0.5,
        "network volumes": 0.125,
    }
    assert sum(usd for _, usd in costs.parts) == costs.total_usd == 7.875
    assert costs.is_billed


def test_bills_that_lag_behind_are_said_and_still_add_up() -> None:
    costs = count([run("a", -2, 2)], Bills((PodBill(TODAY, "pod1", 1.5, 0.0, 0.0),), ()))
    assert dict(costs.parts)["not billed yet"] == -0.5
    assert sum(usd for _, usd in costs.parts) == costs.total_usd == 1.5


def test_a_pod_whose_run_was_lost_is_no_stranger() -> None:
    costs = count([run("a", -2, None)], Bills((PodBill(TODAY, "pod1", 1.5, 0.0, 0.0),), ()))
    assert dict(costs.parts)["boot and idle time of their pods"] == 1.5
    assert "other GPU pods of the account" not in dict(costs.parts)


def test_storage_above_a_terabyte_is_cheaper() -> None:
    assert STORAGE.usd_per_month == pytest.approx(7.0)
    assert Storage("v", 3000).usd_per_month == pytest.approx(170.0)


def test_tables_and_texts() -> None:
    costs = count([run("a", -2, 1), run("b-20261123-100000-x", 0, 0)], storage=STORAGE)
    assert build_cost_rows(costs)[0][0::2] == ["a", "1.00"]
    assert build_day_rows(costs)[1] == ["2026-11-23", "$1.00", "$0.00", "$0.00", "$0.12", "$1.12"]
    assert build_part_rows(costs)[-1] == ["total", "$1.35"]
    assert describe_storage(costs) == "network volume vol1, 100 GB: $7.00 a month, used or not"
    assert describe_storage(count([])) == ""
    assert "403" in next(iter(explain_costs(costs, "HTTP 403", NOON)))


def test_days_begin_with_the_first_that_cost_anything_and_today_is_there() -> None:
    costs = count([run("a", -26, 1)], days=5)
    assert len(costs.days) == 5
    assert [row[0] for row in build_day_rows(costs)] == ["2026-11-22", "2026-11-23"]
    assert [row[0] for row in build_day_rows(count([], days=5))] == ["2026-11-23"]


def test_local_bills_are_not_called_runpods() -> None:
    told = next(iter(explain_costs(count([], Bills((), ())), "", NOON, is_local=True)))
    assert told.startswith("the local cloud's bills, in US dollars, at RunPod's prices")


def test_document_of_the_costs() -> None:
    told = describe_costs(count([run("a", -2, 1)], storage=STORAGE), "why")
    assert (told["source"], told["note"], told["runs"][0]["cost_usd"]) == ("estimate", "why", 1.0)
    assert told["days"][1]["day"] == "2026-11-23" and told["storage"]["usd_per_month"] == pytest.approx(7.0)
    assert describe_costs(count([]), "")["storage"] is None


# Reading


def test_costs_are_the_bills_where_they_can_be_read(world: World) -> None:
    world.api.on("list_network_volumes", [VOLUME])
    rest = FakeRest(pod_bills=[PodBill(TODAY, "pod1", 2.0, 0.0, 0.0)])
    cloud = make_cloud(world.api, world.folder, rest=rest)
    costs, why = read_costs(cloud, History((), "x"), world.report, days=1, now=NOON)
    assert (costs.total_usd, costs.is_billed, why) == (2.0, True, "")
    assert costs.storage == STORAGE


@pytest.mark.parametrize(
    "error",
    [
        ApiError("RunPod does not allow this API key to read the pods' bills (HTTP 403).", next_step="x"),
        ApiUnreachableError("RunPod gave no usable answer.", next_step="x"),
    ],
)
def test_costs_are_an_estimate_where_bills_cannot_be_read(world: World, error: ApiError) -> None:
    world.api.on("list_network_volumes", [VOLUME])
    cloud = make_cloud(world.api, world.folder, rest=FakeRest(error=error))
    costs, why = read_costs(cloud, History((run("a", -2, 1),), "x"), world.report, days=1, now=NOON)
    assert (costs.runs[0][1], costs.is_billed, why) == (1.0, False, error.what)


def test_costs_without_a_volume_or_its_size_have_no_storage(world: World) -> None:
    world.api.on("list_network_volumes", ApiError("silent", next_step="x"), [])
    cloud = make_cloud(world.api, world.folder)
    for _ in range(2):
        assert read_costs(cloud, History((), "x"), world.report, days=1, now=NOON)[0].storage is None
    assert world.report.notes == ["the network volume's size is not known: silent"]
    assert read_costs(None, History((), "x"), world.report, days=1, now=NOON)[1] == "the local cloud does not run"


# Answers and records


def test_bills_are_parsed() -> None:
    record = {"startTime": "2026-11-23T00:00:00Z", "podId": "p", "gpuAmount": 1, "cpuAmount": None, "diskAmount": 0.5}
    assert parse_pod_bills({"records": [record]}) == [PodBill(TODAY, "p", 1.0, 0.0, 0.5)]
    assert parse_pod_bills({"records": [record]})[0].total_usd == 1.5
    volume = {"startTime": "2026-11-23T00:00:00Z", "networkVolumeId": "v", "totalAmount": 0.25}
    assert parse_volume_bills({"records": [volume]}) == [VolumeBill(TODAY, "v", 0.25)]
    assert parse_pod_bills({"records": None}) == []
    assert parse_volume_bills({"records": []}) == []


@pytest.mark.parametrize("answer", [{}, {"records": [{}]}, {"records": [{"startTime": "soon", "podId": "p"}]}])
def test_bills_that_make_no_sense_raise(answer: dict[str, Any]) -> None:
    with pytest.raises((KeyError, ValueError)):
        parse_pod_bills(answer)


CPU = {"id": "cpu3c", "name": "Compute-Optimized", "vcpu": {"min": 2, "max": 32}, "price": {"securePerVcpu": 0.04}}


@pytest.mark.parametrize(
    ("cpu", "instance", "price"),
    [
        (CPU, "cpu3c-2-4", 0.08),
        (CPU, "cpu3c-64-128", None),
        (CPU, "cpu5c-2-4", None),
        ({**CPU, "id": "cpu3c-2-4"}, "cpu3c-2-4", 0.08),
    ],
)
def test_cpu_offer(cpu: dict[str, Any], instance: str, price: float | None) -> None:
    offer = parse_cpu_offer({"cpus": [cpu]}, instance)
    assert (None if offer is None else offer.usd_per_hour) == price
    if price:
        assert offer == CpuOffer("cpu3c-2-4", "Compute-Optimized", 2, 4.0, 0.08)


def test_run_times_of_a_record() -> None:
    record = run("a", -2, None)
    assert lasted_s(record, NOON, is_running=True) == 2 * HOUR and lasted_s(record, NOON, is_running=False) is None
    assert cost_usd({**record, "pod": {}}, NOON, is_running=True) is None
    assert launched_at({"run_id": "digits-20261123-120000-abc"}) == NOON
    assert launched_at({"run_id": "digits"}) is None
    assert ended_at({"ended_at": float("inf")}) is None


def test_run_ids() -> None:
    assert [is_run_id(text) for text in ("a-1", "a b;$(x)", "", "..", ".", "a/b", "a\nb", "x" * 200)] == [
        *(True, True),
        *(False,) * 6,
    ]
    assert made_at("x-20261399-000000-y") is None
    assert sort_newest_first(["z", "a-20261123-000000-x", "b-20261124-000000-x"])[0][0] == "b"
