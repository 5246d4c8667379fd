#!/usr/bin/env python3
"""Keep the pod's grace time from running out until standard input closes; then it starts anew.

In: {"who"}. Out: {"ok", "held": false where the guard is of an earlier version and has a run, "guard": its status, with
this hold}; refused when the pod is being stopped.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import answer
import guard_lease
import guard_link
import guard_update
from answer import Refused
from guard_link import GuardGone, GuardLink

BEAT_S = 30.0


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    fields = {"who": str(request.get("who") or "")}
    guard_update.update()
    try:
        link = guard_link.connect_or_start()
        reply = link.request("hold", **fields)
        status = link.request("status")
    except GuardGone as error:
        raise Refused("The pod's guard does not start.", str(error), ok=False) from None
    if reply.get("stopping"):
        raise Refused("The pod is being stopped.", str(reply["stopping"]), ok=False, stopping=reply["stopping"])
    if not reply["ok"]:
        print("the guard is of an earlier version and knows no holds", file=sys.stderr)
    answer.give({"ok": True, "held": bool(reply["ok"]), "guard": status})
    stay(link, fields, held=bool(reply["ok"]))


def stay(link: GuardLink, fields: dict[str, str], *, held: bool) -> None:
    """Wait until standard input closes, holding the pod where its guard can be held."""
    if held:
        guard_lease.hold(link, "hold", fields, BEAT_S)
        return
    link.close()
    while os.read(0, 65536):
        pass


if __name__ == "__main__":
    sys.exit(answer.run(main))
