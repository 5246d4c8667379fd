"""Starting a training again after a run that is lost or failed, on whichever pod is to be had, from the volume."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from podtasks.doors import local_git, ssh
from podtasks.doors.clock import Clock
from podtasks.doors.console import Reporter
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import Cloud
from podtasks.flows.end_marks import was_called_off
from podtasks.flows.launched import Launched
from podtasks.flows.place import build_pod_plan, find_place
from podtasks.flows.pod_programs import PodPrograms
from podtasks.flows.shell_volume import ShellVolume
from podtasks.flows.stored_logs import read_newest_record
from podtasks.flows.train import NotNeededError, start_training
from podtasks.pure.chain import Chain
from podtasks.pure.errors import PodtasksError, RemoteCommandError
from podtasks.pure.plan import Plan
from podtasks.pure.pod import Pod
from podtasks.pure.recovery import Relaunch, decide
from podtasks.pure.restart import build_restart
from podtasks.pure.run import Launch
from podtasks.pure.run_costs import ended_at
from podtasks.pure.run_facts import read_facts
from podtasks.pure.secret import Secret
from podtasks.pure.settings import Settings
from podtasks.pure.signs import QUIET_READINGS, QUIET_S, Life, Signs

BEAT_PAUSE_S = 4.0


@dataclass(frozen=True)
class Ground:
    """What all parts of keeping a training going stand on.

    Args:
        secrets: returns the values of the setting `secrets`.
        wall: returns seconds since 1970.
    """

    cloud: Cloud
    settings: Settings
    files: ProjectFiles
    report: Reporter
    clock: Clock
    secrets: Callable[[], Mapping[str, Secret]]
    wall: Callable[[], float]


def relaunch(ground: Ground, run_id: str, chain: Chain, *, still_beat: bytes | None) -> Launched:
    """Launch the training of run `run_id` again, whose own chain is `chain`, and return the new run.

    What is launched is read from the volume by the pod itself, where the decision is made once more from what stands
    there. `still_beat`: the heartbeat that stood still; where the pod reads another, or None is known, it first looks
    for itself whether that one stands still: a second pod must never train beside the first.
    Raises NotNeededError when the run ended well or lives, or another one came after it; OvertakenError and
    PodHeldError when another watcher is faster; else what a launch raises.
    """
    cloud, settings = ground.cloud, ground.settings
    secrets = ground.secrets()
    if cloud.mount_path:
        settings = settings.model_copy(update={"mount_path": cloud.mount_path})
    plan = Plan(
        **vars(build_pod_plan(settings, cloud, find_place(cloud, settings))),
        launch=_guess(run_id),
        commit_subject="",
        forward_agent=settings.forward_agent,
        notes=(),
    )

    def settle(launch: Launch, pod: Pod, shell: ssh.PodShell) -> Launch:
        record, heartbeat = _read(ground, pod, shell, run_id, still_beat)
        now = ground.wall()
        decision = decide(read_facts(record, chain, now, heartbeat=heartbeat), Life.LOST)
        called_off = was_called_off(ground.files, cloud.name, record)
        if called_off or not isinstance(decision, Relaunch):
            raise NotNeededError(record, is_alive=False)
        moment = datetime.datetime.fromtimestamp(now, datetime.timezone.utc)
        try:
            built = build_restart(
                record,
                decision.chain,
                moment,
                repository=settings.repository,
                notify=settings.notify,
                secrets=secrets,
            )
        except ValueError as error:
            raise _unreadable(run_id, str(error)) from error
        return replace(built, run_id=built.run_id + launch.run_id)

    root = local_git.find_root(ground.files.root)
    return start_training(plan, cloud, root, ground.files, ground.report, ground.clock, settle=settle)


def _guess(run_id: str) -> Launch:
    """Return a launch that stands for the one that is known once the pod has read the record."""
    return Launch(
        run_id="",
        config="",
        volume="",
        clone="",
        code="local",
        branch="",
        commit="",
        repository=None,
        output_dir="",
        checkpoint_dir="",
        checkpoint_pattern="",
        resume_args="",
        resume_from=None,
        force_restart=False,
        python="",
        words=(),
        requirements=None,
        venv="",
        links={},
        env={},
        when_done="",
        max_hours=0.0,
        stop_grace_s=0.0,
        after_run=run_id,
    )


def _read(
    ground: Ground, pod: Pod, shell: ssh.PodShell, run_id: str, still_beat: bytes | None
) -> tuple[Mapping[str, Any], bytes | None]:
    """Return the run's record and heartbeat from the pod's volume. Raises NotNeededError for one that lives."""
    volume = ShellVolume(shell, pod.mount_path)
    record = read_newest_record(volume)
    if record is None:
        raise _unreadable(run_id, f"pod {pod.id} sees no run on its volume")
    if record.get("run_id") != run_id:
        raise NotNeededError(record, is_alive=ended_at(record) is None)
    place = f"runs/{run_id}/heartbeat"
    heartbeat = volume.read(place)
    if ended_at(record) is not None:
        return record, heartbeat
    lease = (PodPrograms(shell, pod).ask("status.py", {"lines": 0}).get("guard") or {}).get("lease") or {}
    is_still = still_beat is not None and heartbeat == still_beat
    if lease.get("run_id") == run_id or (not is_still and _beats(ground.clock, volume, place, heartbeat)):
        raise NotNeededError(record, is_alive=True)
    return record, heartbeat


def _beats(clock: Clock, volume: ShellVolume, place: str, heartbeat: bytes | None) -> bool:
    """Return whether the heartbeat changes within the time in which it would."""
    signs = Signs().hear_heartbeat(clock.now(), heartbeat)
    for _ in range(max(QUIET_READINGS, int(QUIET_S / BEAT_PAUSE_S))):
        clock.sleep(BEAT_PAUSE_S)
        signs = signs.hear_heartbeat(clock.now(), volume.read(place))
        if signs.lives:
            return True
    return False


def _unreadable(run_id: str, why: str) -> PodtasksError:
    return RemoteCommandError(
        f"The record of run {run_id} does not tell how it was launched: {why}.",
        means="Nothing was launched.",
        next_step="inv train --until-done with the same configuration goes on from the newest checkpoint",
    )
