"""Each invariant holds for what is right and tells what is not; all of it made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.campaign.invariants import (
    Span,
    check,
    check_bills,
    check_files,
    check_log,
    check_messages,
    check_result,
    without,
)
from tests.campaign.observed import Billed, CommandSeen, Lived, Moment, Observed, Printed

RUN = (
    b"\n====== 2026-11-23 12:00:00 ======\nRUN: a\n"
    b"\rprogress 1<a1-0123ab 1> step 1\n<a1-0123ab 2> trained\nEXIT_CODE=0\n"
)
CUT = b"\n====== 2026-11-23 11:00:00 ======\nRUN: 0\n<a0-0123ab 1> step 1\n"
WORDS = ("train", "--config", "configs/run.yaml")
FAILED = "error: The pod went away.\nIt is not billed.\nNext: run the same command again\n"


def command(code: int | None = 0, stdout: bytes = RUN, stderr: str = "", *, is_excused: bool = False) -> CommandSeen:
    return CommandSeen(WORDS, 100.0, None if code is None else 120.0, code, stdout, stderr, is_excused)


def seen(**changes: object) -> Observed:
    """Return an undisturbed seed, but for some changes."""
    right = Observed(
        began=100.0,
        ended=130.0,
        grace_s=6.0,
        bills=(Billed("p", 101.0, 120.0),),
        trainings=(Lived(7, "p", 104.0, 118.0),),
        commands=(command(),),
        weights=b"w",
        expected_weights=b"w",
        printed=(Printed("a0-0123ab", 1, True), Printed("a1-0123ab", 1, True), Printed("a1-0123ab", 2, True)),
        log=CUT + RUN,
    )
    return replace(right, **changes)  # type: ignore[arg-type]


def test_what_is_right_violates_nothing() -> None:
    assert check(seen()) == []


# 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trainings": (), "ended": 160.0, "bills": (Billed("p", 101.0, 160.0),)}, "without a training"),
        ({"bills": (Billed("p", 101.0, 146.0),), "ended": 146.0}, "without a training and without a command"),
        ({"trainings": (Lived(7, "other", 101.0, 160.0),), "bills": (Billed("p", 101.0, 160.0),)}, "without"),
        ({"bills": (Billed("p", 101.0, 120.0), Billed("q", 104.0, 112.0))}, "pods p and q ran at once for 8.0 s"),
        ({"doubles": (Moment(110.0, "trainings [1, 2] on one output directory"),)}, "trainings [1, 2]"),
    ],
)
def test_bill_without_a_training_and_two_at_once_are_seen(changes: dict[str, object], told: str) -> None:
    found = check_bills(seen(**changes))
    assert found and all(violation.invariant == 1 for violation in found)
    assert told in found[-1].text


@pytest.mark.parametrize(
    "changes",
    [
        {"bills": (Billed("p", 101.0, 126.0),), "commands": ()},
        {"bills": (Billed("p", 101.0, 146.0),), "ended": 146.0, "excused_s": 20.0},
        {"bills": (Billed("p", 101.0, 146.0),), "ended": 146.0, "lag_s": 6.0},
        {"bills": (Billed("p", 101.0, 120.0), Billed("q", 119.0, 121.0))},
        {"bills": (Billed("p", 101.0, 120.0), Billed("p", 121.0, 125.0))},
    ],
)
def test_grace_time_slow_machine_and_excuse_are_allowed_for(changes: dict[str, object]) -> None:
    assert check_bills(seen(**changes)) == []


def test_holes_are_taken_out_of_times() -> None:
    whole = [Span(0, 10)]
    assert without(whole, [Span(2, 3), Span(9, 20)]) == [Span(0, 2), Span(3, 9)]
    assert without(whole, [Span(-1, 11)]) == []
    assert without(whole, [Span(12, 13)]) == whole


# 2


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"final_code": 126}, "ended with 126"),
        ({"weights": None}, "no final weights"),
        ({"weights": b"v"}, "other ones"),
    ],
)
def test_rerun_that_does_not_succeed_and_other_weights_are_seen(changes: dict[str, object], told: str) -> None:
    [violation] = check_result(seen(**changes))
    assert violation.invariant == 2 and told in violation.text


# 3


def without_line(log: bytes, line: bytes) -> bytes:
    assert line in log
    return log.replace(line, b"")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"log": without_line(CUT, b"<a0-0123ab 1> step 1\n") + RUN}, "was printed and is not in the log"),
        ({"log": CUT + b"<a0-0123ab 1> step 1\n" + RUN}, "2 times"),
        ({"printed": seen().printed[:2]}, "never printed"),
        ({"log": RUN + CUT}, "order"),
        ({"commands": (command(stdout=RUN[:-20]),)}, "only"),
        ({"commands": (command(stdout=b""),)}, "nothing of the log"),
        ({"commands": (command(stdout=RUN[20:]),)}, "something else"),
        ({"commands": (command(stdout=RUN + RUN[-30:]),)}, "not in the log"),
        ({"commands": (command(stdout=RUN.replace(b"\r", b"")),)}, "not in the log: after 42 bytes"),
        ({"commands": (command(126, stdout=RUN.replace(b"step", b"stop"), stderr=FAILED),)}, "not in the log"),
    ],
)
def test_lost_repeated_and_altered_lines_are_seen(changes: dict[str, object], told: str) -> None:
    [violation] = check_log(seen(**changes))
    assert violation.invariant == 3 and told in violation.text


@pytest.mark.parametrize(
    "changes",
    [
        {
            "log": CUT.replace(b"<a0-0123ab 1> step 1\n", b"<a0-01") + RUN,
            "printed": (Printed("a0-0123ab", 1, False), *seen().printed[1:]),
        },
        {"commands": (command(stdout=RUN[:-20], is_excused=True),)},
        {"commands": (command(stdout=RUN[:-20], stderr="note: the end was not shown; inv logs shows it\n"),)},
        {"commands": (command(-9, stdout=RUN[:30]),)},
        {"commands": (command(126, stdout=CUT, stderr=FAILED), command())},
        {"commands": (command(stdout=CUT[:-4] + RUN),)},
        {"commands": (command(1, stdout=CUT[:-1]), command(stdout=b"\n" + RUN)), "log": CUT[:-1] + b"\n" + RUN},
    ],
)
def test_killed_trainings_and_dead_commands_are_allowed_for(changes: dict[str, object]) -> None:
    assert check_log(seen(**changes)) == []


# 4


@pytest.mark.parametrize("name", ["identity_problems", "leaks"])
def test_moments_of_broken_files_and_leaks_are_seen(name: str) -> None:
    [violation] = check_files(seen(**{name: (Moment(110.0, "a secret thing"),)}))
    assert (violation.invariant, violation.text, violation.at) == (4, "a secret thing", 110.0)


def test_losses_are_seen() -> None:
    [violation] = check_files(seen(losses=("notes.txt is gone",)))
    assert (violation.invariant, violation.text) == (4, "notes.txt is gone")


# 5

TRACEBACK = "Traceback (most recent call last):\n  File x\nKeyError: 'id'\n"
INTERRUPTED_AT_START = TRACEBACK.replace("KeyError: 'id'", "KeyboardInterrupt")


@pytest.mark.parametrize(
    ("code", "stderr", "told"),
    [
        (None, "", "did not end"),
        (1, TRACEBACK, "traceback"),
        (0, TRACEBACK, "traceback"),
        (-15, TRACEBACK, "traceback"),
        (121, "", "0 messages"),
        (121, FAILED + FAILED, "2 messages"),
        (121, "Next: read this\nerror: The pod went away.\n", "does not say what to do"),
        (130, "", "was interrupted"),
        (-2, INTERRUPTED_AT_START.replace("File x", "File podtasks/flows/x"), "traceback"),
        (-2, TRACEBACK, "traceback"),
        (137, "[ 1.0 s]  run a: exit code 137\nerror: The training is given up.\n", "does not say what to do"),
        (137, "[ 1.0 s]  run a: killed, exit code 137\n", "does not say what to do"),
    ],
)
def test_failures_without_their_one_message_are_seen(code: int | None, stderr: str, told: str) -> None:
    [violation] = check_messages(seen(commands=(command(code, stderr=stderr),)))
    assert violation.invariant == 5 and told in violation.text


@pytest.mark.parametrize(
    ("code", "stderr"),
    [
        (121, "note: trying\n" + FAILED),
        (121, "error: 2 problems:\n1. One.\nNext: a\n2. Two.\nNext: b\nNext: mend all of them\n"),
        (130, "\nview closed; training goes on and the pod stops itself\n"),
        (137, "run a: killed, exit code 137\n    note: the same command goes on\n"),
        (137, "run a: killed, exit code 137\nerror: The training is given up.\nNext: inv logs shows why\n"),
        (130, "\nno longer watching; a training that runs goes on\n"),
        (-9, "half a li"),
        (-2, INTERRUPTED_AT_START),
        (1, INTERRUPTED_AT_START),
    ],
)
def test_failures_with_their_message_are_right(code: int, stderr: str) -> None:
    assert check_messages(seen(commands=(command(code, stderr=stderr),))) == []
