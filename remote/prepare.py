#!/usr/bin/env python3
"""Get the pod ready for a launch, and hold the prepare lease until standard input closes.

In: {"clone", "who"}. Out: {"ok", "token", "holder", "clone_commits": the commits the clone's refs point at,
"installed": programs that had to be installed, "guard": its status}; refused when another holds the pod.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import answer
import guard_lease
import guard_link
import guard_update
import run_record
from answer import Refused
from guard_link import GuardGone, GuardLink
from pod_environ import read_pod_environ, volume_directory

PROGRAMS = ("git", "rsync", "tmux")


def main(request: dict[str, Any]) -> None:
    """Run the program."""
    who = str(request.get("who") or "")
    guard_update.update()
    link, token = take_lease(who)
    status = link.request("status")
    installed = install_missing()
    lost = run_record.finish_lost(volume_directory())
    if lost is not None:
        print(f"run {lost} had no end on record: its pod was lost", file=sys.stderr)
    answer.give(
        {
            "ok": True,
            "token": token,
            "holder": None,
            "clone_commits": clone_commits(str(request["clone"])),
            "installed": installed,
            "guard": status,
        }
    )
    guard_lease.hold(link, "prepare", {"who": who, "token": token})


def take_lease(who: str) -> tuple[GuardLink, str]:
    """Return the link that holds the prepare lease, and the lease's token. Raise Refused if it is taken."""
    try:
        link = guard_link.connect_or_start()
        reply = link.request("prepare", who=who)
    except GuardGone as error:
        raise Refused("The pod's guard does not start.", str(error), ok=False, holder=None) from None
    if reply["ok"]:
        return link, reply["token"]
    if reply.get("stopping"):
        raise Refused(
            "The pod is being stopped.", str(reply["stopping"]), ok=False, holder=None, stopping=reply["stopping"]
        )
    raise Refused("Another run or launch holds the pod.", describe(reply["holder"]), ok=False, holder=reply["holder"])


def describe(holder: dict[str, Any]) -> str:
    """Return who holds the pod, since when."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder["since"]))
    what = f"run {holder['run_id']}" if holder["kind"] == "run" else "a launch"
    return f"{what} of {holder['who'] or 'somebody'}, since {since}"


def install_missing(programs: Sequence[str] = PROGRAMS) -> list[str]:
    """Install the programs that are missing and return their names. Raise Refused when that fails."""
    missing = [program for program in programs if shutil.which(program) is None]
    if not missing:
        return []
    print(f"installing {' '.join(missing)}", file=sys.stderr, flush=True)
    run_apt(["update", "-qq"])
    run_apt(["install", "-y", "-qq", "--no-install-recommends", *missing])
    still = [program for program in missing if shutil.which(program) is None]
    if still:
        raise Refused("The image lacks programs and they could not be installed.", " ".join(still))
    return missing


def run_apt(words: list[str]) -> None:
    """Run apt-get with its output on standard error."""
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(["apt-get", *words], stdin=subprocess.DEVNULL, stdout=2, env=environ, check=False)
    except OSError as error:
        print(f"apt-get: {error}", file=sys.stderr, flush=True)


def clone_commits(clone: str) -> list[str]:
    """Return the commits that the refs of the clone point at; none when there is no clone."""
    if not os.path.isdir(os.path.join(clone, ".git")):
        return []
    words = ["git", "-c", "safe.directory=*", "-C", clone, "rev-list", "--no-walk", "--all"]
    environ = {**read_pod_environ(), **os.environ}
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environ, check=False)
    return sorted(set(done.stdout.decode(errors="replace").split()))


if __name__ == "__main__":
    sys.exit(answer.run(main))
