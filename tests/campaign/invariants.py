"""What must hold after any seed: five functions from what was seen to what is wrong with it."""

from __future__ import annotations

import itertools
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tests.campaign.observed import Billed, CommandSeen, Observed

# From the end of the grace time, or of a training, to the end of the bill: followers, the stop call, a slow machine.
SLACK_S = 6.0
# A launch begins the grace time anew when it takes the pod, and once more when it tries again.
LAUNCHES = 3
# A pod that is deleted because another was made at the same moment is billed until then.
TWIN_S = 2.0
OURS = range(100, 128)  # exit codes of podtasks' own errors
INTERRUPTED = (130, 141)
HEADER = b"\n====== "
# A run whose log ended in the middle of a line, the volume being full, has one more before the next header.
FRESH_LINE = b"\n"
# Where the pod was gone before the link came back, and without S3 keys nobody can read the volume.
GAP_IS_TOLD = "was not shown; inv logs shows it"
LINE = re.compile(rb"<([0-9a-f]+-[0-9a-f]{6}) (\d+)> [^\n\r<]*\n")


@dataclass(frozen=True)
class Violation:
    """Something that must never be.

    Args:
        invariant: its number, 1 to 5.
        text: what was seen.
        at: when, in epoch seconds, where that is known.
    """

    invariant: int
    text: str
    at: float | None = None


class Span(NamedTuple):
    """A time from one moment to another."""

    start: float
    end: float


def check(observed: Observed) -> list[Violation]:
    """Return all violations."""
    checks: tuple[Callable[[Observed], list[Violation]], ...] = (
        check_bills,
        check_result,
        check_log,
        check_files,
        check_messages,
    )
    return [violation for each in checks for violation in each(observed)]


def check_bills(observed: Observed) -> list[Violation]:
    """1: no pod bills beyond the grace time without a live training; one pod, and one training, at a time."""
    slack_s = SLACK_S + 3 * observed.lag_s + observed.excused_s
    alone_s = observed.grace_s + observed.boot_s + slack_s
    found = []
    for bill in observed.bills:
        idle = without(
            [Span(bill.start, bill.end)], [Span(t.start, t.end) for t in observed.trainings if t.pod == bill.pod]
        )
        found += _too_long(bill, idle, LAUNCHES * observed.grace_s + observed.boot_s + slack_s, "")
        working = [Span(c.began, observed.ended if c.ended is None else c.ended) for c in observed.commands]
        found += _too_long(bill, without(idle, working), alone_s, " and without a command")
    found += _two_pods(observed)
    return found + [Violation(1, moment.what, moment.at) for moment in observed.doubles]


def _too_long(bill: Billed, spans: Iterable[Span], most_s: float, more: str) -> list[Violation]:
    return [
        Violation(1, f"pod {bill.pod} was billed for {end - start:.1f} s without a training{more}", start)
        for start, end in spans
        if end - start > most_s
    ]


def _two_pods(observed: Observed) -> list[Violation]:
    found = []
    for one, other in itertools.combinations(observed.bills, 2):
        both_s = min(one.end, other.end) - max(one.start, other.start)
        if one.pod != other.pod and both_s > TWIN_S + observed.lag_s:
            text = f"pods {one.pod} and {other.pod} ran at once for {both_s:.1f} s"
            found.append(Violation(1, text, max(one.start, other.start)))
    return found


def without(spans: Sequence[Span], holes: Iterable[Span]) -> list[Span]:
    """Return what is left of some times once others are taken out of them."""
    left = list(spans)
    for hole in holes:
        pieces = [(Span(s.start, min(s.end, hole.start)), Span(max(s.start, hole.end), s.end)) for s in left]
        left = [piece for pair in pieces for piece in pair if piece.end > piece.start]
    return left


def check_result(observed: Observed) -> list[Violation]:
    """2: rerunning ends with exit 0, and with the very weights of an undisturbed run."""
    found = []
    if observed.final_code != 0:
        found.append(Violation(2, f"rerun until the end, inv train ended with {observed.final_code}"))
    elif observed.weights != observed.expected_weights:
        what = "there are no final weights" if observed.weights is None else "the final weights are other ones"
        found.append(Violation(2, what))
    return found


def check_log(observed: Observed) -> list[Violation]:
    """3: each printed line is in the log once and in order; what a command showed is a piece of the log."""
    return [*_lost_lines(observed), *_bad_streams(observed)]


