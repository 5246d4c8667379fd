"""What the account has to spend."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# RunPod's GraphQL schema, type User.
CREDIT_QUERY = "query { myself { clientBalance currentSpendPerHr spendLimit } }"


@dataclass(frozen=True)
class Credit:
    """The account's balance, what it spends an hour now, and the most it may spend an hour; None where not told."""

    balance_usd: float | None
    spend_usd_per_hour: float | None
    limit_usd_per_hour: float | None


def parse_credit(answer: Mapping[str, Any]) -> Credit:
    """Given the answer to CREDIT_QUERY, return its value. Raises KeyError or TypeError where it makes no sense."""
    told = answer["data"]["myself"]
    return Credit(*(_number(told.get(name)) for name in ("clientBalance", "currentSpendPerHr", "spendLimit")))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
