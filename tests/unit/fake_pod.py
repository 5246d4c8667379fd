"""A stand-in for a pod behind SSH: strict programs, links that break where the test says, time that is free."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from podtasks.doors.ssh import Output, SshLogin
from podtasks.pure.errors import HostKeyError, TransportError
from podtasks.pure.pod import SshEndpoint
from podtasks.pure.pod_programs import NOT_INSTALLED, REFUSED
from tests.unit.fakes import POD, FakeClock

BROKEN = TransportError("The SSH link to the pod broke: reset by peer.", next_step="run the same command again")
OTHER_MACHINE = HostKeyError("The machine that answered is not this pod.", next_step="try again in a minute")
ALIVE = (b"", b'{"event": "alive"}\n')


def again(error: BaseException) -> BaseException:
    """Return the same error anew: the flows write into what they catch."""
    anew = type(error).__new__(type(error), *error.args)
    anew.__dict__.update(error.__dict__)
    return anew


class Silence:
    """Nothing arrives for so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


# What a running program gives next: bytes on (stdout, stderr), silence, an error, or None for its end.
Piece = tuple[bytes, bytes] | Silence | BaseException | None


def ended(exit_code: int | None, log_end: int | None, reason: str | None = None) -> tuple[bytes, bytes]:
    """Return the event by which the pod tells of the run's end."""
    event = {"event": "ended", "exit_code": exit_code, "reason": reason, "log_end": log_end}
    return b"", json.dumps(event).encode() + b"\n"


def refusal(error: str, **answer: object) -> Output:
    """Return what a program leaves that would not do what it was asked."""
    return Output(REFUSED, json.dumps({"error": error, **answer}).encode() + b"\n", b"")


class FakeProcess:
    """A program that is still running, and gives exactly the pieces it was declared with."""

    def __init__(self, *pieces: Piece, line: bytes = b"", output: Output | None = None, on_send: object = None) -> None:
        self.sent = b""
        self.closed = False
        self.timeouts: list[float] = []
        self.clock = FakeClock()
        self._pieces: Iterator[Piece] = iter(pieces)
        self._line = line
        self._output = output
        self._on_send = on_send

    def send(self, data: bytes) -> None:
        """Keep what was sent."""
        assert not self.closed, "written to a link that is closed"
        if isinstance(self._on_send, BaseException):
            raise again(self._on_send)
        self.sent += data

    def read(self, timeout_s: float) -> tuple[bytes, bytes] | None:
        """Give the next piece."""
        assert not self.closed, "read from a link that is closed"
        self.timeouts.append(timeout_s)
        piece = next(self._pieces, BaseException)
        assert piece is not BaseException, "read beyond what was declared"
        if isinstance(piece, Silence):
            self.clock.sleep(min(piece.seconds, timeout_s))
            if piece.seconds > timeout_s:
                raise TransportError(f"nothing came from the pod for {timeout_s:.0f} s", next_step="wait")
            return self.read(timeout_s)
        if isinstance(piece, BaseException):
            raise again(piece)
        assert piece is None or isinstance(piece, tuple)
        return piece

    def read_line(self) -> bytes:
        """Give the one line that was declared."""
        assert not self.closed, "read from a link that is closed"
        return self._line

    def wait(self) -> Output:
        """Give what the program left."""
        assert self._output is not None, "waited for a program that stays"
        return self._output

    def close(self) -> None:
        """Hang up."""
        self.closed = True


def leased(**answer: object) -> FakeProcess:
    """Return a preparation that has taken the pod for this launch."""
    whole = {"ok": True, "token": "t0ken", "holder": None, "clone_commits": [], "installed": [], **answer}
    return FakeProcess(line=json.dumps(whole).encode() + b"\n")


def refused_lease(holder: Mapping[str, object] | None, **answer: object) -> FakeProcess:
    """Return a preparation that could not take the pod, because of this holder or of what else it answers."""
    whole = {"error": "Another run or launch holds the pod.", "ok": False, "holder": holder, **answer}
    return FakeProcess(line=json.dumps(whole).encode() + b"\n")


