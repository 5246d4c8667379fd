"""What a failed API call is taken for."""

from __future__ import annotations

import pytest

from podtasks.pure.api_answer import AnswerFault, ApiCallError, classify_answer
from podtasks.pure.errors import ApiError, AuthenticationError, CapacityError


def classify(
    kind: str, status: int | None = 200, text: str = "", wait_s: float | None = None, *, rents: bool = False
) -> Exception:
    return classify_answer(AnswerFault("do it", Exception(text), kind, status, wait_s, rents))


@pytest.mark.parametrize(
    ("kind", "status", "text", "expected"),
    [
        ("key", None, "", AuthenticationError),
        ("key", 401, "", AuthenticationError),
        ("not-json", 401, "", AuthenticationError),
        ("malformed", 403, "", ApiError),
        ("refused", 403, "no", ApiError),
        ("malformed", 410, "", ApiError),
        ("not-json", 410, "", ApiError),
        ("refused", 200, "Cannot resume a spot pod as an on demand pod.", ApiError),
        ("refused", 400, "Field nope is not defined", ApiError),
        ("refused", 200, "There are no longer any instances available with the requested specs.", CapacityError),
        ("refused", 200, "This machine does not have the resources to deploy your pod.", CapacityError),
        ("refused", 200, "There are not enough free GPUs on the host machine to start this pod.", CapacityError),
        ("refused", 500, "no instances available", CapacityError),
        ("unknown-gpu", 200, "No GPU found with the specified ID", ApiError),
    ],
)
def test_failure_that_another_try_cannot_mend(
    kind: str, status: int | None, text: str, expected: type[Exception]
) -> None:
    error = classify(kind, status, text)
    assert type(error) is expected
    assert "do it" in str(error)
    assert "\nNext: " in str(error)
    assert text in str(error) or expected is not CapacityError


@pytest.mark.parametrize(
    ("kind", "status", "may_have_acted", "says"),
    [
        ("unreachable", None, False, "no connection could be made"),
        ("malformed", 429, False, "too many calls (HTTP 429)"),
        ("not-json", 429, False, "too many calls (HTTP 429)"),
        ("refused", 429, False, "too many calls (HTTP 429)"),
        ("no-answer", None, True, "the connection broke or timed out"),
        ("not-json", 502, True, "the answer is not JSON (HTTP 502)"),
        ("malformed", 200, True, "the answer makes no sense (HTTP 200)"),
        ("refused", 503, True, "the answer makes no sense (HTTP 503)"),
    ],
)
def test_failure_that_may_be_tried_again_says_whether_it_may_have_acted(
    kind: str, status: int | None, may_have_acted: bool, says: str
) -> None:
    error = classify(kind, status, "internal error", wait_s=3.5)
    assert isinstance(error, ApiCallError)
    assert error.may_have_acted is may_have_acted
    assert str(error) == says
    assert error.retry_after_s == (3.5 if status == 429 else None)


TROUBLE = "Something went wrong. Please try again later or contact support."


@pytest.mark.parametrize("status", [200, 500])
def test_trouble_where_a_pod_is_rented_is_a_matter_of_capacity(status: int) -> None:
    error = classify("refused", status, TROUBLE, rents=True)
    assert type(error) is CapacityError
    assert TROUBLE in str(error)


@pytest.mark.parametrize("status", [200, 500])
def test_trouble_elsewhere_may_be_tried_again(status: int) -> None:
    error = classify("refused", status, TROUBLE)
    assert isinstance(error, ApiCallError)
    assert error.may_have_acted
    assert str(error) == f"RunPod says: {TROUBLE}"


def test_unknown_gpu_says_where_it_is_set() -> None:
    error = classify("unknown-gpu", 200, "No GPU found with the specified ID", rents=True)
    assert isinstance(error, ApiError)
    assert error.means == "No pod was created."
    assert "gpu_types in invoke.yaml" in error.next_step


def test_failure_of_switched_off_api_says_what_becomes_of_running_pods() -> None:
    assert "stops itself at its end" in str(classify("malformed", 410))
