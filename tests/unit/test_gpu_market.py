"""All GPU types with price and stock, and the one that a training would get."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import graphql
import pytest

from podtasks.flows.gpus import read_market
from podtasks.pure.errors import PlanError
from podtasks.pure.gpu_market import (
    GpuType,
    Market,
    build_market_query,
    build_rows,
    describe_market,
    explain_choice,
    parse_market,
    sort_by_price,
)
from podtasks.pure.settings import Settings
from tests.unit.fakes import VOLUME, World

CHEAP = GpuType("A", "Type A", 16, 0.25, 0.17, "High")
WANTED = GpuType("B", "Type B", 24, 0.69, 0.34, "Low")
DEAR = GpuType("C", "Type C", 80, 1.39, None, "High")
UNSOLD = GpuType("D", "Type D", 80, None, None, "unknown")
MARKET = Market((CHEAP, WANTED, DEAR, UNSOLD), "EU-RO-1", True, 1, 0.80, ("B", "C"))


def test_query_asks_for_all_types_at_once_and_escapes() -> None:
    query = build_market_query(gpu_count=2, data_center='EU"RO', secure=True)
    graphql.parse(query)
    assert 'lowestPrice(input: {gpuCount: 2, dataCenterId: "EU\\"RO", secureCloud: true}) { stockStatus }' in query
    assert "dataCenterId" not in build_market_query(gpu_count=1, data_center=None, secure=False)


def test_answer_is_parsed() -> None:
    gpu = {"id": "A", "displayName": None, "memoryInGb": 16, "securePrice": 0.25, "communityPrice": 0}
    answer = {"gpuTypes": [{**gpu, "lowestPrice": {"stockStatus": "High"}}, {"id": "unknown"}, {"id": "B"}]}
    assert parse_market(answer) == [
        GpuType("A", "A", 16, 0.25, None, "High"),
        GpuType("B", "B", 0, None, None, "unknown"),
    ]


@pytest.mark.parametrize("answer", [{"gpuTypes": None}, {"gpuTypes": [None]}])
def test_answer_of_an_api_in_trouble_raises(answer: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        parse_market(answer)


def test_cheapest_first_in_the_cloud_that_is_rented_in() -> None:
    assert [gpu.id for gpu in sort_by_price([UNSOLD, DEAR, WANTED, CHEAP], secure=True)] == ["A", "B", "C", "D"]
    dear_there = replace(CHEAP, community_usd_per_hour=9.0)
    assert [gpu.id for gpu in sort_by_price([dear_there, DEAR, WANTED], secure=False)] == ["B", "A", "C"]


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        ({}, "B"),
        ({"wanted": ("C", "B")}, "B"),
        ({"wanted": ("C", "B"), "max_usd_per_hour": 2.0}, "C"),
        ({"gpu_count": 2}, None),
        ({"types": (CHEAP, replace(WANTED, stock="None"), DEAR)}, None),
        ({"types": (CHEAP, replace(WANTED, stock="unknown"))}, "B"),
        ({"secure": False, "gpu_count": 2}, "B"),
        ({"wanted": ("Z",)}, None),
        ({"wanted": ("D",)}, None),
    ],
)
def test_choice_is_that_of_a_training(changes: dict[str, Any], chosen: str | None) -> None:
    market = replace(MARKET, **changes)
    assert (market.chosen.id if market.chosen else None) == chosen


def test_price_of_three_at_the_cap_is_within_it() -> None:
    tenth = replace(WANTED, secure_usd_per_hour=0.1)
    assert replace(MARKET, types=(tenth,), gpu_count=3, max_usd_per_hour=0.3).chosen == tenth


def test_rows_mark_the_choice_and_what_is_above_the_cap() -> None:
    rows = build_rows(MARKET, MARKET.types)
    assert rows[1] == ["B", "24 GB", "$0.69", "$0.34", "$0.69", "low", "<- inv train"]
    assert [row[-1] for row in rows] == ["", "<- inv train", "wanted, above cap", ""]
    assert rows[3][2:5] == ["-", "-", "-"]


def test_choice_is_explained() -> None:
    assert explain_choice(MARKET).startswith("inv train would rent 1 x B at $0.69/h")
    sold_out = (replace(CHEAP, stock="None"), DEAR, UNSOLD)
    assert explain_choice(replace(MARKET, wanted=("C", "D", "Z", "A"), types=sold_out)) == (
        "inv train would find none of gpu_types; C: $1.39/h is above the cap of $0.80/h; D: not rented out there; "
        "Z: no such type; A: none in stock"
    )


def test_document_of_the_market() -> None:
    told = describe_market(MARKET, [WANTED])
    assert (told["chosen"], told["cloud_type"], told["data_center"]) == ("B", "secure", "EU-RO-1")
    assert told["gpus"] == [
        {
            "id": "B",
            "name": "Type B",
            "memory_gb": 24,
            "secure_usd_per_hour": 0.69,
            "community_usd_per_hour": 0.34,
            "pod_usd_per_hour": 0.69,
            "stock": "low",
            "is_wanted": True,
            "is_within_cap": True,
            "is_chosen": True,
        }
    ]


def test_stock_is_asked_for_where_the_volume_is(world: World) -> None:
    world.api.on("list_network_volumes", [VOLUME]).on("list_market 2 EU-RO-1 True", [DEAR, CHEAP])
    market = read_market(world.cloud(), Settings(gpu_types=("C",), max_usd_per_hour=3), 2)
    assert (market.data_center, market.types, market.chosen) == ("EU-RO-1", (CHEAP, DEAR), DEAR)


def test_community_cloud_without_a_volume_is_asked_anywhere(world: World) -> None:
    world.api.on("list_market 1 None False", [CHEAP])
    cloud = replace(world.cloud(), network_volume_id=None)
    assert not read_market(cloud, Settings(cloud_type="community"), 1).secure


def test_volume_that_is_not_there_is_said(world: World) -> None:
    world.api.on("list_network_volumes", [])
    with pytest.raises(PlanError, match="no network volume vol1"):
        read_market(world.cloud(), Settings(), 1)


def test_more_gpus_than_one_pod_can_have_are_refused_in_words() -> None:
    types = (replace(CHEAP, most_gpus=8), replace(WANTED, most_gpus=10))
    market = replace(MARKET, types=types, gpu_count=99, max_usd_per_hour=1000.0)
    assert market.chosen is None
    assert explain_choice(market) == "no GPU type is rented with 99 GPUs in one pod; the most is 10"
    assert "B: at most 6 in one pod" in explain_choice(replace(market, types=(CHEAP, replace(WANTED, most_gpus=6))))


def test_answer_tells_how_many_gpus_one_pod_can_have() -> None:
    assert parse_market({"gpuTypes": [{"id": "B", "maxGpuCountSecureCloud": 4}, {"id": "C"}]})[0].most_gpus == 4
    assert "maxGpuCountCommunityCloud" in build_market_query(gpu_count=1, data_center=None, secure=False)