def launched(**answer: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return what launch.py answers when the run that it is asked for has started."""
    return lambda question: {
        "run_id": question["run_id"],
        "run_dir": f"/workspace/runs/{question['run_id']}",
        "log": "/workspace/logs/current.log",
        "log_start": 170,
        "session": "train",
        "archived": None,
        "linked": [],
        "notes": [],
        **answer,
    }


class FakePod:
    """A pod that runs only the programs declared, in the order declared, and records what they were asked."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.installed = True
        self.uploads = 0
        self.commands = 0
        self.greeting = {POD.ssh}
        self.connects: list[object] = []
        self.reached: list[SshEndpoint] = []
        self.logins: list[SshLogin] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.more: dict[str, bytes] = {}
        self.shells: list[FakeShell] = []
        self.processes: list[FakeProcess] = []
        self._answers: dict[str, list[object]] = {}
        self._always: dict[str, Callable[[dict[str, Any]], object]] = {}

    def on(self, program: str, *answers: object) -> FakePod:
        """Declare what a program does each time: answers, leaves, raises or, for one that stays, gives."""
        self._answers.setdefault(program, []).extend(answers)
        return self

    def always(self, program: str, answer: Callable[[dict[str, Any]], object]) -> FakePod:
        """Declare what a program does however often it is run."""
        self._always[program] = answer
        return self

    def programs(self) -> list[str]:
        """Return the programs that ran, in order."""
        return [program for program, _ in self.asked]

    def questions(self, program: str) -> list[dict[str, Any]]:
        """Return what a program was asked, each time."""
        return [question for name, question in self.asked if name == program]

    def open_shells(self) -> int:
        """Return how many connections are open."""
        return sum(shell.is_open for shell in self.shells)

    def leftovers(self) -> list[str]:
        """Return the programs with answers that nobody came for."""
        return [program for program, answers in self._answers.items() if answers]

    def answer(self, program: str, question: dict[str, Any]) -> object:
        """Return what was declared next for this program."""
        self.asked.append((program, question))
        if program in self._always:
            return self._always[program](question)
        answers = self._answers.get(program)
        assert answers, f"undeclared: {program} {question}; so far: {self.programs()}"
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise again(answer)
        return answer(question) if callable(answer) else answer

    def greet(self, endpoint: SshEndpoint, timeout_s: float) -> str | None:
        """Stand where podtasks.doors.ssh.read_banner is."""
        assert timeout_s > 0
        return "SSH-2.0-OpenSSH" if endpoint in self.greeting else None

    def make_shell(self, endpoint: SshEndpoint, login: SshLogin, *, connect_timeout_s: float = 20) -> FakeShell:
        """Stand where podtasks.doors.ssh.PodShell is."""
        assert connect_timeout_s > 0
        self.reached.append(endpoint)
        self.logins.append(login)
        self.shells.append(FakeShell(self))
        return self.shells[-1]


class FakeShell:
    """One connection to the pod."""

    def __init__(self, pod: FakePod) -> None:
        self._pod = pod
        self._processes: list[FakeProcess] = []
        self.is_open = False

    def __enter__(self) -> FakeShell:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> None:
        """Open, or fail as declared."""
        outcome = self._pod.connects.pop(0) if self._pod.connects else None
        if isinstance(outcome, BaseException):
            raise again(outcome)  # the flows write into what they catch
        self.is_open = True

    def close(self) -> None:
        """Close, with every program that runs over it."""
        self.is_open = False
        for process in self._processes:
            process.close()

    def run(self, command: str, chunks: Iterable[bytes] = ()) -> Output:
        """Run one of the commands that podtasks builds."""
        assert self.is_open, "a command on a connection that is closed"
        words = shlex.split(command)
        self._pod.commands += 1
        if words[:2] == ["test", "-d"] and ";" in words:
            if not self._pod.installed:
                return Output(NOT_INSTALLED, b"", b"")
            words = words[words.index(";") + 1 :]
        if words[:2] == ["test", "-d"]:
            return Output(0 if self._pod.installed else 1, b"", b"")
        if "tar" in words and "xz" in words:
            assert b"".join(chunks), "nothing was uploaded"
            self._pod.installed = True
            self._pod.uploads += 1
            return Output(0, b"", b"")
        program = _program(words)
        question, _, more = b"".join(chunks).partition(b"\n")
        self._pod.more[program] = more
        answer = self._pod.answer(program, json.loads(question))
        return answer if isinstance(answer, Output) else Output(0, json.dumps(answer).encode() + b"\n", b"")

    def start(self, command: str) -> _Starting:
        """Start one of the programs that stay; it hears its question first."""
        assert self.is_open, "a command on a connection that is closed"
        return _Starting(self._pod, self._processes, _program(shlex.split(command)))


class _Starting:
    """A program that has not been asked yet; from the question on it is the process declared for it."""

    def __init__(self, pod: FakePod, processes: list[FakeProcess], program: str) -> None:
        self._pod = pod
        self._processes = processes
        self._program = program
        self._process: FakeProcess | None = None

    def send(self, data: bytes) -> None:
        if self._process is not None:
            self._process.send(data)
            return
        process = self._pod.answer(self._program, json.loads(data))
        assert isinstance(process, FakeProcess), f"{self._program} stays"
        process.clock = self._pod.clock
        self._process = process
        self._processes.append(process)
        self._pod.processes.append(process)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever the process has
        assert self._process is not None, f"{name} before the question"
        return getattr(self._process, name)


def _program(words: list[str]) -> str:
    assert words[0] == "env" and words[3] == "python3", f"not one of podtasks' commands: {words}"
    return words[4].rpartition("/")[2]
