"""What a failed API call means: which of our errors it is, and whether it may have acted all the same."""

from __future__ import annotations

from dataclasses import dataclass

from podtasks.pure.errors import ApiError, AuthenticationError, CapacityError

# RunPod facts, section 2, "Error messages seen".
CAPACITY_TEXTS = (
    "no longer any instances available",
    "does not have the resources to deploy",
    "no instances available",
    "not enough free gpus",
)
# Means no capacity where a pod is rented; elsewhere it is trouble that passes.
TROUBLE_TEXT = "something went wrong. please try again later"


class ApiCallError(Exception):
    """A call that got no usable answer; it may be tried again.

    Attributes:
        may_have_acted: RunPod may have done what was asked.
        retry_after_s: how long RunPod asked to wait, in seconds, if it did.
    """

    def __init__(self, text: str, *, may_have_acted: bool, retry_after_s: float | None = None) -> None:
        super().__init__(text)
        self.may_have_acted = may_have_acted
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class AnswerFault:
    """A failed call: what it was for, what the SDK raised and its kind, and what HTTP said.

    `kind` is one of unreachable, no-answer, not-json, refused, key, unknown-gpu, malformed.
    `rents` says that the call was to create or to resume a pod.
    """

    purpose: str
    error: Exception
    kind: str
    status: int | None
    retry_after_s: float | None
    rents: bool


def classify_answer(fault: AnswerFault) -> ApiError | ApiCallError:
    """Given a failed call, return the error to raise: ApiCallError where another try makes sense."""
    if fault.kind == "unreachable":
        return ApiCallError("no connection could be made", may_have_acted=False)
    if fault.status == 401 or fault.kind == "key":
        return _refused_key(fault.purpose)
    if fault.status == 429:
        return ApiCallError(
            "too many calls (HTTP 429)", may_have_acted=False, retry_after_s=fault.retry_after_s
        )
    if fault.status in (403, 410):
        return _switched_off(fault) if fault.status == 410 else _forbidden(fault)
    if fault.kind == "unknown-gpu":
        return _unknown_gpu(fault)
    if fault.kind == "refused":
        return _refused(fault)
    return ApiCallError(_describe(fault), may_have_acted=True)


def _refused_key(purpose: str) -> ApiError:
    return AuthenticationError(
        f"RunPod refused the API key when asked to {purpose}.",
        means="This call changed nothing. A pod that runs goes on, and stops itself when nothing trains on it.",
        next_step="put a valid key into RUNPOD_API_KEY in .runpod.env (RunPod console, Settings, API Keys)",
    )


def _switched_off(fault: AnswerFault) -> ApiError:
    return ApiError(
        f"RunPod has switched off the API that was asked to {fault.purpose} (HTTP 410).",
        means="A pod that runs a training still stops itself at its end.",
        next_step="update podtasks, and stop pods in RunPod's console until then",
    )


def _forbidden(fault: AnswerFault) -> ApiError:
    return ApiError(
        f"RunPod does not allow this API key to {fault.purpose} (HTTP 403).",
        next_step="make a key with read and write permission and put it into .runpod.env",
    )


def _unknown_gpu(fault: AnswerFault) -> ApiError:
    return ApiError(
        f"RunPod cannot {fault.purpose}: it has no such GPU type.",
        means="No pod was created.",
        next_step="correct gpu_types in invoke.yaml, GPU_TYPE in .runpod.env or --gpu, whichever names it",
    )


def _refused(fault: AnswerFault) -> ApiError | ApiCallError:
    text = str(fault.error)
    trouble = TROUBLE_TEXT in text.lower()
    if any(known in text.lower() for known in CAPACITY_TEXTS) or (trouble and fault.rents):
        return CapacityError(
            f"RunPod cannot {fault.purpose}: {text}",
            next_step="try again later, or add GPU types: --gpu 'NVIDIA A100 80GB PCIe'",
        )
    if trouble:
        return ApiCallError(f"RunPod says: {text}", may_have_acted=True)
    if fault.status is not None and fault.status >= 500:
        return ApiCallError(_describe(fault), may_have_acted=True)
    return ApiError(
        f"RunPod refused to {fault.purpose}: {text}",
        next_step="check the settings with: inv settings",
    )


def _describe(fault: AnswerFault) -> str:
    kinds = {"not-json": "the answer is not JSON", "no-answer": "the connection broke or timed out"}
    text = kinds.get(fault.kind, "the answer makes no sense")
    return f"{text} (HTTP {fault.status})" if fault.status else text
