"""Plays seeds: `python -m tests.campaign.runner --seeds N [--seed K] [--jobs J] [--report FILE]`."""

from __future__ import annotations

import argparse
import contextlib
import queue
import random
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.campaign import pipeline, report
from tests.campaign.command_server import Command
from tests.campaign.invariants import LAUNCHES, SLACK_S, Violation, check
from tests.campaign.moments import Clockwork
from tests.campaign.observed import Billed, CommandSeen, Moment, Observed, Printed
from tests.campaign.report import Result, Struck
from tests.campaign.schedule import Plan, PlannedStrike, make_plan
from tests.campaign.strike import Effect, Missed, Strike
from tests.campaign.strikes import ALL
from tests.campaign.world import World
from tests.end_to_end.project import ROOT

TICK_S = 0.01
BILLED_PERIOD_S = 0.15
TRY_AGAIN_S = 0.1
LOOK_PERIOD_S = 0.5
# Bounds failure only.
COMMAND_TIMEOUT_S = 120.0
CALM_TIMEOUT_S = 60.0
RERUNS = 8
# After so many seeds a world is made anew, so that nothing grows without end.
SEEDS_PER_WORLD = 40


class Abandoned(Exception):
    """The campaign is over before this seed was."""


class Play:
    """One seed in one world.

    Args:
        world: where.
        plan: what happens.
        strikes: all kinds, by name.
        over: set once nobody wants to know any more.
    """

    def __init__(self, world: World, plan: Plan, strikes: dict[str, Strike], over: threading.Event) -> None:
        self._over = over
        self.world = world
        self.plan = plan
        self.strikes = strikes
        self.struck: list[Struck] = []
        self.excused: set[Command] = set()
        self.excused_s = 0.0
        self._undoings: list[tuple[float, Effect]] = []
        self._pending = list(plan.strikes)
        self._looked_at = self._useful_at = time.monotonic()
        self._missed: dict[PlannedStrike, tuple[float, str]] = {}

    def run(self) -> Result:
        """Play the seed and return what came of it. Raises Abandoned."""
        started = time.monotonic()
        self.world.begin(self.plan)
        for line in self.plan.lines():
            self.world.note(line)
        observed = self._play()
        violations = check(observed)
        self._note_observed(observed, violations)
        result = Result(
            self.plan,
            time.monotonic() - started,
            tuple(self.struck),
            len(self.world.commands),
            tuple(violations),
            report.write_timeline(self.world.began, self.world.timeline),
        )
        self.world.finish()
        return result

    def _play(self) -> Observed:
        for attempt in range(1 + max(strike.attempt for strike in self.plan.strikes)):
            self._run_struck(attempt)
        for planned in self._pending:
            self._tell(planned, False, self._missed.get(planned, (0.0, "its moment never came"))[1])
        self._calm()
        self._wait_for_commands()
        # A command that hangs is a violation; nothing further is learned from waiting.
        final_code = None if self._has_command() else self._rerun()
        self._wait_until_stopped()
        return observe(self, final_code)

    def _patience_s(self, launches: int = 1) -> float:
        """Return after how many seconds without a training a pod that is still billed is a violation."""
        slack_s = SLACK_S + 3 * self.world.observer.lag_s + 2.0
        return launches * self.plan.grace_s + self.plan.boot_s + self.excused_s + slack_s

    def _bills_for_nothing(self) -> bool:
        """Return whether that is certain even while a command runs: then there is no use in more waiting."""
        now = time.monotonic()
        if now >= self._looked_at + LOOK_PERIOD_S:
            self._looked_at = now
            if self.world.observer.is_training() or not self.world.is_billed():
                self._useful_at = now
        return now - self._useful_at > self._patience_s(LAUNCHES)

    # Commands that are struck

    def _run_struck(self, attempt: int) -> None:
        # A training that is done leaves nothing to strike: it is begun anew.
        is_done = attempt > 0 and self.world.command.poll() == 0
        command = self.world.start(*self.world.struck_words, *(["--force-restart"] if is_done else []))
        clockwork = Clockwork(self.world, command)
        busy_until = time.monotonic()
        deadline = busy_until + COMMAND_TIMEOUT_S
        while time.monotonic() < min(deadline, busy_until + self._patience_s()) and not self._bills_for_nothing():
            self._strike_due(attempt, clockwork)
            self._undo_due()
            if self._is_busy():
                busy_until = time.monotonic()
            elif not self.plan.waits or not self.world.is_billed():
                break
            else:
                time.sleep(BILLED_PERIOD_S)
            self._pause()
        self._note_ends()

    def _is_busy(self) -> bool:
        """Return whether a command runs; or, where the next one waits for the pod's end, a training."""
        return self._has_command() or (self.plan.waits and self.world.observer.is_training())

    def _has_command(self) -> bool:
        return any(command.poll() is None for command in self.world.commands)

    def _strike_due(self, attempt: int, clockwork: Clockwork) -> None:
        for planned in list(self._pending):
            tried_at, _ = self._missed.get(planned, (0.0, ""))
            is_due = planned.attempt <= attempt and time.monotonic() - tried_at >= TRY_AGAIN_S
            if is_due and (tried_at or clockwork.has_come(planned.moment)):
                self._hit(planned)

    def _hit(self, planned: PlannedStrike) -> None:
        """Strike; where there is nothing to strike yet, the next chance is taken."""
        running = [command for command in self.world.commands if command.poll() is None]
        try:
            effect = self.strikes[planned.kind].hit(self.world, random.Random(planned.draw))
        except (Missed, OSError) as missed:
            # What was aimed at may go away at that very moment.
            self._missed[planned] = (time.monotonic(), str(missed))
            return
        self._pending.remove(planned)
        self._tell(planned, True, effect.what)
        self.excused_s += effect.excused_s
        if effect.ends_command:
            self.excused.update(running)
        if effect.undo is not None:
            self._undoings.append((time.monotonic() + effect.undo_after_s, effect))

    def _tell(self, planned: PlannedStrike, has_hit: bool, what: str) -> None:
        self.struck.append(Struck(planned.kind, has_hit, what))
        self.world.note(f"{'STRUCK' if has_hit else 'missed'} {planned.kind}: {what}")

    def _undo_due(self, *, all_of_them: bool = False) -> None:
        now = time.monotonic()
        due = [each for each in self._undoings if all_of_them or each[0] <= now]
        for each in due:
            self._undoings.remove(each)
            assert each[1].undo is not None
            with contextlib.suppress(Missed, OSError):
                each[1].undo()
            self.world.note(f"undone: {each[1].what}")

    def _calm(self) -> None:
        self._undo_due(all_of_them=True)
        self.world.end_troubles()
        self.world.note("calm")

    # The rerun that must succeed

    def _rerun(self) -> int | None:
        code = self.world.command.poll()
        if code == 0 and not self.plan.until_done:
            return code
        for _ in range(RERUNS):
            command = self.world.start()
            self._wait_for_commands()
            code = command.poll()
            if code in (0, None):
                break
        return code

    def _wait_for_commands(self) -> None:
        deadline = time.monotonic() + CALM_TIMEOUT_S
        while self._has_command() and time.monotonic() < deadline and not self._bills_for_nothing():
            self._pause()
        self._note_ends()

    def _pause(self) -> None:
        if self._over.wait(TICK_S):
            raise Abandoned

    def _wait_until_stopped(self) -> None:
        patience_s = 0.1 if self._bills_for_nothing() else self._patience_s()
        if not self.world.wait_for(self.world.is_idle, patience_s):
            self.world.note("a pod still runs")

    # The timeline

    def _note_ends(self) -> None:
        told = {text for _, text in self.world.timeline}
        for command in self.world.commands:
            text = f"command {command.pid} ended with {command.poll()}"
            if command.ended is not None and text not in told:
                self.world.timeline.append((command.ended, text))

    def _note_observed(self, observed: Observed, violations: Sequence[Violation]) -> None:
        timeline = self.world.timeline
        for training in observed.trainings:
            timeline.append((training.start, f"training {training.pid} begins on {training.pod}"))
            timeline.append((training.end, f"training {training.pid} last seen"))
        for bill in observed.bills:
            timeline.append((bill.start, f"pod {bill.pod} is billed"))
            timeline.append((bill.end, f"pod {bill.pod} is billed no more"))
        for violation in violations:
            timeline.append((violation.at or observed.ended, f"VIOLATION {violation.invariant}: {violation.text}"))
        if violations:
            for command in observed.commands:
                timeline.append((command.ended or observed.ended, f"stderr of {command.words}:\n{command.stderr}"))


