"""What a program takes from the guard and holds until its standard input closes, over restarts of the guard."""

from __future__ import annotations

import os
import select
import sys
import time

import guard_link
from guard_link import GuardGone, GuardLink

RECONNECT_S = 10.0


def hold(link: GuardLink, op: str, fields: dict[str, str], beat_s: float | None = None) -> None:
    """Hold what `op` gave over this link until standard input closes; take it again from the next guard.

    Each `beat_s` an empty line goes to standard error: only who sends something learns that the client's machine
    is gone. Linux: tcp(7), tcp_retries2.
    """
    while True:
        ready, _, _ = select.select([0, link.fileno()], [], [], beat_s)
        if 0 in ready and not os.read(0, 65536):
            return
        if link.fileno() in ready:
            try:
                link.take_events()
            except GuardGone:
                link.close()
                successor = take_again(op, fields)
                if successor is None:
                    return
                link = successor
        if not ready:
            os.write(2, b"\n")


def take_again(op: str, fields: dict[str, str]) -> GuardLink | None:
    """Return a link that holds the same at the next guard, None when that guard does not give it."""
    deadline = time.monotonic() + RECONNECT_S
    while True:
        try:
            link = guard_link.connect()
            if link.request(op, **fields)["ok"]:
                return link
            link.close()
            return None
        except GuardGone as error:
            if time.monotonic() > deadline:
                print(f"the lease is lost: {error}", file=sys.stderr)
                return None
            time.sleep(0.05)
