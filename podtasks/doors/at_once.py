"""Independent questions asked at the same time, none of which can hold up the others for long."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Late(Generic[Result]):
    """Stands for the result of a question that nobody answered in time."""


def ask_at_once(
    questions: Mapping[str, Callable[[], Result]], timeout_s: float
) -> Iterator[tuple[str, Result | BaseException | Late[Result]]]:
    """Ask all questions and yield name with result, or with what was raised, in the questions' order.

    One without an answer after `timeout_s` yields Late; its thread dies with the process.
    """
    answers: queue.SimpleQueue[tuple[str, Result | BaseException]] = queue.SimpleQueue()

    def ask(name: str, question: Callable[[], Result]) -> None:
        try:
            answers.put((name, question()))
        except BaseException as error:
            answers.put((name, error))

    for name, question in questions.items():
        threading.Thread(target=ask, args=(name, question), daemon=True).start()
    deadline = time.monotonic() + timeout_s
    told: dict[str, Result | BaseException] = {}
    for name in questions:
        while name not in told:
            try:
                answered, result = answers.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                break
            told[answered] = result
        yield name, told.get(name, Late())