def observe(play: Play, final_code: int | None) -> Observed:
    """Return all that was seen of a seed, at its end."""
    world, plan = play.world, play.plan
    observer = world.observer
    ended = time.time()
    leaks = [Moment(ended, where) for where in world.users.find_leaks(world.secrets)]
    leaks += [Moment(c.began, f"{n} was printed") for c in world.commands for n in _printed_secrets(world, c)]
    return Observed(
        began=world.began,
        ended=ended,
        grace_s=plan.grace_s,
        boot_s=plan.boot_s,
        excused_s=play.excused_s,
        lag_s=observer.lag_s,
        bills=read_bills(world, ended),
        trainings=observer.lived(),
        doubles=tuple(observer.doubles),
        commands=tuple(see(command, command in play.excused) for command in world.commands),
        final_code=final_code,
        weights=_read(world.output / "final_model/model.safetensors"),
        expected_weights=expected_weights(),
        printed=read_journal(world.journal_path),
        log=_read(world.log_path) or b"",
        identity_problems=tuple(observer.identity_problems),
        losses=world.users.find_losses(),
        leaks=(*observer.leaks, *leaks),
    )


def see(command: Command, is_excused: bool) -> CommandSeen:
    """Return a command as it was seen."""
    text = command.stderr().decode(errors="replace")
    return CommandSeen(command.words, command.began, command.ended, command.poll(), command.stdout(), text, is_excused)


