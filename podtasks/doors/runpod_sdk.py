"""RunPod's API through the `runpod` SDK: the only importer of runpod.

The SDK neither retries nor tells HTTP statuses apart, escapes nothing that it pastes into GraphQL, and
takes over a second to import (RunPod facts, section 1). All of that is dealt with here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import sys
import threading
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from podtasks.doors.at_once import Late, ask_at_once
from podtasks.doors.clock import Clock
from podtasks.pure import graphql_text
from podtasks.pure.api_answer import AnswerFault, ApiCallError, classify_answer
from podtasks.pure.credit import CREDIT_QUERY, Credit, parse_credit
from podtasks.pure.errors import ApiError, ApiUnreachableError
from podtasks.pure.gpu_market import GpuType, build_market_query, parse_market
from podtasks.pure.gpu_offers import build_offers_query, parse_offers
from podtasks.pure.pod import GpuOffer, NetworkVolume, Pod, PodSpec, parse_pod
from podtasks.pure.secret import Secret

Result = TypeVar("Result")

RETRY_PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0)
LONGEST_PAUSE_S = 60.0
LONGEST_ANSWER_S = 60.0
LARGEST_ANSWER_BYTES = 64_000_000
# RunPod facts, section 2, "Error messages seen".
ALREADY_GONE = "pod not found to terminate"
_IMPORT_LOCK = threading.Lock()


def import_in_background() -> None:
    """Begin to import the SDK, so that its second passes while other things are checked."""
    threading.Thread(target=_import_sdk, daemon=True).start()


def _import_sdk() -> Any:  # noqa: ANN401  the SDK has no types
    with _IMPORT_LOCK, _without_cpu_detection(), _without_a_log_on_the_terminal():
        import runpod

    return runpod


@contextlib.contextmanager
def _without_a_log_on_the_terminal() -> Iterator[None]:
    """Take back that the SDK's import has every library's log printed (its rp_upload.py calls basicConfig)."""
    before = list(logging.root.handlers)
    try:
        yield
    finally:
        for handler in logging.root.handlers[:]:
            if handler not in before:
                logging.root.removeHandler(handler)


@contextlib.contextmanager
def _without_cpu_detection() -> Iterator[None]:
    """Spare the SDK's import the search for the CPU's name, which only its serverless debugger prints.

    Measured: 1.7 s with it, 0.6 s without.
    """
    if "cpuinfo" in sys.modules:
        yield
        return
    stand_in: Any = types.ModuleType("cpuinfo")
    stand_in.get_cpu_info = lambda: {"brand_raw": "unknown"}
    sys.modules["cpuinfo"] = stand_in
    try:
        yield
    finally:
        del sys.modules["cpuinfo"]


class _StatusKeeper:
    """Stands where the SDK's GraphQL module has `requests`, and keeps the last answer.

    The SDK drops HTTP status and headers, without which 429, 410 and 502 look alike. The session also
    spares a TLS handshake a call. The SDK's own timeout counts anew for each byte that comes; here each answer has to
    be whole after `longest_s`.
    """

    def __init__(self, use_proxies: bool, longest_s: float = LONGEST_ANSWER_S) -> None:
        self._use_proxies = use_proxies
        self._longest_s = longest_s
        self._session = self._open_session()
        self.status: int | None = None
        self.retry_after_s: float | None = None

    def post(self, url: str, **request: Any) -> Any:  # noqa: ANN401  passes the SDK's own arguments on
        import requests

        self.status = self.retry_after_s = None
        session = self._session
        ((_, response),) = ask_at_once({"answer": lambda: _read_whole(session, url, request)}, self._longest_s)
        if isinstance(response, Late):
            # That thread still reads from this session's connection.
            self._session = self._open_session()
            raise requests.exceptions.ReadTimeout(f"no whole answer within {self._longest_s:g} s")
        if isinstance(response, BaseException):
            raise response
        self.status = response.status_code
        wait = response.headers.get("Retry-After", "")
        self.retry_after_s = float(wait) if wait.replace(".", "", 1).isdigit() else None
        return response

    def _open_session(self) -> Any:  # noqa: ANN401  requests is imported late
        import requests

        session = requests.Session()
        session.trust_env = self._use_proxies
        return session


def _read_whole(session: Any, url: str, request: dict[str, Any]) -> Any:  # noqa: ANN401  requests is imported late
    """Return the answer to a POST with its body read, at most 64 MB of it."""
    import requests

    response = session.post(url, stream=True, **request)
    body = bytearray()
    for chunk in response.iter_content(1 << 16):
        body += chunk
        if len(body) > LARGEST_ANSWER_BYTES:
            response.close()
            raise requests.exceptions.ChunkedEncodingError("the answer is too long for one of RunPod's")
    # What reading it at once would have left; requests offers no other way to bound an answer.
    response._content = bytes(body)
    return response


class RunPodSdk:
    """The account's pods, GPU types and volumes.

    Args:
        api_key: the account's key.
        base_url: another address than RunPod's own, for the local cloud.
        clock: what waits between two tries.
    """

    def __init__(self, api_key: Secret, base_url: str | None, clock: Clock) -> None:
        self._api_key = api_key
        self._base_url = base_url
        self._clock = clock
        self._connected: tuple[Any, _StatusKeeper] | None = None

    def list_network_volumes(self) -> list[NetworkVolume]:
        """Return the account's network volumes. Raises AuthenticationError, ApiUnreachableError."""
        return self._call("read the account", lambda sdk: _parse_volumes(sdk.get_user()))

    def read_credit(self) -> Credit:
        """Return what the account has to spend."""
        return self._call("read the account's balance", _ask_credit)

    def list_gpu_types(self) -> list[str]:
        """Return the ids of all GPU types there are."""
        return self._call("list the GPU types", lambda sdk: [gpu["id"] for gpu in sdk.get_gpus()])

    def list_offers(
        self, gpu_types: Sequence[str], *, gpu_count: int, data_center: str | None, secure: bool
    ) -> list[GpuOffer]:
        """Return price and stock of those of `gpu_types` that exist, in one call and in the given order."""
        query = build_offers_query(gpu_types, gpu_count=gpu_count, data_center=data_center, secure=secure)

        def ask(sdk: Any) -> list[GpuOffer]:  # noqa: ANN401
            return parse_offers(sdk.api.graphql.run_graphql_query(query)["data"], gpu_types, secure=secure)

        return self._call("read prices and stock", ask)

    def list_market(self, *, gpu_count: int, data_center: str | None, secure: bool) -> list[GpuType]:
        """Return all GPU types with their prices, and their stock in that place, in one call."""
        query = build_market_query(gpu_count=gpu_count, data_center=data_center, secure=secure)
        return self._call(
            "read prices and stock", lambda sdk: parse_market(sdk.api.graphql.run_graphql_query(query)["data"])
        )

    def list_pods(self) -> list[Pod]:
        """Return all pods of the account."""
        return self._call("list the pods", lambda sdk: [parse_pod(pod) for pod in sdk.get_pods()])

    def find_pod(self, pod_id: str) -> Pod | None:
        """Return the pod, None where the account has none of that id."""
        safe_id = graphql_text.escape(pod_id)

        def ask(sdk: Any) -> Pod | None:  # noqa: ANN401
            answer = sdk.get_pod(safe_id)
            return parse_pod(answer) if answer else None

        return self._call(f"read pod {pod_id}", ask)

    def create_pod(self, spec: PodSpec, gpu_type: str) -> str:
        """Rent a pod and return its id.

        It is tried once. Raises CapacityError when there is no such GPU now, ApiError when RunPod has never
        heard of it, and ApiCallError with `may_have_acted` when nobody can know whether the pod exists: look
        before trying again.
        """
        choice = {"gpu_type_id": graphql_text.escape(gpu_type), "gpu_count": spec.gpu_count}
        return self._create(spec, choice, f"create a pod with {gpu_type}")

    def create_cpu_pod(self, spec: PodSpec, instance_id: str) -> str:
        """Rent a pod without a GPU, such as cpu3c-2-4, and return its id; tried once, and raises, as `create_pod`."""
        return self._create(spec, {"instance_id": graphql_text.escape(instance_id)}, f"create a CPU pod {instance_id}")

    def _create(self, spec: PodSpec, choice: Mapping[str, Any], purpose: str) -> str:
        arguments = {**_create_arguments(spec), **choice}
        return self._once(purpose, lambda sdk: str(sdk.create_pod(**arguments)["id"]), rents=True)

    def resume_pod(self, pod_id: str, gpu_count: int) -> None:
        """Start a stopped pod. Raises CapacityError when its host has no GPU free."""
        safe_id = graphql_text.escape(pod_id)
        self._call(f"resume pod {pod_id}", lambda sdk: sdk.resume_pod(safe_id, gpu_count), rents=True)

    def stop_pod(self, pod_id: str) -> None:
        """Stop a pod: no more GPU is billed, its container disk is wiped."""
        safe_id = graphql_text.escape(pod_id)
        self._call(f"stop pod {pod_id}", lambda sdk: sdk.stop_pod(safe_id))

    def terminate_pod(self, pod_id: str) -> None:
        """Delete a pod with its container disk and host-local volume disk. One that is gone already is no error."""
        safe_id = graphql_text.escape(pod_id)
        try:
            self._call(f"terminate pod {pod_id}", lambda sdk: sdk.terminate_pod(safe_id))
        except ApiError as error:
            if ALREADY_GONE not in str(error):
                raise

    def _call(self, purpose: str, operation: Callable[[Any], Result], *, rents: bool = False) -> Result:
        """Run an operation that may be repeated, until it answers."""
        for pause_s in (*RETRY_PAUSES_S, None):
            try:
                return self._once(purpose, operation, rents=rents)
            except ApiCallError as error:
                if pause_s is None:
                    raise ApiUnreachableError(
                        f"RunPod gave no usable answer when asked to {purpose}: {error}",
                        means="A pod that runs a training is not touched by this; it stops itself at the end.",
                        next_step="try again in a minute; if it lasts, look at RunPod's status page",
                    ) from error
                self._clock.sleep(_retry_pause_s(pause_s, error.retry_after_s))
        raise AssertionError("the last try returns or raises")

    def _once(self, purpose: str, operation: Callable[[Any], Result], *, rents: bool = False) -> Result:
        """Run an operation, the reading of its answer included: RunPod sends null where it has trouble."""
        sdk, keeper = self._connect()
        try:
            return operation(sdk)
        except Exception as error:
            raise classify_answer(
                AnswerFault(purpose, error, _kind(error), keeper.status, keeper.retry_after_s, rents)
            ) from error

    def _connect(self) -> tuple[Any, _StatusKeeper]:
        if self._connected is None:
            sdk = _import_sdk()
            if self._base_url:
                os.environ["RUNPOD_API_BASE_URL"] = self._base_url
            sdk.api_key = self._api_key.reveal()
            keeper = _StatusKeeper(use_proxies=self._base_url is None)
            sdk.api.graphql.requests = keeper
            self._connected = (sdk, keeper)
        return self._connected


