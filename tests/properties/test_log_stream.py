"""A run's log over links that break anywhere: every byte once and in order, whatever the bytes are."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from podtasks.doors import ssh
from podtasks.flows import follow
from podtasks.flows.connect import build_login
from podtasks.pure.errors import TransportError
from podtasks.pure.run import Run
from tests.properties.log_link import RUN_ID, FollowedRun, Following
from tests.properties.profile import examples
from tests.unit.fakes import World, make_pod

# Progress bars, lines without an end, NUL, bytes of UTF-8 that are cut apart, what looks like a footer or an event.
PIECES = st.one_of(
    st.sampled_from(
        [b"\r 10%", b"20%\r", b"\n", b"\r\n", b"\0", b"\xd0", b"\xba", b"\xff\xfe", b"EXIT_CODE=0\n", b'{"event": 1}']
    ),
    st.binary(max_size=40),
    st.integers(1, 300).map(lambda count: b"x" * count),
)
BLOCKS = st.sampled_from([1, 2, 7, 64, 1 << 16])
MOST_ACTIONS = 25
GIVEN_UP = "the link broke before the log's last bytes came; the volume has them"


class Link:
    """A connection to the pod: what happens there and on the way is drawn each time something is read from it."""

    def __init__(self, run: FollowedRun, data: st.DataObject, actions: list[str], *, breaks: bool) -> None:
        self._run = run
        self._choices = ["append", "grow", "look", "look", "arrive", "arrive", "end", *(["cut", "close"] * breaks)]
        self._data = data
        self._following: Following | None = None
        self.acknowledged = b""
        self.actions = actions

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        if self._following is not None:
            self._following.close()

    def start(self, program: str, arguments: Mapping[str, Any]) -> Link:
        """Start follow_log.py."""
        assert program == "follow_log.py"
        assert (arguments["run_dir"], arguments["log"]) == (self._run.run_dir, str(self._run.log))
        self._following = self._run.follow(arguments["offset"])
        return self

    def send(self, line: bytes) -> None:
        """Take the acknowledgement."""
        self.acknowledged += line

    def read(self, timeout_s: float) -> tuple[bytes, bytes] | None:
        """Let things happen until something arrives, or the link breaks."""
        assert timeout_s > 0
        assert self._following is not None
        while True:
            is_late = len(self.actions) >= MOST_ACTIONS
            assert len(self.actions) < 4 * MOST_ACTIONS, "the view waits for bytes that never come"
            action = "finish" if is_late else self._data.draw(st.sampled_from(self._choices), label="action")
            self.actions.append(action)
            if action == "cut":
                raise TransportError("The SSH link to the pod broke.", next_step="run the same command again")
            if action == "close":
                return None
            self._act(action)
            arrived = self._arrive(action)
            if arrived != (b"", b""):
                return arrived

    def _act(self, action: str) -> None:
        assert self._following is not None
        if action in ("append", "grow"):
            (self._run.append if action == "append" else self._run.growth.append)(self._data.draw(PIECES))
        if action in ("look", "grow"):
            self._following.look()
        if self._run.log_end is None and action in ("end", "finish"):
            self._run.growth.clear()
            self._run.end(self._data.draw(st.sampled_from([0, 143])), is_recorded=self._data.draw(st.booleans()))
            self._run.append(b"====== a later run ======\n")
        if action == "finish":
            self._following.look()

    def _arrive(self, action: str) -> tuple[bytes, bytes]:
        following = self._following
        assert following is not None
        if action == "finish":
            return following.carry(len(following.stdout), len(following.stderr))
        if action != "arrive":
            return b"", b""
        draw = self._data.draw
        return following.carry(draw(st.integers(0, len(following.stdout))), draw(st.integers(0, len(following.stderr))))


class Programs:
    """Stands where PodPrograms is: the link itself starts the program."""

    def __init__(self, link: Link, _: object) -> None:
        self.start = link.start


@examples(120)
@given(st.binary(max_size=10), BLOCKS, st.booleans(), st.booleans(), st.data())
def test_a_view_shows_every_byte_once_over_any_links(
    before: bytes, block_bytes: int, has_guard: bool, breaks: bool, data: st.DataObject
) -> None:
    with FollowedRun(before, block_bytes, has_guard=has_guard) as run, tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        world.api.on("find_pod pod1", make_pod())
        shown: list[bytes] = []
        copy = Path(folder) / "output.log"
        copy.touch()
        view = follow.LogView(
            world.cloud(),
            make_pod(),
            build_login(world.cloud(), make_pod()),
            Run(RUN_ID, run.run_dir, str(run.log), run.start, "stop", "/out"),
            on_begin=lambda: None,
            show=shown.append,
            copy_path=copy,
            report=world.report,
            clock=world.clock,
        )
        actions: list[str] = []
        began = world.clock.now()
        with (
            mock.patch.object(ssh, "PodShell", lambda *_: Link(run, data, actions, breaks=breaks)),
            mock.patch.object(follow, "PodPrograms", Programs),
        ):
            outcome = view.follow()
        log = b"".join(shown)
        assert copy.read_bytes() == log
        if GIVEN_UP in world.report.notes:
            # The run had ended, and then no link held for as long as a pod waits.
            assert run.written.startswith(log) and world.clock.now() - began >= follow.REST_LIMIT_S
        else:
            assert log == run.written
        assert outcome.exit_code is not None
        assert run.written.endswith(b"EXIT_CODE=%d\n" % outcome.exit_code)


class LogOverBrokenLinks(RuleBasedStateMachine):
    """The pod's side alone, to a reader that counts bytes and nothing else."""

    run: FollowedRun
    following: Following

    @initialize(before=PIECES, block_bytes=BLOCKS, has_guard=st.booleans(), is_recorded=st.booleans())
    def launch(self, before: bytes, block_bytes: int, has_guard: bool, is_recorded: bool) -> None:
        self.is_recorded = is_recorded
        self.run = FollowedRun(before, block_bytes, has_guard=has_guard)
        self.received = b""
        self.events = b""
        self.following = self.run.follow(self.run.start)

    @rule(piece=PIECES)
    def append(self, piece: bytes) -> None:
        self.run.append(piece)

    @rule(piece=PIECES)
    def look_while_it_grows(self, piece: bytes) -> None:
        if self.run.log_end is None:
            self.run.growth.append(piece)
        self.following.look()

    @rule()
    def look(self) -> None:
        self.following.look()

    @rule(data=st.data())
    def carry(self, data: st.DataObject) -> None:
        sizes = [data.draw(st.integers(0, len(part))) for part in (self.following.stdout, self.following.stderr)]
        log, events = self.following.carry(sizes[0], sizes[1])
        self.received += log
        self.events += events

    @rule()
    def reconnect(self) -> None:
        self.following.close()
        self.events = b""
        self.following = self.run.follow(self.run.start + len(self.received))

    @precondition(lambda self: self.run.log_end is None)
    @rule(exit_code=st.sampled_from([0, 143]))
    def end(self, exit_code: int) -> None:
        self.run.growth.clear()
        self.run.end(exit_code, is_recorded=self.is_recorded)

    @invariant()
    def what_came_is_the_beginning(self) -> None:
        if hasattr(self, "run"):
            assert self.run.written.startswith(self.received)

    def teardown(self) -> None:
        if not hasattr(self, "run"):
            return
        try:
            self.deliver_the_rest()
        finally:
            self.following.close()
            self.run.__exit__()

    def deliver_the_rest(self) -> None:
        if self.run.log_end is None:
            self.following.look()
            self.end(0)
        self.following.look()
        log, events = self.following.carry(len(self.following.stdout), len(self.following.stderr))
        assert self.received + log == self.run.written
        ends = [line for line in (self.events + events).splitlines() if json.loads(line)["event"] == "ended"]
        assert [json.loads(line)["log_end"] for line in ends] == [self.run.log_end]


LogOverBrokenLinks.TestCase.settings = examples(50, steps=20)
TestLogOverBrokenLinks = LogOverBrokenLinks.TestCase