def read_bills(world: World, ended: float) -> tuple[Billed, ...]:
    """Return what the cloud's meter says of this seed's pods."""
    return tuple(
        Billed(pod["id"], interval["start"], ended if interval["end"] is None else interval["end"])
        for pod in world.project.ask("meter")["pods"]
        for interval in pod["intervals"]
        if interval["start"] >= world.began
    )


def read_journal(path: Path) -> tuple[Printed, ...]:
    """Return what the pipeline's processes printed, by their journal."""
    data = path.read_bytes()
    regions = (data[at : at + pipeline.REGION_BYTES] for at in range(0, len(data), pipeline.REGION_BYTES))
    return tuple(line for region in regions for line in _read_region(region))


def _read_region(region: bytes) -> list[Printed]:
    lines: dict[tuple[str, int], Printed] = {}
    for record in region.rstrip(b"\0").decode().splitlines():
        mark, word, number = record.split()
        if word != "begun":
            lines[mark, int(number)] = Printed(mark, int(number), word == pipeline.TAKEN)
    return list(lines.values())


def expected_weights() -> bytes:
    """Return the final weights of an undisturbed run, from their definition."""
    weights = pipeline.first_weights()
    for step in range(1, pipeline.STEPS + 1):
        weights = pipeline.next_weights(weights, step)
    return pipeline.encode(weights)


def _printed_secrets(world: World, command: Command) -> list[str]:
    said = command.stdout() + command.stderr()
    return [name for name, value in world.secrets.items() if value in said]


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


