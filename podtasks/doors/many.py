"""Work on many items at once, in threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
# What is on its way when the user gives up gets this long; the threads die with the process.
FAREWELL_S = 5.0


def run_many(work: Callable[[Item], None], items: Iterable[Item], threads: int) -> None:
    """Call `work` with each item, in `threads` threads, in the items' order; return when all are done.

    The first exception, Ctrl+C too, keeps what has not begun from beginning, and is raised.
    """
    waiting = iter(items)
    turn = threading.Lock()
    stop = threading.Event()
    failures: list[BaseException] = []

    def take() -> None:
        while not stop.is_set():
            with turn:
                found = next(((item,) for item in waiting), None)
            if found is None:
                return
            work(*found)

    def run() -> None:
        try:
            take()
        except BaseException as error:  # it is raised again below, in the thread that waits
            failures.append(error)
            stop.set()

    crew = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for thread in crew:
        thread.start()
    try:
        for thread in crew:
            thread.join()
    except BaseException:
        stop.set()
        for thread in crew:
            thread.join(FAREWELL_S / threads)
        raise
    if failures:
        raise failures[0]
