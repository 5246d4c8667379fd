#!/usr/bin/env python3
"""Tell whoever the setting `notify` names of a run's end ("ended", "failed"), "recovered" or "stalled".

    python3 notify.py EVENT RUN_DIR [KEY]

An https address gets {"event", "text", "content", "run"} by POST: `text` and `content` are the same one or two
sentences, under the names that chat services expect, `run` is the record without what is private. Anything
else is a command for `sh -c` in the clone, with the same JSON on its standard input and PODTASKS_EVENT,
PODTASKS_RUN_ID and PODTASKS_EXIT_CODE in its environment. What came of it is one JSON line on standard output;
nothing, where there was nothing to tell or it was told before. With a KEY, which stands for one of several events
of a kind, the record is read from standard input: the volume may hang just then.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import notifications
import notify_text
import run_record
import runs
from run_footer import one_line

ATTEMPT_S = 10.0
ALL_ATTEMPTS_S = 11.0
PAUSE_S = 0.5
MOST_DETAIL = 300


class Outcome(NamedTuple):
    """Whether a notification was taken, and what was answered; `again`: whether another attempt makes sense."""

    ok: bool
    detail: str
    again: bool = False


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: what follows one is a GET without the message, which would pass for a success."""

    def redirect_request(self, *_: object) -> None:
        """Return no request: the redirect is an error."""


def main() -> int:
    """Run the program."""
    event, run_dir, *key = sys.argv[1:]
    signal.alarm(int(notifications.LIMIT_S))  # a name server that hangs hangs this process
    record = runs.public(json.load(sys.stdin) if key else run_record.read(run_dir))
    lost = None
    if event == "recovered":
        lost = find_lost(record, os.path.dirname(os.path.abspath(run_dir)))
        if lost is None:
            return 0
    target = notifications.claim(record["run_id"], key[0] if key else event)
    if target is None:
        return 0
    text = notify_text.write(event, record, lost)
    outcome = tell(target, event, {"event": event, "text": text, "content": text, "run": record})
    detail = one_line(conceal(outcome.detail, target))[:MOST_DETAIL]
    print(json.dumps({"event": event, "ok": outcome.ok, "detail": detail, "at": time.time()}), flush=True)
    return 0


def find_lost(record: dict[str, Any], runs_folder: str) -> dict[str, Any] | None:
    """Return the run that this one takes up again: the last one of its checkpoints, if that was lost."""
    if not record.get("checkpoint"):
        return None
    for other in runs.newest_first(os.path.dirname(runs_folder), 20):
        is_older = runs.launched_at(other) < runs.launched_at(record) and other["run_id"] != record["run_id"]
        if not is_older or place_of(other) != place_of(record) or other.get("started_at") is None:
            continue
        return other if other.get("reason") in notify_text.LOST else None
    return None


def place_of(record: dict[str, Any]) -> tuple[object, object]:
    """Return where a run's checkpoints are."""
    return record.get("clone"), record.get("checkpoint_dir") or record.get("output_dir")


def tell(target: str, event: str, message: dict[str, Any]) -> Outcome:
    """Send the message to an address, or give it to a command."""
    data = json.dumps(message).encode()
    if re.match(r"https?://\S+$", target):
        return post(target, data)
    return run_command(target, event, message["run"], data)


def post(url: str, data: bytes) -> Outcome:
    """Post the message, again once if that may help."""
    deadline = time.monotonic() + ALL_ATTEMPTS_S
    outcome = attempt(url, data, ATTEMPT_S, None)
    if not outcome.again:
        return outcome
    time.sleep(PAUSE_S)
    left_s = deadline - time.monotonic()
    return attempt(url, data, min(ATTEMPT_S, left_s), None) if left_s > PAUSE_S else outcome


def attempt(url: str, data: bytes, timeout_s: float, context: ssl.SSLContext | None) -> Outcome:
    """Post the message once; with other certificates where the image has none."""
    headers = {"Content-Type": "application/json", "User-Agent": "podtasks"}
    request = urllib.request.Request(url, data=data, headers=headers, method="POST")
    try:
        opener = urllib.request.build_opener(NoRedirects, urllib.request.HTTPSHandler(context=context))
        with opener.open(request, timeout=timeout_s) as response:
            return Outcome(True, f"HTTP {response.status}")
    except urllib.error.HTTPError as error:
        text = error.read(MOST_DETAIL).decode(errors="replace")
        return Outcome(False, f"HTTP {error.code}: {text}", error.code in (408, 429) or error.code >= 500)
    except Exception as error:  # of urllib, http.client, ssl or socket: all the same to who waits
        bundled = find_certificates() if lacks_certificates(error) and context is None else None
        if bundled is not None:
            return attempt(url, data, timeout_s, bundled)
        return Outcome(False, f"{type(error).__name__}: {error}", True)


def lacks_certificates(error: Exception) -> bool:
    """Say whether the image has no CA certificates, as minimal ones do (runpodctl issue 149)."""
    return isinstance(getattr(error, "reason", None), ssl.SSLCertVerificationError)


def find_certificates() -> ssl.SSLContext | None:
    """Return the certificates that came with certifi or pip, None where there are none.

    Installing ca-certificates, as stop_pod.py does, takes longer than a notification may.
    """
    for folder in sys.path:
        for package in ("certifi", os.path.join("pip", "_vendor", "certifi")):
            with contextlib.suppress(OSError):  # ssl.SSLError is one
                return ssl.create_default_context(cafile=os.path.join(folder, package, "cacert.pem"))
    return None


def run_command(command: str, event: str, record: dict[str, Any], data: bytes) -> Outcome:
    """Run a shell command with the message on its standard input; kill it and all it started after 10 s."""
    exit_code = record.get("exit_code")
    names = {"EVENT": event, "RUN_ID": record["run_id"], "EXIT_CODE": "" if exit_code is None else exit_code}
    environ = {**os.environ, **{f"PODTASKS_{name}": str(value) for name, value in names.items()}}
    clone = str(record.get("clone") or "/")
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as output:
        source.write(data)
        source.seek(0)
        process = subprocess.Popen(
            ["sh", "-c", command],
            cwd=clone if os.path.isdir(clone) else "/",
            env=environ,
            stdin=source,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            process.wait(ATTEMPT_S)
        except subprocess.TimeoutExpired:
            run_record.kill_group(process.pid, 1)
            process.wait()
            return Outcome(False, f"killed after {ATTEMPT_S:g} s")
        return Outcome(process.returncode == 0, f"exit code {process.returncode}{last_words(output.fileno())}")


def last_words(descriptor: int) -> str:
    """Return the end of what a command wrote."""
    size = os.fstat(descriptor).st_size
    words = os.pread(descriptor, MOST_DETAIL, max(0, size - MOST_DETAIL)).decode(errors="replace").strip()
    return f": {words}" if words else ""


def conceal(detail: str, target: str) -> str:
    """Return a text without the addresses in `target`, which are secret."""
    for url in re.findall(r"https?://[^\s'\"]+", target):
        path = urlsplit(url)
        for part in (url, f"{path.path}?{path.query}" if path.query else path.path, path.query):
            if len(part) > 1:
                detail = detail.replace(part, "***")
    return detail


if __name__ == "__main__":
    sys.exit(main())
