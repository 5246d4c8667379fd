"""What happens in a seed: settings, moments and strikes, the same for the same seed on every machine.

Each choice is drawn by itself, from the seed and the choice's name. Strikes are dealt to fifty seeds at a time, so that
a short campaign strikes in every way there is: each usual kind once, and then by weight.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.campaign.pipeline import STEPS
from tests.campaign.strike import Strike

BLOCK = 50
USUAL_WEIGHT = 0.5
MOST_LINES = 24
MOST_CALLS = 14
LONGEST_S = 3.5
MARKERS = (
    "Plan",
    "created",
    "waiting for the pod",
    "SSH answers",
    "code cloned",
    "checkpoint",
    "started in tmux",
    "training from step",
    "> trained",
    "EXIT_CODE",
)


@dataclass(frozen=True)
class Moment:
    """When a strike comes.

    Args:
        kind: "line" (of the command's output, all in all), "marker" (a text in it), "step" (of the training),
            "call" (of the API) or "time" (after the command's start).
        number: which line, step or call; for "time" seconds.
        text: the marker.
    """

    kind: str
    number: float = 0.0
    text: str = ""

    def __str__(self) -> str:
        if self.kind == "time":
            return f"{self.number:.2f} s after the start"
        return f"when the command says {self.text!r}" if self.kind == "marker" else f"{self.kind} {self.number:.0f}"


@dataclass(frozen=True)
class PlannedStrike:
    """A strike to come.

    Args:
        kind: which.
        moment: when.
        attempt: in the how manieth command of the seed, from 0.
        draw: from which the strike's own dice are seeded.
    """

    kind: str
    moment: Moment
    attempt: int
    draw: int


@dataclass(frozen=True)
class Plan:
    """A whole seed.

    Args:
        grace_s: the setting grace_minutes, in seconds.
        ready_timeout_s: the setting pod_ready_timeout_s.
        when_done: the setting.
        as_runpod: whether the commands take the local cloud for RunPod, with an API key in .runpod.env.
        until_done: whether the struck command is `inv train --until-done`.
        plain: whether the commands are started as `python -m invoke`, without the command server.
        waits: whether the next command comes only when no pod runs any more.
        boot_s: how long the pod takes to boot.
    """

    seed: int
    grace_s: float
    ready_timeout_s: float
    when_done: str
    as_runpod: bool
    until_done: bool
    plain: bool
    waits: bool
    boot_s: float
    strikes: tuple[PlannedStrike, ...]

    def lines(self) -> list[str]:
        """Return it for people."""
        cloud = "taken for RunPod" if self.as_runpod else "as itself"
        how = ", --until-done" if self.until_done else ""
        then = "once no pod runs" if self.waits else "at once"
        return [
            f"seed {self.seed}: local cloud {cloud}{how}; grace {self.grace_s:g} s, when done {self.when_done}, "
            f"boot {self.boot_s:g} s, rerun {then}",
            *(f"planned: {each.kind} at {each.moment}, command {each.attempt + 1}" for each in self.strikes),
        ]


def make_plan(seed: int, strikes: Sequence[Strike], *, can_until_done: bool = True) -> Plan:
    """Return the plan of a seed."""
    when_done = dice(seed, "when_done").choices(("stop", "terminate", "keep"), (80, 15, 0))[0]
    dealt = deal(tuple(strikes), (seed - 1) // BLOCK)[(seed - 1) % BLOCK]
    return Plan(
        seed=seed,
        grace_s=dice(seed, "grace").choice((5.0, 6.0, 7.0)),
        ready_timeout_s=25.0,
        when_done=when_done,
        as_runpod=dice(seed, "cloud").random() < 0.75,
        until_done=can_until_done and dice(seed, "until done").random() < 0.25,
        plain=dice(seed, "plain").random() < 0.05,
        waits=dice(seed, "waits").random() < 0.4,
        boot_s=dice(seed, "boot").choice((0.0, 0.0, 0.3, 0.8)),
        strikes=tuple(_plan_strike(seed, place, strike) for place, strike in enumerate(dealt)),
    )


def dice(*parts: object) -> random.Random:
    """Return dice that fall the same for the same parts."""
    return random.Random(_hash(*parts))


@functools.lru_cache
def deal(strikes: tuple[Strike, ...], block: int) -> list[list[Strike]]:
    """Return the strikes of each seed of a block of fifty, 1 to 3 of them."""
    seeds = range(1 + block * BLOCK, 1 + (block + 1) * BLOCK)
    counts = [dice(seed, "count").choices((1, 2, 3), (50, 33, 17))[0] for seed in seeds]
    throw = dice(block, "deal")
    in_order = sorted(strikes, key=lambda strike: strike.kind)
    usual = [strike for strike in in_order if strike.weight >= USUAL_WEIGHT]
    more = throw.choices(in_order, [strike.weight for strike in in_order], k=max(0, sum(counts) - len(usual)))
    cards = [*usual, *more]
    throw.shuffle(cards)
    return [[cards.pop() for _ in range(count) if cards] for count in counts]


def _plan_strike(seed: int, place: int, strike: Strike) -> PlannedStrike:
    throw = dice(seed, place, strike.kind)
    return PlannedStrike(
        kind=strike.kind,
        moment=_draw_moment(throw, strike.moments),
        attempt=0 if place == 0 or throw.random() < 0.6 else 1,
        draw=throw.randrange(1 << 32),
    )


def _draw_moment(throw: random.Random, kinds: Sequence[str]) -> Moment:
    kind = throw.choice(kinds)
    if kind == "line" and throw.random() < 0.5:
        return Moment("marker", text=throw.choice(MARKERS))
    most = {"line": MOST_LINES, "step": STEPS, "call": MOST_CALLS}
    if kind in most:
        return Moment(kind, throw.randint(1, most[kind]))
    return Moment("time", round(throw.uniform(0.0, LONGEST_S), 2))


def _hash(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")
