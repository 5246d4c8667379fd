"""The local cloud: starting the emulator as a program of its own, and its control routes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from podtasks.doors.clock import Clock, WaitTimeoutError, growing_pauses, wait_until
from podtasks.pure.errors import CloudError
from podtasks.pure.secret import Secret

START_TIMEOUT_S = 30


@dataclass(frozen=True)
class LocalCloud:
    """A running emulator."""

    url: str
    pid: int
    key: Secret
    volume_id: str
    data_center: str
    sandbox: str
    ssh_user: str
    s3_keys: tuple[Secret, Secret] | None = None

    def ask(self, route: str, body: Mapping[str, Any] | None = None, timeout_s: float = 30) -> Any:  # noqa: ANN401
        """Call a control route (POST with a body, else GET) and return its JSON.

        Raises CloudError when the emulator does not answer.
        """
        request = urllib.request.Request(
            f"{self.url}/_cloud/{route}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.key.reveal()}", "Content-Type": "application/json"},
        )
        try:
            with _open_without_proxy(request, timeout_s) as answer:
                return json.loads(answer.read() or b"null")
        except (OSError, ValueError) as error:
            raise _no_answer(self.url, error) from error


def find(state_folder: Path) -> LocalCloud | None:
    """Return the local cloud that runs on this state folder, None when none answers."""
    try:
        told = json.loads((state_folder / "server.json").read_text())
        cloud = LocalCloud(
            told["url"],
            told["pid"],
            Secret(told["key"]),
            told["volume_id"],
            told["data_center"],
            told["sandbox"],
            # An emulator that an earlier version left running tells less.
            told.get("ssh_user", "root"),
            (Secret(told["s3_access_key"]), Secret(told["s3_secret_key"])) if "s3_access_key" in told else None,
        )
        cloud.ask("status", timeout_s=5)
    except (OSError, ValueError, KeyError, TypeError, CloudError):
        return None
    return cloud


def start(state_folder: Path, clock: Clock, *, hidden: Collection[str] = ()) -> LocalCloud:
    """Start the emulator on this state folder and return it once it answers.

    `hidden` names the variables that it does not inherit: it outlives the command, and needs nobody's keys.
    It is a daemon of its own, which ends by itself when no pod runs and nobody calls. Raises CloudError
    with what it wrote when it does not come up.
    """
    state_folder.mkdir(parents=True, exist_ok=True)
    log_path = state_folder / "emulator.log"
    with open(log_path, "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "podtasks.emulator", "--state", str(state_folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
            env=_environment(hidden),
        )

    def look() -> LocalCloud | None:
        found = find(state_folder)
        if found is None and process.poll() is not None:
            raise _did_not_start(log_path)
        return found

    try:
        cloud = wait_until(
            look,
            lambda found: found is not None,
            timeout_s=START_TIMEOUT_S,
            pauses=growing_pauses(0.02, 1.3, 0.3),
            clock=clock,
        )
    except WaitTimeoutError as error:
        os.killpg(process.pid, signal.SIGTERM)
        raise _did_not_start(log_path) from error
    assert cloud is not None
    return cloud


def shut_down(cloud: LocalCloud) -> None:
    """End the local cloud and its pods; its volumes stay on the disk."""
    cloud.ask("shutdown", {"pods": "stop"})


def _environment(hidden: Collection[str]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return {**kept, "PYTHONPATH": _with_package(os.environ.get("PYTHONPATH", ""))}


def _with_package(python_path: str) -> str:
    package_root = str(Path(__file__).resolve().parent.parent.parent)
    return os.pathsep.join(part for part in (package_root, python_path) if part)


def _open_without_proxy(request: urllib.request.Request, timeout_s: float) -> Any:  # noqa: ANN401
    # A proxy set for the outside world must not get calls for this machine.
    return urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=timeout_s)


def _no_answer(url: str, error: Exception) -> CloudError:
    detail = error.read().decode("utf-8", "replace") if isinstance(error, urllib.error.HTTPError) else error
    return CloudError(
        f"The local cloud at {url} gave no usable answer: {detail}.",
        means="Nothing costs money on the local cloud; its volumes are kept.",
        next_step="inv cloud down, then try again",
    )


def _did_not_start(log_path: Path) -> CloudError:
    tail = log_path.read_text(errors="replace")[-2000:].strip()
    return CloudError(
        f"The local cloud did not start. Its last words:\n{tail}",
        next_step=f"look into {log_path}; if it names a pid that already serves, end that process (its pods stay) "
        "and try again",
    )
