"""Work on many items at once, in threads of this process."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
# What is on its way when the user gives up gets this long; the threads die with the process.
FAREWELL_S = 1.0


def run_many(
    work: Callable[[Item], None],
    items: Iterable[Item],
    threads: int,
    *,
    on_interrupt: Callable[[], None] = lambda: None,
) -> None:
    """Call `work` with each item, in `threads` threads, in their order; return when all are done.

    The first exception, Ctrl+C too, keeps what has not begun from beginning, and is raised. `on_interrupt` is called
    after Ctrl+C, before what is on its way is waited for.
    """
    waiting = iter(items)
    turn = threading.Lock()
    stop = threading.Event()
    failures: list[BaseException] = []
    ended: queue.SimpleQueue[None] = queue.SimpleQueue()

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
        finally:
            ended.put(None)

    crew = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for thread in crew:
        thread.start()
    # Not join(): interrupted, it takes a thread for ended that goes on (CPython 3.11).
    left = threads
    try:
        while left:
            ended.get()
            left -= 1
    except BaseException:
        stop.set()
        on_interrupt()
        _wait(ended, left)
        raise
    if failures:
        raise failures[0]


def _wait(ended: queue.SimpleQueue[None], threads: int) -> None:
    """Wait until so many threads have ended, or the time for that is over."""
    deadline = time.monotonic() + FAREWELL_S
    with contextlib.suppress(queue.Empty):
        for _ in range(threads):
            ended.get(timeout=max(0.0, deadline - time.monotonic()))
