#!/usr/bin/env python3
"""Stop or terminate this pod, by every way there is, until it is gone.

    python3 stop_pod.py stop|terminate

Ways, in this order (RunPod facts, sections 2, 3 and 5): runpodctl in its new and its old syntax, REST v2,
GraphQL. A way that says it worked gets some seconds to take effect; then the next one is tried all the
same, round after round, because a pod that still runs this program still bills. The pod-scoped key goes to
runpodctl in its environment and to the API in a header: never into an argument, never into the log.
"""

from __future__ import annotations

import functools
import json
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from pod_environ import read_pod_environ, read_setting

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0


class Way(NamedTuple):
    """One way to stop the pod: its name for the log, and a call that raises when it fails."""

    name: str
    call: Callable[[], str]


def stop(when_done: str, say: Callable[[str], None] = print) -> None:
    """Stop (`when_done` "stop") or terminate ("terminate") this pod; return only for "keep".

    `say` gets one line for each try.
    """
    if when_done == "keep":
        return
    pause_s = FIRST_PAUSE_S
    while True:
        try_every_way(when_done, read_pod_environ(), say)
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def try_every_way(when_done: str, environ: dict[str, str], say: Callable[[str], None]) -> None:
    """Try each way once, with a pause after each that says it worked."""
    settle_s = float(read_setting("PODTASKS_SETTLE_S", "10"))
    if not environ.get("RUNPOD_POD_ID"):
        say(f"cannot {when_done} the pod: RUNPOD_POD_ID is not in the environment of process 1")
        return
    for way in ways(when_done, environ):
        try:
            answer = way.call()
        except Exception as error:  # whatever it is, the next way must be tried
            say(_redact(f"{when_done} by {way.name} failed: {_describe(error)}", environ))
            if _lacks_certificates(error):
                _install_certificates(say)
            continue
        say(_redact(f"{when_done} by {way.name} accepted: {answer}", environ))
        time.sleep(settle_s)


def ways(when_done: str, environ: dict[str, str]) -> Iterator[Way]:
    """Yield the ways to stop the pod, the best first."""
    pod_id = environ["RUNPOD_POD_ID"]
    new, old = ("stop", "stop") if when_done == "stop" else ("delete", "remove")
    yield Way(f"runpodctl pod {new}", lambda: _runpodctl(["pod", new, pod_id], environ))
    yield Way(f"runpodctl {old} pod", lambda: _runpodctl([old, "pod", pod_id], environ))
    yield Way("REST v2", lambda: _rest(when_done, pod_id, environ))
    yield Way("GraphQL", lambda: _graphql(when_done, pod_id, environ))


def _runpodctl(words: list[str], environ: dict[str, str]) -> str:
    program = shutil.which("runpodctl", path=environ.get("PATH")) or shutil.which("runpodctl")
    if program is None:
        raise FileNotFoundError("runpodctl is not installed")
    done = subprocess.run(
        [program, *words],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=_timeout_s(),
        check=False,
    )
    output = done.stdout.decode(errors="replace").strip()
    if done.returncode != 0:
        raise RuntimeError(f"exit code {done.returncode}: {output}")
    return output


def _rest(when_done: str, pod_id: str, environ: dict[str, str]) -> str:
    url = f"{environ.get('RUNPOD_API_URL') or 'https://api.runpod.io/v2'}/pods/{pod_id}"
    if when_done == "terminate":
        return _send("DELETE", url, None, environ)
    return _send("POST", f"{url}/action", {"action": "stop"}, environ)


def _graphql(when_done: str, pod_id: str, environ: dict[str, str]) -> str:
    url = environ.get("RUNPOD_GRAPHQL_URL") or "https://api.runpod.io/graphql"
    argument = f"(input: {{podId: {json.dumps(pod_id)}}})"
    if when_done == "terminate":
        query = f"mutation {{ podTerminate{argument} }}"
    else:
        query = f"mutation {{ podStop{argument} {{ id desiredStatus }} }}"
    answer = _send("POST", url, {"query": query}, environ)
    # RunPod facts: GraphQL reports most errors with HTTP status 200.
    if json.loads(answer).get("errors"):
        raise RuntimeError(answer)
    return answer


def _send(method: str, url: str, body: dict[str, Any] | None, environ: dict[str, str]) -> str:
    headers = {
        "Authorization": f"Bearer {environ.get('RUNPOD_API_KEY', '')}",
        "Content-Type": "application/json",
        "User-Agent": "podtasks",
    }
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=_timeout_s()) as response:
            answer: bytes = response.read(2000)
            return answer.decode(errors="replace")
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"HTTP {error.code}: {error.read(500).decode(errors='replace')}") from error


def _lacks_certificates(error: Exception) -> bool:
    reason = getattr(error, "reason", None)
    return isinstance(reason, ssl.SSLCertVerificationError) or "x509" in str(error)


@functools.lru_cache(maxsize=1)
def _install_certificates(say: Callable[[str], None]) -> None:
    # runpodctl issue 149: images without CA certificates cannot stop themselves.
    if shutil.which("apt-get") is None:
        return
    say("no CA certificates on this image: installing ca-certificates")
    script = "apt-get update -qq; apt-get install -y -qq ca-certificates"
    try:
        subprocess.run(["sh", "-c", script], stdin=subprocess.DEVNULL, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        say(f"installing ca-certificates failed: {error}")


def _timeout_s() -> float:
    return float(read_setting("PODTASKS_STOP_TIMEOUT_S", "30"))


def _describe(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _redact(line: str, environ: dict[str, str]) -> str:
    key = environ.get("RUNPOD_API_KEY")
    return line.replace(key, "***") if key else line


def _say(line: str) -> None:
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    print(f"{stamp} {line}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ("stop", "terminate"):
        sys.exit("usage: stop_pod.py stop|terminate")
    stop(sys.argv[1], _say)
