"""When a run counts as lost: two signals, each with its time and number of readings, and every veto."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podtasks.pure.signs import GONE_READINGS, GONE_S, QUIET_READINGS, QUIET_S, Life, Signs

BEAT = b'{"at": 1.0, "beat": 1}'
Hear = Callable[[Signs, float], Signs]


def gone(signs: Signs, now: float) -> Signs:
    return signs.hear_api(now, runs=False)


def runs(signs: Signs, now: float) -> Signs:
    return signs.hear_api(now, runs=True)


def quiet(signs: Signs, now: float) -> Signs:
    return signs.hear_heartbeat(now, BEAT)


def beats(signs: Signs, now: float) -> Signs:
    return signs.hear_heartbeat(now, b'{"beat": %d}' % int(now * 1000))


def missing(signs: Signs, now: float) -> Signs:
    return signs.hear_heartbeat(now, None)


def silent(signs: Signs, now: float) -> Signs:
    return signs.hear_pod(now, answered=False)


def answers(signs: Signs, now: float) -> Signs:
    return signs.hear_pod(now, answered=True)


def denies(signs: Signs, now: float) -> Signs:
    return signs.hear_denial(now)


def other(signs: Signs, now: float) -> Signs:
    del now
    return signs.hear_nothing_of_it()


def hear(*heard: tuple[float, Hear]) -> Signs:
    signs = Signs()
    for now, sign in heard:
        signs = sign(signs, now)
    return signs


GONE = ((0.0, gone), (5.0, gone))
QUIET = ((0.0, quiet), (6.0, quiet), (12.0, quiet))
LOST = (*GONE, *QUIET)


def judge(*heard: tuple[float, Hear], readable: bool = True) -> Life:
    return hear(*heard).judge(heartbeat_readable=readable)


def test_gone_by_the_api_and_silent_is_lost() -> None:
    assert judge(*LOST) is Life.LOST


def test_a_run_whose_heartbeat_is_not_there_at_all_is_silent() -> None:
    assert judge(*GONE, (0.0, missing), (6.0, missing), (12.0, missing)) is Life.LOST


@pytest.mark.parametrize(
    "heard",
    [
        (),
        GONE,
        QUIET,
        (GONE[0], *QUIET),
        ((0.0, gone), (1.0, gone), *QUIET),
        (*GONE, *QUIET[:2]),
        (*GONE, (0.0, quiet), (5.0, quiet), (11.9, quiet)),
        (*GONE, (0.0, quiet), (12.0, quiet)),
        (GONE[0], (2.0, runs), GONE[1], *QUIET),
        (*LOST, (13.0, runs)),
    ],
)
def test_less_than_both_signals_is_not_lost(heard: tuple[tuple[float, Hear], ...]) -> None:
    assert judge(*heard) is Life.UNCLEAR


@pytest.mark.parametrize("sign", [beats, answers])
@pytest.mark.parametrize("place", range(1, len(LOST) + 1))
def test_any_sign_of_life_undoes_all_that_was_heard_before(sign: Hear, place: int) -> None:
    signs = hear(*LOST[:place], (50.0, quiet), (60.0, sign))
    assert signs.judge(heartbeat_readable=True) is Life.ALIVE
    assert replay(signs, *[(now + 100.0, s) for now, s in (GONE[0], *QUIET)]) is Life.ALIVE


def replay(signs: Signs, *heard: tuple[float, Hear]) -> Life:
    for now, sign in heard:
        signs = sign(signs, now)
    return signs.judge(heartbeat_readable=True)


def test_first_reading_of_a_heartbeat_is_no_sign_of_life() -> None:
    assert judge((0.0, beats)) is Life.UNCLEAR
    assert judge((0.0, beats), (1.0, beats)) is Life.ALIVE


def test_heartbeat_that_comes_back_after_a_silence_is_life() -> None:
    assert judge((0.0, missing), (9.0, missing), (20.0, quiet)) is Life.ALIVE


def test_unreachable_pod_counts_only_where_the_heartbeat_cannot_be_read() -> None:
    attempts = ((0.0, silent), (6.0, silent), (12.0, silent))
    assert judge(*GONE, *attempts) is Life.UNCLEAR
    assert judge(*GONE, *attempts, readable=False) is Life.LOST
    assert judge(*GONE, *attempts[:2], readable=False) is Life.UNCLEAR


def test_pod_that_says_it_does_not_run_the_run_stands_for_the_api() -> None:
    assert judge((0.0, runs), (0.0, denies), (5.0, denies), *QUIET) is Life.LOST
    assert judge((0.0, denies), (5.0, denies), (6.0, runs), *QUIET) is Life.LOST, "the API knows less than the pod"
    assert judge((0.0, denies), (2.0, denies), *QUIET) is Life.UNCLEAR
    assert judge((0.0, denies), (2.0, silent), (5.0, denies), *QUIET) is Life.UNCLEAR
    assert judge((0.0, denies), (2.0, other), (5.0, denies), *QUIET) is Life.UNCLEAR
    assert judge((0.0, denies), (5.0, denies), (6.0, silent), *QUIET) is Life.UNCLEAR


SIGNS = st.sampled_from([gone, runs, quiet, beats, missing, silent, answers, denies, other])
STORIES = st.lists(st.tuples(st.floats(0.0, 20.0), SIGNS), max_size=30)


@given(STORIES, st.booleans())
def test_lost_always_has_both_signals_in_full_after_the_last_sign_of_life(
    story: list[tuple[float, Hear]], readable: bool
) -> None:
    now, heard = 0.0, []
    for pause, sign in story:
        now += pause
        heard.append((now, sign))
    if judge(*heard, readable=readable) is not Life.LOST:
        return
    def after(*ends: Hear) -> list[tuple[float, Hear]]:
        last = max((n for n, (_, sign) in enumerate(heard) if sign in ends), default=-1)
        return heard[last + 1 :]

    def lasts(readings: list[float], count: int, seconds: float) -> bool:
        return len(readings) >= count and readings[-1] - readings[0] >= seconds

    words = (
        [at for at, sign in after(answers, runs) if sign is gone],
        [at for at, sign in after(answers, silent, other) if sign is denies],
    )
    assert any(lasts(word, GONE_READINGS, GONE_S) for word in words)
    silence = (
        [at for at, sign in after(answers) if sign in (quiet, missing, beats)]
        if readable
        else [at for at, sign in after(answers, denies, other) if sign is silent]
    )
    assert lasts(silence, QUIET_READINGS, QUIET_S)
