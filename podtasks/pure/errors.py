"""Every way podtasks can fail, each with its exit code.

The codes start at 100 so that they are never taken for a training script's own exit code.
"""

from __future__ import annotations


class PodtasksError(Exception):
    """A failure the user can act on.

    Args:
        what: what happened, in one sentence.
        next_step: what to type or change next.
        means: what it means for the user's money and data, where that is not obvious.
    """

    exit_code = 100

    def __init__(self, what: str, *, next_step: str, means: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.means = means
        self.next_step = next_step

    def __str__(self) -> str:
        return "\n".join(line for line in (self.what, self.means, f"Next: {self.next_step}") if line)


class InstallationError(PodtasksError):
    """podtasks itself is not whole on this machine."""


class UsageError(PodtasksError):
    """A flag is missing or does not make sense."""

    exit_code = 101


class ConfigError(PodtasksError):
    """The training configuration (configs/*.yaml) cannot be used."""

    exit_code = 102


class SettingsError(PodtasksError):
    """invoke.yaml, .runpod.env or the environment has a bad value."""

    exit_code = 103


class CodeError(PodtasksError):
    """The local git repository cannot be trained from as it is."""

    exit_code = 104


class CloneSetAsideError(CodeError):
    """The pod's clone was damaged and moved to `kept_in`; the code must be sent whole."""

    def __init__(self, what: str, *, kept_in: str, next_step: str, means: str = "") -> None:
        super().__init__(what, next_step=next_step, means=means)
        self.kept_in = kept_in


class ApiError(PodtasksError):
    """RunPod's API answered something that cannot be used."""

    exit_code = 110


class AuthenticationError(ApiError):
    """RunPod refused the API key."""

    exit_code = 111


class ApiUnreachableError(ApiError):
    """RunPod's API gave no usable answer, after all retries."""

    exit_code = 112


class CapacityError(ApiError):
    """No GPU of the wanted types is to be had."""

    exit_code = 113


class PlanError(PodtasksError):
    """What is asked for cannot be rented: unknown GPU, price above the cap, volume elsewhere."""

    exit_code = 114


class TransferError(PodtasksError):
    """Some files did not arrive."""

    exit_code = 116


class PodTimeoutError(PodtasksError):
    """The pod did not get as far as it should within its time."""

    exit_code = 120


class PodFailedError(PodtasksError):
    """The pod stopped or vanished while it was needed."""

    exit_code = 121


class TransportError(PodtasksError):
    """The SSH link broke or could not be made.

    Attributes:
        is_final: all patience was spent on making the link; trying again would only do the same.
    """

    exit_code = 122
    is_final = False


class HostKeyError(TransportError):
    """The machine that answered is not the pod that was made."""

    exit_code = 123


class SshRefusedError(TransportError):
    """The pod does not accept the user's SSH key."""


class RemoteCommandError(PodtasksError):
    """A program on the pod failed."""

    exit_code = 124


class RemoteRefusedError(RemoteCommandError):
    """A program on the pod understood what it was asked and would not do it."""


class OvertakenError(RemoteRefusedError):
    """Another run than the one that was to be taken up is the newest on the volume; `run_id` is its id."""

    def __init__(self, what: str, *, run_id: str, next_step: str, means: str = "") -> None:
        super().__init__(what, next_step=next_step, means=means)
        self.run_id = run_id


class RunActiveError(PodtasksError):
    """Another run, or another launch, holds the pod."""

    exit_code = 125


class OutcomeUnknownError(PodtasksError):
    """The pod went away before the run's exit code was seen."""

    exit_code = 126


class CloudError(PodtasksError):
    """The local cloud could not be started or does not answer."""

    exit_code = 115


class SeveralProblemsError(PodtasksError):
    """Several failures found together, numbered; the first one gives the exit code."""

    def __init__(self, problems: list[PodtasksError]) -> None:
        text = "\n".join(f"{number}. {problem}" for number, problem in enumerate(problems, start=1))
        super().__init__(f"{len(problems)} problems:\n{text}", next_step="mend all of them, then try again")
        self.problems = problems
        self.exit_code = problems[0].exit_code


def combine(problems: list[PodtasksError]) -> PodtasksError:
    """Return one error for several found together: the only one itself, or all of them in one list."""
    parts = (error.problems if isinstance(error, SeveralProblemsError) else [error] for error in problems)
    single = [error for part in parts for error in part]
    return single[0] if len(single) == 1 else SeveralProblemsError(single)
