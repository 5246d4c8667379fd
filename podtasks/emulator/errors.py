"""What the cloud answers when it refuses, in RunPod's own words where they are known.

Source: the texts under "Error messages seen" in RunPod's own test code (runpod/containers
tests/runpod_smoke/pod.py), runpod-python#168, runpodctl#156, #172, #267 and dstack's api_client.py.
Texts marked "own words" have no known original.
"""

from __future__ import annotations

GENERIC_TEXT = "Something went wrong. Please try again later or contact support."


class CloudError(Exception):
    """A refusal; its text is the whole answer RunPod would give.

    Args:
        text: the message of the GraphQL error.
    """

    code = "INTERNAL_SERVER_ERROR"

    def __init__(self, text: str = GENERIC_TEXT) -> None:
        super().__init__(text)
        self.text = text


class CapacityError(CloudError):
    """No machine has what was asked for."""

    def __init__(self) -> None:
        super().__init__(
            "There are no longer any instances available with the requested specifications. "
            "Please refresh and try again."
        )


class SpotCapacityError(CloudError):
    """No spot machine has what was asked for, or the bid is too low."""

    def __init__(self) -> None:
        super().__init__("There are no instances available with the request specifications. Please try again later.")


class ResumeError(CloudError):
    """The host the stopped pod is tied to has no free GPU."""

    def __init__(self) -> None:
        super().__init__("There are not enough free GPUs on the host machine to start this pod.")


class MachineError(CloudError):
    """The machine that a CPU pod is tied to has no room."""

    def __init__(self) -> None:
        super().__init__("This machine does not have the resources to deploy your pod. Please try a different machine")


class SpotResumeError(CloudError):
    """A spot pod was resumed with podResume instead of podBidResume."""

    def __init__(self) -> None:
        super().__init__("Cannot resume a spot pod as an on demand pod.")


class PodNotFoundError(CloudError):
    """The pod does not exist, or not for this key.

    Args:
        verb: what was wanted of it; "terminate" gives RunPod's known text, the others follow its pattern.
    """

    def __init__(self, verb: str) -> None:
        super().__init__(f"pod not found to {verb}")


class StopRefusedError(CloudError):
    """Stopping is off for pods with a network volume (RunPod's rule until 2026-05-07)."""

    def __init__(self) -> None:
        super().__init__("Pods with network volumes attached cannot be stopped, only terminated.")


class ForbiddenError(CloudError):
    """A pod-scoped key asked for more than its own pod (own words)."""

    code = "FORBIDDEN"

    def __init__(self) -> None:
        super().__init__("Unauthorized: this key may only read, stop and terminate its own pod.")


class InputError(CloudError):
    """A value has the right type and no meaning (own words)."""

    code = "BAD_USER_INPUT"
