"""Secret: a value that cannot print itself."""

import copy
import json
import logging
import pickle
import traceback
from collections.abc import Callable

import pytest
from pydantic import BaseModel

from podtasks.pure.secret import Secret

KEY = "rpa_VERYSECRET"


class Account(BaseModel):
    key: Secret


@pytest.mark.parametrize(
    "show",
    [
        str,
        repr,
        "{}".format,
        "{!r:>20}".format,
        "{:>12}".format,
        lambda secret: f"{secret}",
        lambda secret: "%s %r" % (secret, secret),  # noqa: UP031 - logging formats so
        lambda secret: str([secret, {"key": secret}]),
        lambda secret: json.dumps({"key": secret}, default=str),
        lambda secret: Account(key=secret).model_dump_json(),
        lambda secret: repr(Account(key=secret)),
        lambda secret: logging.LogRecord("x", 1, "x", 1, "key %s", (secret,), None).getMessage(),
    ],
)
def test_secret_shown_in_any_way_is_masked(show: Callable[[Secret], str]) -> None:
    shown = show(Secret(KEY))
    assert "[secret]" in shown
    assert KEY not in shown


def test_secret_reveals_its_value_only_when_asked() -> None:
    assert Secret(KEY).reveal() == KEY


def test_secret_is_not_json_by_accident() -> None:
    with pytest.raises(TypeError) as failure:
        json.dumps(Secret(KEY))
    assert KEY not in "".join(traceback.format_exception(failure.value))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_secret_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(Secret(KEY), protocol)


def test_secret_compares_by_value_with_secrets_only() -> None:
    assert Secret(KEY) == Secret(KEY)
    assert Secret(KEY) != Secret("other")
    assert Secret(KEY) != KEY
    assert len({Secret(KEY), Secret(KEY)}) == 1


def test_secret_survives_copying() -> None:
    assert copy.deepcopy({"key": Secret(KEY)})["key"].reveal() == KEY
    assert copy.copy(Secret(KEY)).reveal() == KEY


def test_secret_in_a_model_takes_text_and_keeps_it() -> None:
    assert Account(key=KEY).key.reveal() == KEY  # type: ignore[arg-type]


def test_secret_in_a_model_refuses_other_types_without_showing_them() -> None:
    with pytest.raises(ValueError, match="must be text"):
        Account(key=["x"])  # type: ignore[arg-type]


def test_secret_that_is_empty_is_false() -> None:
    assert not Secret("")
    assert Secret(KEY)
