"""Looking at one run from outside: its record and heartbeat on the volume, the API's word, the pod's own answer.

Each kind of question has its own patience; one that is not answered in time says nothing (pure/signs.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from podtasks.doors.at_once import ask_at_once
from podtasks.doors.clock import Clock
from podtasks.flows.cloud import Cloud
from podtasks.flows.connect import open_shell
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.shell_volume import ShellVolume
from podtasks.flows.stored_logs import VolumeReader, read_newest_record
from podtasks.flows.volume_store import open_s3_volume
from podtasks.pure.errors import PodtasksError, SshRefusedError, TransportError
from podtasks.pure.pod import Pod, PodStatus
from podtasks.pure.run_costs import ended_at
from podtasks.pure.run_ids import is_run_id
from podtasks.pure.signs import Life, Signs

# Between two looks at the volume; the API, which is rate-limited, is asked half as often.
PAUSE_S = 2.0
API_PAUSE_S = 4.0
VOLUME_PATIENCE_S = 6.0
POD_PATIENCE_S = 20.0
# One that the API does not know to run is mostly a host that is gone, where nothing refuses an attempt.
GONE_PATIENCE_S = 5.0
# The two signals need 12 s of heartbeat and 4 s of the API; slow answers may make it longer.
LOOK_S = 35.0
# Silent for so long, and at so many looks, a pod that the API calls running is stopped: then its word is true.
STUCK_S = 600.0
STUCK_LOOKS = 3

Result = TypeVar("Result")
# The newest run's record and heartbeat, where they are asked for, and what the guard says.
PodAnswer = tuple[Mapping[str, Any] | None, bytes | None, Mapping[str, Any]]


@dataclass(frozen=True)
class Sight:
    """What was seen of a run.

    Args:
        record: of the newest run on the volume, None where it could not be read.
        heartbeat: of the run, as read last.
        pod: the run's pod in the API's last reading, None where it is not there.
        silent_s: for how long heartbeat and SSH have both been silent though the API calls the pod running; 0 where
            any of the three could not be read, or there is no heartbeat: this machine may be what is cut off.
        silence_was_read: whether the heartbeat itself was read, so that its silence is known.
    """

    life: Life
    record: Mapping[str, Any] | None
    heartbeat: bytes | None
    pod: Pod | None
    silent_s: float
    silence_was_read: bool


class Lookout:
    """Watches the signs of one run.

    Args:
        run_id: whose signs; "" for whichever is the newest.
        pod_id: the id of its pod, "" where that is not known.
    """

    def __init__(self, cloud: Cloud, project: str, clock: Clock, run_id: str = "", pod_id: str = "") -> None:
        self._cloud = cloud
        self._project = project
        self._clock = clock
        self._run_id = run_id
        self._pod_id = pod_id
        # As it was last seen running: its address, and the key it must show.
        self._address: Pod | None = None
        self._pod: Pod | None = None
        self._api_answered = False
        self._signs = Signs()
        self._record: Mapping[str, Any] | None = None
        self._s3: VolumeReader | None = None
        self._s3_was_sought = False
        self._readable = False
        self._api_due = float("-inf")
        self._api_readings = 0

    def know_pod(self, pod: Pod) -> None:
        """Take a pod as it was read elsewhere: the address it answered at last."""
        if pod.ssh is not None and self._pod_id in ("", pod.id):
            self._address = pod

    def look(self, timeout_s: float = LOOK_S) -> Sight:
        """Look until the run is known to be alive, lost or ended, `timeout_s` seconds at most."""
        deadline = self._clock.now() + timeout_s
        self._signs = replace(self._signs, lives=False)
        while True:
            self._look_once()
            if self._is_settled():
                return self._tell()
            if self._clock.now() >= deadline:
                # A slow answer of another may have taken longer than a heartbeat does.
                self._read_volume()
                return self._tell()
            self._clock.sleep(PAUSE_S)

    def read_end(self, timeout_s: float) -> Mapping[str, Any] | None:
        """Return the run's record once it has an end; what is known of it where it gets none in time."""
        deadline = self._clock.now() + timeout_s
        while True:
            self._read_volume()
            if self._s3 is None or not self._readable:
                self._read_api()
                self._ask_pod()
            if self._is_over() or self._clock.now() >= deadline:
                return self._record
            self._clock.sleep(PAUSE_S / 2)

    def _look_once(self) -> None:
        self._read_volume()
        if self._is_settled():
            return
        if self._clock.now() >= self._api_due:
            self._read_api()
            self._ask_pod()

    def _is_settled(self) -> bool:
        return self._is_over() or self._signs.judge(heartbeat_readable=self._readable) is not Life.UNCLEAR

    def _is_over(self) -> bool:
        """Return whether the newest record answers all questions: the run's end, or another run after it."""
        if self._record is None:
            return False
        return ended_at(self._record) is not None or self._record.get("run_id") != self._run_id

    def _tell(self) -> Sight:
        return Sight(
            self._signs.judge(heartbeat_readable=self._readable),
            self._record,
            self._signs.heartbeat or None,
            self._pod,
            self._silent_s(),
            self._readable,
        )

    def _silent_s(self) -> float:
        is_up = self._api_answered and self._pod is not None and self._pod.status is PodStatus.RUNNING
        if not (is_up and self._readable and self._signs.heartbeat):
            return 0.0
        return min(streak.lasted_s if streak else 0.0 for streak in (self._signs.quiet, self._signs.unreachable))

    # The volume

    def _read_volume(self) -> None:
        """Read record and heartbeat by the S3 API, where there is one."""
        volume = self._find_s3()
        if volume is None:
            return
        answered, record = self._ask(lambda: read_newest_record(volume), VOLUME_PATIENCE_S)
        if answered:
            self._take_record(record)
            self._readable, beat = self._ask(lambda: self._read_heartbeat(volume), VOLUME_PATIENCE_S)
            if self._readable:
                self._signs = self._signs.hear_heartbeat(self._clock.now(), beat)
        else:
            self._readable = False

    def _find_s3(self) -> VolumeReader | None:
        if not self._s3_was_sought and self._cloud.s3_keys is not None:
            self._s3_was_sought, self._s3 = self._ask(lambda: open_s3_volume(self._cloud), POD_PATIENCE_S)
        return self._s3

    def _read_heartbeat(self, volume: VolumeReader) -> bytes | None:
        return volume.read(f"runs/{self._run_id}/heartbeat") if is_run_id(self._run_id) else None

    def _take_record(self, record: Mapping[str, Any] | None) -> None:
        if record is None:
            return
        self._record = record
        self._run_id = self._run_id or str(record.get("run_id"))
        if record.get("run_id") == self._run_id:
            self._pod_id = self._pod_id or str((record.get("pod") or {}).get("id") or "")

    # The API

    def _read_api(self) -> None:
        """Ask for the run's pod, by turns by its id and in the list: one of them alone may be wrong."""
        self._api_due = self._clock.now() + API_PAUSE_S
        self._api_readings += 1
        self._api_answered = False
        try:
            self._pod = self._find_pod()
        except PodtasksError:
            return
        self._api_answered = True
        runs = self._pod is not None and self._pod.status is PodStatus.RUNNING
        if self._pod is not None and runs and self._pod.ssh is not None:
            self._address = self._pod
        self._signs = self._signs.hear_api(self._clock.now(), runs=runs)

    def _find_pod(self) -> Pod | None:
        if self._pod_id and self._api_readings % 2:
            return self._cloud.api.find_pod(self._pod_id)
        pods = [pod for pod in self._cloud.api.list_pods() if self._pod_id == pod.id or pod.project == self._project]
        running = [pod for pod in pods if pod.status is PodStatus.RUNNING]
        if self._s3 is None and running:
            # Another watcher's new pod tells of the newest run as well.
            self._address = min(running, key=lambda pod: (pod.id != self._pod_id, pod.id))
        return next((pod for pod in pods if pod.id == self._pod_id), None if self._pod_id else self._address)

    # The pod

    def _ask_pod(self) -> None:
        """Ask the pod itself, at its last known address, whether it runs the run."""
        pod = self._address
        is_gone = self._signs.gone is not None and pod is not None and pod.id == self._pod_id
        patience_s = GONE_PATIENCE_S if is_gone else POD_PATIENCE_S
        answered, answer = self._ask(lambda: self._question_pod(pod), patience_s) if pod else (False, None)
        now = self._clock.now()
        if self._s3 is None:
            self._readable = answer is not None
        if not answered or pod is None:
            self._signs = self._signs.hear_pod(now, answered=False)
            return
        if answer is None:
            self._signs = self._signs.hear_nothing_of_it()
            return
        record, beat, guard = answer
        if self._s3 is None:
            self._take_record(record)
            self._signs = self._signs.hear_heartbeat(now, beat)
        lease = guard.get("lease") or {}
        if lease.get("kind") == "run" and lease.get("run_id") == self._run_id:
            self._signs = self._signs.hear_pod(now, answered=True)
        elif guard and not lease and pod.id == self._pod_id:
            self._signs = self._signs.hear_denial(now)
        else:
            self._signs = self._signs.hear_nothing_of_it()

    def _question_pod(self, pod: Pod) -> PodAnswer | None:
        """Return what the pod says; None where that tells nothing: it lets nobody in, or this machine is in trouble.

        Raises TransportError for a pod that is silent.
        """
        try:
            return self._read_pod(pod)
        except SshRefusedError:
            return None
        except TransportError:
            raise
        except Exception:
            # A key file that cannot be read, say, or a program that fails there.
            return None

    def _read_pod(self, pod: Pod) -> PodAnswer:
        with open_shell(self._cloud, pod) as shell:
            status = PodPrograms(shell, pod).ask("status.py", {"lines": 0})
            if self._s3 is not None:
                return None, None, status.get("guard") or {}
            volume = ShellVolume(shell, pod.mount_path)
            record = read_newest_record(volume)
            self._run_id = self._run_id or str((record or {}).get("run_id") or "")
            return record, self._read_heartbeat(volume), status.get("guard") or {}

    def _ask(self, question: Callable[[], Result], patience_s: float) -> tuple[bool, Result | None]:
        """Return whether a question was answered in time, and the answer.

        What a laptop asked before it slept tells nothing of the time after.
        """
        began = self._clock.now()
        ((_, answer),) = ask_at_once({"": lambda: (question(),)}, patience_s)
        in_time = self._clock.now() - began <= patience_s + PAUSE_S
        return (True, answer[0]) if in_time and isinstance(answer, tuple) else (False, None)
