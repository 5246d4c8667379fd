"""`inv reap` as the user meets it: shown, asked, stopped."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace
from typing import Any

import pytest
from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.flows import reap as reap_flow
from podtasks.pure.errors import ApiUnreachableError, UsageError
from podtasks.pure.reap import Sight, Verdict, Wish, judge
from podtasks.tasks.reap import reap
from tests.unit.fakes import FakeReporter, make_pod

IDLE = judge(Sight(make_pod(), 3600.0, {"lease": None}))
GRACE = judge(Sight(make_pod("pod2"), 60.0, {"lease": None, "grace_left_s": 840.0}))


class Terminal(FakeReporter):
    """A terminal with or without somebody at it, who answers so."""

    answer: bool | None = None

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []
        self.questions: list[str] = []

    def tell(self, text: str) -> None:
        """Remember what was said."""
        self.told.append(text)

    def can_ask(self) -> bool:
        """Return whether there is an answer."""
        return self.answer is not None

    def confirm(self, question: str, *, default: bool) -> bool:
        """Give the answer."""
        assert default is False, "Enter stops nothing"
        self.questions.append(question)
        return bool(self.answer)


class FakeReaper:
    """Shows these pods, and notes what it is to stop."""

    verdicts: tuple[Verdict, ...] = (IDLE, GRACE)
    error: Exception | None = None
    asked_for: tuple[object, ...] = ()

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401
        type(self).asked_for = arguments[1:3]
        self.now = arguments[-1]

    def look(self) -> list[Verdict]:
        """Return the pods."""
        return list(self.verdicts)

    def stop(self, verdicts: list[Verdict], wish: Wish) -> list[str]:
        """Stop them."""
        assert all(wish.covers(verdict) for verdict in verdicts)
        if self.error is not None:
            raise self.error
        STOPPED.extend(verdict.pod.id for verdict in verdicts)
        return [verdict.pod.id for verdict in verdicts]


STOPPED: list[str] = []


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """The terminal of a project with two billed pods, of which one is idle."""
    STOPPED.clear()
    terminal = Terminal()
    project = SimpleNamespace(
        settings=SimpleNamespace(project="demo"),
        console=terminal,
        clock=None,
        open_existing_cloud=lambda: SimpleNamespace(name="RunPod"),
    )
    # podtasks.tasks.reap is the task by that name, not its module.
    monkeypatch.setattr(importlib.import_module("podtasks.tasks.reap"), "open_project", lambda *_: project)
    monkeypatch.setattr(reap_flow, "Reaper", FakeReaper)
    monkeypatch.setattr(FakeReaper, "verdicts", (IDLE, GRACE))
    monkeypatch.setattr(FakeReaper, "error", None)
    return terminal


def test_idle_pods_are_shown_and_stopped_after_a_yes(terminal: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.answer = True
    reap(Context())
    assert STOPPED == ["pod1"]
    assert terminal.questions == ["Stop pod1?"]
    assert terminal.told == ["billed: 2 pods at $1.38/h; to stop: 1 pod at $0.69/h"]
    assert "pod2" in capsys.readouterr().out
    assert FakeReaper.asked_for == ("demo", False)


def test_no_stops_nothing(terminal: Terminal) -> None:
    terminal.answer = False
    with pytest.raises(Exit, match="Nothing was stopped"):
        reap(Context())
    assert STOPPED == []


def test_nobody_there_stops_nothing_without_yes(terminal: Terminal) -> None:
    with pytest.raises(Exit) as caught:
        reap(Context())
    assert caught.value.code == UsageError.exit_code and "with --yes" in str(caught.value.message)
    assert STOPPED == []
    reap(Context(), yes=True, now=True, all=True)
    assert STOPPED == ["pod1", "pod2"]
    assert terminal.questions == [] and FakeReaper.asked_for == ("demo", True)


def test_nothing_idle_asks_nothing(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeReaper, "verdicts", (GRACE,))
    reap(Context())
    assert terminal.told == ["billed: 1 pod at $0.69/h; nothing to stop"]
    assert terminal.notes == ["pods within their grace time and kept ones end by themselves; --now stops them at once"]


def test_no_billed_pod_is_said(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeReaper, "verdicts", ())
    reap(Context())
    assert terminal.told == ["no pod is billed"]


@pytest.mark.parametrize("yes", [False, True])
def test_document_only_shows_without_yes(terminal: Terminal, capsys: pytest.CaptureFixture[str], yes: bool) -> None:
    terminal.answer = True
    reap(Context(), json=True, yes=yes)
    told = json.loads(capsys.readouterr().out)
    assert told["stopped"] == STOPPED == (["pod1"] if yes else [])
    assert [pod["is_to_stop"] for pod in told["pods"]] == [True, False]
    assert terminal.questions == []


def test_pod_that_would_not_stop_ends_the_command_with_its_error_and_no_document(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(FakeReaper, "error", ApiUnreachableError("silent", next_step="wait"))
    with pytest.raises(Exit) as caught:
        reap(Context(), yes=True, json=True)
    assert caught.value.code == ApiUnreachableError.exit_code
    assert capsys.readouterr().out == "" and terminal.questions == []
