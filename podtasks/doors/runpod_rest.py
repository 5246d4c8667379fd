"""RunPod's REST API v2, for what the SDK cannot ask: CPU prices and the account's bills.

Only questions are asked here, so each may be repeated. Errors come as problem+json (RunPod REST v2,
ErrorResponse), and from the proxies in front as HTML.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from podtasks.doors.clock import Clock
from podtasks.pure.api_answer import AnswerFault, ApiCallError, classify_answer
from podtasks.pure.bills import PodBill, VolumeBill, parse_pod_bills, parse_volume_bills
from podtasks.pure.cpu_offers import CpuOffer, parse_cpu_offer
from podtasks.pure.errors import ApiUnreachableError
from podtasks.pure.secret import Secret

if TYPE_CHECKING:
    import urllib.request

Result = TypeVar("Result")

RETRY_PAUSES_S = (0.5, 1.0, 2.0)
LONGEST_PAUSE_S = 60.0
TIMEOUT_S = 20.0
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RunPodRest:
    """The account's bills and the catalogue's CPU prices.

    Args:
        api_key: the account's key.
        rest_url: the API's base, with its /v2.
        clock: what waits between two tries.
    """

    def __init__(self, api_key: Secret, rest_url: str, clock: Clock) -> None:
        self._api_key = api_key
        self._rest_url = rest_url.rstrip("/")
        self._clock = clock
        self._opener: urllib.request.OpenerDirector | None = None

    def find_cpu_offer(self, instance_id: str) -> CpuOffer | None:
        """Return what a CPU instance such as cpu3c-2-4 costs, None where RunPod has none of that name.

        Raises AuthenticationError, ApiError for a key without the right, ApiUnreachableError; so do the others.
        """
        return self._ask("read CPU prices", "catalog/cpus", lambda answer: parse_cpu_offer(answer, instance_id))

    def list_pod_billing(self, days: int) -> list[PodBill]:
        """Return what each pod of the account cost on each of the last `days` UTC days, today included."""
        return self._ask("read the pods' bills", f"billing/pods?{_last_days(days)}", parse_pod_bills)

    def list_volume_billing(self, days: int) -> list[VolumeBill]:
        """Return what each network volume cost on each of the last `days` UTC days, today included."""
        return self._ask("read the volumes' bills", f"billing/network-volumes?{_last_days(days)}", parse_volume_bills)

    def _ask(self, purpose: str, path: str, parse: Callable[[Mapping[str, Any]], Result]) -> Result:
        for pause_s in (*RETRY_PAUSES_S, None):
            try:
                return self._ask_once(purpose, path, parse)
            except ApiCallError as error:
                if pause_s is None:
                    raise ApiUnreachableError(
                        f"RunPod gave no usable answer when asked to {purpose}: {error}",
                        next_step="try again in a minute; if it lasts, look at RunPod's status page",
                    ) from error
                self._clock.sleep(min(error.retry_after_s or pause_s, LONGEST_PAUSE_S))
        raise AssertionError("the last try returns or raises")

    def _ask_once(self, purpose: str, path: str, parse: Callable[[Mapping[str, Any]], Result]) -> Result:
        from http.client import HTTPException
        from urllib.error import HTTPError

        status = None
        try:
            with self._open(path) as response:
                status = response.status
                return parse(json.loads(response.read()))
        except HTTPError as error:
            with error:
                text = _read_problem(error)
            retry_after_s = _parse_seconds(error.headers.get("Retry-After"))
            fault = AnswerFault(purpose, Exception(text), "refused", error.code, retry_after_s, rents=False)
            raise classify_answer(fault) from error
        except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
            raise classify_answer(AnswerFault(purpose, error, _kind(error), status, None, rents=False)) from error

    def _open(self, path: str) -> Any:  # noqa: ANN401  urllib's answers have no common type
        import urllib.request

        if self._opener is None:
            self._opener = _build_opener(self._rest_url)
        headers = {"Authorization": f"Bearer {self._api_key.reveal()}", "Accept": "application/json"}
        request = urllib.request.Request(f"{self._rest_url}/{path}", headers=headers)
        return self._opener.open(request, timeout=TIMEOUT_S)


def _build_opener(rest_url: str) -> urllib.request.OpenerDirector:
    """Return what opens addresses: no proxy for this machine, and no redirect, which would take the key along."""
    import urllib.request
    from urllib.parse import urlsplit

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            return None

    here = urlsplit(rest_url).hostname in LOOPBACK
    return urllib.request.build_opener(NoRedirect, *([urllib.request.ProxyHandler({})] if here else []))


def _last_days(days: int) -> str:
    return f"bucketSize=day&lastN={days}"


def _read_problem(response: Any) -> str:  # noqa: ANN401
    """Return what a refusal says: its detail and what failed, or the status alone where it is no problem+json."""
    try:
        problem = json.loads(response.read(100_000))
        parts = [problem.get("detail") or problem.get("title") or "", *(problem.get("errors") or [])]
        return "; ".join(str(part) for part in parts if part) or f"HTTP {response.code}"
    except (OSError, ValueError, AttributeError):
        return f"HTTP {response.code}"


def _parse_seconds(text: str | None) -> float | None:
    return float(text) if text and text.strip().replace(".", "", 1).isdigit() else None


def _kind(error: Exception) -> str:
    from urllib.error import URLError

    if isinstance(error, json.JSONDecodeError | UnicodeDecodeError):
        return "not-json"
    if isinstance(error, URLError):
        return "unreachable" if "refused" in str(error.reason).lower() else "no-answer"
    return "malformed" if isinstance(error, ValueError | KeyError | TypeError | AttributeError) else "no-answer"