def _ask_credit(sdk: Any) -> Credit:  # noqa: ANN401
    return parse_credit(sdk.api.graphql.run_graphql_query(CREDIT_QUERY))


def _parse_volumes(user: Mapping[str, Any]) -> list[NetworkVolume]:
    return [
        NetworkVolume(v["id"], v.get("name") or "", int(v.get("size") or 0), v["dataCenterId"])
        for v in user.get("networkVolumes") or []
    ]


def _create_arguments(spec: PodSpec) -> dict[str, Any]:
    """Return the SDK's arguments for a pod of any kind, with every text escaped for GraphQL."""
    escape = graphql_text.escape
    optional = {
        "data_center_id": spec.data_center and escape(spec.data_center),
        "network_volume_id": spec.network_volume_id and escape(spec.network_volume_id),
    }
    return {
        "name": escape(spec.name),
        "image_name": escape(spec.image),
        "cloud_type": spec.cloud_type,
        "container_disk_in_gb": spec.container_disk_gb,
        "volume_in_gb": 0 if spec.network_volume_id else spec.volume_disk_gb,
        "volume_mount_path": escape(spec.mount_path),
        "ports": spec.ports,
        "docker_args": escape(spec.start_command),
        "env": _environment(spec.env),
        **{key: value for key, value in optional.items() if value},
    }


def _environment(env: Mapping[str, str | Secret]) -> dict[str, str]:
    revealed = {name: v.reveal() if isinstance(v, Secret) else v for name, v in env.items()}
    return {graphql_text.escape(name): graphql_text.escape(value) for name, value in revealed.items()}


def _retry_pause_s(pause_s: float, retry_after_s: float | None) -> float:
    """Return how long to wait: RunPod's own word if it gave one, else the pause, spread a little."""
    if retry_after_s is not None:
        return min(retry_after_s, LONGEST_PAUSE_S)
    return pause_s * random.uniform(0.75, 1.25)


def _kind(error: Exception) -> str:
    """Return which of the SDK's failures this is, by name, so that judging it needs no import of the SDK."""
    import requests

    if isinstance(error, requests.exceptions.ConnectTimeout):
        return "unreachable"
    if isinstance(error, requests.exceptions.ConnectionError) and "refused" in str(error).lower():
        return "unreachable"
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return "not-json"
    if isinstance(error, requests.exceptions.RequestException):
        return "no-answer"
    if type(error) is ValueError and "No GPU found" in str(error):
        return "unknown-gpu"
    return {"QueryError": "refused", "AuthenticationError": "key"}.get(type(error).__name__, "malformed")