def _lost_lines(observed: Observed) -> list[Violation]:
    logged = [(match[1].decode(), int(match[2])) for match in LINE.finditer(observed.log)]
    times = Counter(logged)
    known = {(line.mark, line.number): line.is_taken for line in observed.printed}
    found = [f"line {name(line)} is {count} times in the log" for line, count in times.items() if count > 1]
    found += [f"line {name(line)} is in the log and was never printed" for line in times if line not in known]
    missing = (line for line, is_taken in known.items() if is_taken and line not in times)
    found += [f"line {name(line)} was printed and is not in the log" for line in missing]
    in_order = [line for line in known if line in times]
    if not found and logged != in_order:
        found.append("the log's lines are not in the order in which they were printed")
    return [Violation(3, text) for text in found]


def name(line: tuple[str, int]) -> str:
    """Return a line's name for people."""
    return f"{line[1]} of training {line[0]}"


def _bad_streams(observed: Observed) -> list[Violation]:
    runs = [HEADER + part for part in observed.log.split(HEADER)[1:]]
    return [
        Violation(3, f"inv {' '.join(command.words)} showed {text}", command.began)
        for command in observed.commands
        if (text := _bad_stream(command, runs))
    ]


def _bad_stream(command: CommandSeen, runs: Sequence[bytes]) -> str:
    """Return what is wrong with what a command showed: nothing, pieces of runs from their beginning, is right."""
    before, *pieces = command.stdout.split(HEADER)
    if before not in (b"", FRESH_LINE):
        return f"something else than a run's log: {before[:80]!r}"
    shown = [HEADER + piece for piece in pieces]
    for piece in shown:
        if not any(run.startswith(piece) for run in runs):
            return f"what is not in the log: {_difference(piece, runs)}"
    saw_the_end = command.code is not None and command.code not in (*OURS, *INTERRUPTED) and command.code >= 0
    if saw_the_end and not command.is_excused and GAP_IS_TOLD not in command.stderr:
        if not shown:
            return "nothing of the log"
        if not {shown[-1], shown[-1] + FRESH_LINE * (not shown[-1].endswith(FRESH_LINE))}.intersection(runs):
            return f"only {len(shown[-1])} bytes of the run's log: up to {shown[-1][-60:]!r}"
    return ""


def _difference(piece: bytes, runs: Sequence[bytes]) -> str:
    """Return the first place at which a piece differs from the run that it is most like."""
    same = max((_common(piece, run) for run in runs), default=0)
    return f"after {same} bytes {piece[same : same + 60]!r}"


def _common(one: bytes, other: bytes) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other)) if a != b), min(len(one), len(other)))  # noqa: B905


def check_files(observed: Observed) -> list[Violation]:
    """4: .runpod.env is whole at any moment, the user's files are as they were, and no secret is where it must not."""
    return [
        *(Violation(4, moment.what, moment.at) for moment in observed.identity_problems),
        *(Violation(4, text) for text in observed.losses),
        *(Violation(4, moment.what, moment.at) for moment in observed.leaks),
    ]


def check_messages(observed: Observed) -> list[Violation]:
    """5: each failed command said what happened and what to do, in one message, with no traceback."""
    return [
        Violation(5, f"inv {' '.join(command.words)} {text}", command.ended or command.began)
        for command in observed.commands
        if (text := _bad_message(command))
    ]


def _bad_message(command: CommandSeen) -> str:
    if command.code is None:
        return "did not end"
    if _was_still_starting(command):
        return ""
    if "Traceback (most recent call last)" in command.stderr:
        return f"ended with {command.code} and a traceback: {command.stderr[-400:]!r}"
    errors = re.findall(r"^error: ", command.stderr, re.MULTILINE)
    if command.code <= 0:
        return ""
    if errors or command.code in OURS:
        if len(errors) != 1:
            return f"ended with {command.code} and {len(errors)} messages: {command.stderr[-400:]!r}"
        if not re.search(r"^Next: \S", command.stderr.rpartition("\nerror: ")[2], re.MULTILINE):
            return f"ended with {command.code} and does not say what to do: {command.stderr[-400:]!r}"
        return ""
    return _bad_goodbye(command)


def _was_still_starting(command: CommandSeen) -> bool:
    """Return whether Ctrl+C came while nothing of podtasks was at work yet, but Python's and Invoke's own imports."""
    # 1 where it came before Python had read its site module, which then calls it a fatal error.
    was_interrupted = command.code in (-signal.SIGINT, 1) and command.stderr.rstrip().endswith("KeyboardInterrupt")
    return was_interrupted and "podtasks" not in command.stderr.replace("podtasks/.venv/", "")


def _bad_goodbye(command: CommandSeen) -> str:
    """Return what is wrong with the words of a command that was interrupted or had a training fail."""
    if command.code in INTERRUPTED:
        said = "interrupted" in command.stderr or "goes on" in command.stderr
        return "" if said else f"was interrupted and does not say how things stand: {command.stderr[-400:]!r}"
    if "note: " not in command.stderr.rpartition("exit code")[2]:
        return f"ended with {command.code} and does not say what to do: {command.stderr[-400:]!r}"
    return ""
