"""Prices and stock: the question, its answer, and the choice."""

from __future__ import annotations

from typing import Any

import graphql
import pytest
from graphql.language.ast import FieldNode, OperationDefinitionNode

from podtasks.pure.errors import PlanError
from podtasks.pure.gpu_offers import build_offers_query, choose_offers, parse_offers, pod_usd_per_hour
from podtasks.pure.pod import GpuOffer
from tests.unit.fakes import A100, RTX_4090

HOSTILE = 'GPU") { id } injected: gpuTypes(input: {id: "x'


def test_query_asks_for_every_type_at_once() -> None:
    query = build_offers_query(["A", HOSTILE], gpu_count=2, data_center='EU"RO', secure=True)
    operation = graphql.parse(query).definitions[0]
    assert isinstance(operation, OperationDefinitionNode)
    fields = operation.selection_set.selections
    aliases = [field.alias.value for field in fields if isinstance(field, FieldNode) and field.alias]
    assert aliases == ["g0", "g1"], "a hostile name is a value, not a field"
    assert 'lowestPrice(input: {gpuCount: 2, dataCenterId: "EU\\"RO", secureCloud: true}) { stockStatus }' in query


def test_query_for_any_data_center_of_the_community_cloud() -> None:
    query = build_offers_query(["A"], gpu_count=1, data_center=None, secure=False)
    assert "lowestPrice(input: {gpuCount: 1, secureCloud: false})" in query


def answer_for(**fields: object) -> dict[str, object]:
    gpu = {"id": "A", "displayName": "Type A", "memoryInGb": 24, "securePrice": 0.69, "communityPrice": 0.34}
    return {**gpu, "lowestPrice": {"stockStatus": "High"}, **fields}


@pytest.mark.parametrize(
    ("gpu", "secure", "offer"),
    [
        (answer_for(), True, GpuOffer("A", "Type A", 24, 0.69, "High")),
        (answer_for(), False, GpuOffer("A", "Type A", 24, 0.34, "High")),
        (answer_for(securePrice=0), True, GpuOffer("A", "Type A", 24, None, "High")),
        (answer_for(securePrice=None), True, GpuOffer("A", "Type A", 24, None, "High")),
        (answer_for(lowestPrice=None), True, GpuOffer("A", "Type A", 24, 0.69, "unknown")),
        (answer_for(lowestPrice={"stockStatus": None}), True, GpuOffer("A", "Type A", 24, 0.69, "unknown")),
        ({"id": "A"}, True, GpuOffer("A", "A", 0, None, "unknown")),
    ],
)
def test_answer_parsed(gpu: dict[str, object], secure: bool, offer: GpuOffer) -> None:
    assert parse_offers({"g0": [gpu]}, ["A"], secure=secure) == [offer]


def test_answer_keeps_the_order_asked_and_leaves_unknown_types_out() -> None:
    answer = {"g2": [answer_for(id="C")], "g0": [answer_for(id="A")], "g1": []}
    assert [offer.id for offer in parse_offers(answer, ["A", "B", "C"], secure=True)] == ["A", "C"]


@pytest.mark.parametrize("answer", [{}, {"g0": None}])
def test_answer_without_a_list_is_no_answer(answer: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError)):
        parse_offers(answer, ["A"], secure=True)


def choose(*offers: GpuOffer, gpu_count: int = 1, cap: float = 1.0) -> list[str]:
    fitting = choose_offers(offers, gpu_count=gpu_count, max_usd_per_hour=cap, where="EU-RO-1 (secure cloud)")
    return [offer.name for offer in fitting]


def offer(name: str, price: float | None, stock: str = "High") -> GpuOffer:
    return GpuOffer(name, name, 24, price, stock)


def test_choice_keeps_the_users_order_and_not_the_price_order() -> None:
    assert choose(offer("dear", 0.9), offer("cheap", 0.1)) == ["dear", "cheap"]


def test_choice_leaves_out_what_is_too_dear_or_not_sold_but_not_what_is_out_of_stock() -> None:
    assert choose(offer("dear", 1.1), offer("unsold", None), offer("gone", 0.5, "None")) == ["gone"]


def test_choice_takes_a_price_that_is_exactly_the_cap() -> None:
    assert choose(offer("exact", 0.5), cap=0.5) == ["exact"]


def test_choice_takes_three_gpus_whose_price_is_exactly_the_cap_in_spite_of_binary_fractions() -> None:
    assert 0.1 * 3 > 0.3
    assert choose(offer("exact", 0.1), gpu_count=3, cap=0.3) == ["exact"]


def test_choice_counts_every_gpu_of_the_pod_against_the_cap() -> None:
    assert pod_usd_per_hour(RTX_4090, 2) == pytest.approx(1.38)
    with pytest.raises(PlanError, match=r"above your cap of \$1\.00/h: NVIDIA GeForce RTX 4090 \$1\.38/h"):
        choose(RTX_4090, gpu_count=2, cap=1.0)


def test_choice_of_nothing_says_the_prices() -> None:
    with pytest.raises(PlanError) as caught:
        choose(RTX_4090, A100, cap=0.5)
    assert caught.value.what == (
        "The price is above your cap of $0.50/h: NVIDIA GeForce RTX 4090 $0.69/h, NVIDIA A100 80GB PCIe $1.39/h."
    )
    assert "max_usd_per_hour" in caught.value.next_step
    assert caught.value.means == "No pod was created."


def test_choice_of_types_that_are_not_sold_there_says_where() -> None:
    with pytest.raises(PlanError) as caught:
        choose(offer("X", None), offer("Y", None))
    assert caught.value.what == "None of these GPU types is rented out in EU-RO-1 (secure cloud): X, Y."