class Campaign:
    """Many seeds in several worlds at once.

    Args:
        seeds: which.
        jobs: how many worlds.
        strikes: what may strike.
        code: the checkout whose podtasks/ and remote/ are put to the test.
        told: hears of each result.
        is_over: whether a result ends it.
    """

    def __init__(
        self,
        seeds: Iterable[int],
        *,
        jobs: int = 1,
        strikes: Sequence[Strike] = ALL,
        code: Path = ROOT,
        told: Callable[[Result], None] = lambda _: None,
        is_over: Callable[[Result], bool] = lambda _: False,
    ) -> None:
        self._seeds: queue.SimpleQueue[int] = queue.SimpleQueue()
        for seed in seeds:
            self._seeds.put(seed)
        self._jobs = min(jobs, self._seeds.qsize())
        self._strikes = tuple(strikes)
        self._code = code
        self._told = told
        self._is_over = is_over
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._results: list[Result] = []
        self._failures: list[BaseException] = []

    def run(self) -> list[Result]:
        """Play all seeds and return their results in the order of the seeds."""
        threads = [threading.Thread(target=self._work) for _ in range(self._jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            self._over.set()
            for thread in threads:
                thread.join()
            raise
        if self._failures:
            raise self._failures[0]
        return sorted(self._results, key=lambda result: result.plan.seed)

    def _work(self) -> None:
        try:
            while not self._over.is_set() and not self._seeds.empty():
                with tempfile.TemporaryDirectory(prefix="campaign-", ignore_cleanup_errors=True) as folder:
                    self._play_in(Path(folder))
        except BaseException as failure:
            self._failures.append(failure)
            self._over.set()

    def _play_in(self, folder: Path) -> None:
        by_kind = {strike.kind: strike for strike in self._strikes}
        with World(folder, self._code) as world:
            for _ in range(SEEDS_PER_WORLD):
                if self._over.is_set():
                    return
                try:
                    seed = self._seeds.get_nowait()
                except queue.Empty:
                    return
                plan = make_plan(seed, self._strikes)
                with contextlib.suppress(Abandoned):
                    self._take(Play(world, plan, by_kind, self._over).run())

    def _take(self, result: Result) -> None:
        with self._lock:
            self._results.append(result)
            self._told(result)
        if self._is_over(result):
            self._over.set()


def main(words: Sequence[str] | None = None) -> int:
    """Run a campaign and report; return 1 where something that must hold did not."""
    options = _parse(words)
    hear_signals()
    is_one = options.seeds is None
    seeds = range(options.seed, options.seed + (options.seeds or 1))
    began = time.monotonic()
    results = Campaign(seeds, jobs=options.jobs, told=_tell_all if is_one else tell_briefly).run()
    seconds = time.monotonic() - began
    print(report.as_text(results, seconds))
    if options.report:
        Path(options.report).write_text(report.as_json(results, seconds) + "\n")
    return 1 if any(result.violations for result in results) else 0


def hear_signals() -> None:
    """Let SIGINT, also where it was ignored, and SIGTERM end a campaign in order: its pods and disks go with it."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="campaign", description="Break everything, from a seed.")
    parser.add_argument("--seeds", type=int, help="how many seeds; without it one is played and told whole")
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--jobs", type=int, default=4, help="how many worlds at once")
    parser.add_argument("--report", help="a file for the report as JSON")
    return parser.parse_args(words)


def tell_briefly(result: Result) -> None:
    """Print how a seed went, in a line and one more for each violation."""
    struck = ", ".join(each.kind for each in result.struck if each.has_hit) or "nothing"
    outcome = f"{len(result.violations)} VIOLATIONS" if result.violations else "ok"
    print(f"seed {result.plan.seed}: {outcome}, {result.seconds:.1f} s, struck: {struck}", flush=True)
    for violation in result.violations:
        print(f"    invariant {violation.invariant}: {violation.text}", flush=True)


def _tell_all(result: Result) -> None:
    for line in result.timeline:
        print(line)


if __name__ == "__main__":
    sys.exit(main())
