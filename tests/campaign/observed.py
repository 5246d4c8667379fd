"""What was seen of one seed, as values: what the invariants are checked against."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Moment:
    """Something seen at a time, in epoch seconds."""

    at: float
    what: str


@dataclass
class Lived:
    """A training process: when it was first and last seen, in epoch seconds."""

    pid: int
    pod: str
    start: float
    end: float


@dataclass(frozen=True)
class Billed:
    """A time in which a pod was billed, in epoch seconds; `end` is that of the seed where it still was."""

    pod: str
    start: float
    end: float


@dataclass(frozen=True)
class CommandSeen:
    """An `inv` command.

    Args:
        words: what stood after `inv`.
        began, ended: epoch seconds; `ended` is None for one that did not end in its time.
        code: its exit code, negative for the signal that killed it, None for one that did not end.
        is_excused: whether a strike may have ended it or made it blind.
    """

    words: tuple[str, ...]
    began: float
    ended: float | None
    code: int | None
    stdout: bytes
    stderr: str
    is_excused: bool


@dataclass(frozen=True)
class Printed:
    """A line that a training process printed, by its journal.

    Args:
        mark: which process.
        number: the line's number in it.
        is_taken: whether the log had taken it whole; else the process may have been killed on the way.
    """

    mark: str
    number: int
    is_taken: bool


@dataclass(frozen=True)
class Observed:
    """One seed.

    Args:
        grace_s, boot_s: as it was set.
        excused_s: for how long a pod may bill beyond that because of what struck.
        lag_s: the longest time in which nothing could be seen: how loaded this machine was.
        final_code: the exit code of the last undisturbed `inv train`.
        weights, expected_weights: the final model's file, and what it must be.
        doubles: moments with two trainings on one output directory.
        identity_problems: moments at which .runpod.env was not whole.
        losses: what of the user's is gone or changed.
        leaks: where a secret was found.
    """

    began: float
    ended: float
    grace_s: float
    boot_s: float = 0.0
    excused_s: float = 0.0
    lag_s: float = 0.0
    bills: tuple[Billed, ...] = ()
    trainings: tuple[Lived, ...] = ()
    doubles: tuple[Moment, ...] = ()
    commands: tuple[CommandSeen, ...] = ()
    final_code: int | None = 0
    weights: bytes | None = None
    expected_weights: bytes = field(default=b"", repr=False)
    printed: tuple[Printed, ...] = ()
    log: bytes = b""
    identity_problems: tuple[Moment, ...] = ()
    losses: tuple[str, ...] = ()
    leaks: tuple[Moment, ...] = ()
