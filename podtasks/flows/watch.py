"""What `inv watch` finds, and what it tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podtasks.doors import programs_here
from podtasks.flows.relaunch import Ground
from podtasks.flows.run_copies import PRIVATE
from podtasks.flows.sight import Lookout
from podtasks.flows.volume_store import explain_no_s3
from podtasks.flows.watch_notes import WatchNotes
from podtasks.flows.watched import Watched
from podtasks.pure.chain import Chain
from podtasks.pure.errors import SettingsError
from podtasks.pure.recovery import Decision, Done, GiveUp, Relaunch
from podtasks.pure.settings import Settings

NOTIFY_LIMIT_S = 20.0


def bounds_of(settings: Settings, run_id: str = "") -> Chain:
    """Return the bounds that the settings give a training that is to be kept going from here on."""
    return Chain(run_id, 0, 0.0, 0.0, settings.max_restarts, settings.max_hours, settings.max_cost_usd)


def find_newest(ground: Ground) -> Mapping[str, Any] | None:
    """Return the newest run's record: from the volume, else from a pod that runs, else as this machine knows it.

    None where there was no run yet. Raises SettingsError where that cannot be known: no S3 keys, no pod that runs, no
    run that was seen from here.
    """
    cloud = ground.cloud
    record = Lookout(cloud, ground.settings.project, ground.clock).read_end(0.0)
    if record is not None:
        return record
    record, why = WatchNotes(ground.files, cloud.name).read_record(), explain_no_s3(cloud)
    if record is not None:
        ground.report.note("the volume cannot be read from here: this goes by the run that was seen here last")
    elif why is not None:
        raise SettingsError(
            f"No pod of this project runs that answers, and its volume cannot be read from here: {why}.",
            means="Whether a training ended or was lost is not known. Nothing was done.",
            next_step="with S3 keys in .runpod.env, inv watch reads the volume from anywhere",
        )
    return record


def describe(watched: Watched, decision: Decision, restarts: list[str], now: float) -> dict[str, Any]:
    """Return the document of `inv watch --json` (docs/json.md)."""
    chain = decision.chain if isinstance(decision, Relaunch) else watched.chain
    states = {Relaunch: "restarted", Done: "done", GiveUp: "given_up"}
    return {
        "state": states.get(type(decision), "running"),
        "reason": decision.reason,
        "run_id": watched.run_id,
        "first_run": chain.first_run or watched.run_id,
        "pod_id": watched.pod_id or None,
        "exit_code": decision.exit_code if isinstance(decision, Done | GiveUp) else None,
        "next_step": decision.next_step if isinstance(decision, GiveUp) else None,
        "restarted_as": restarts[-1] if restarts else None,
        "restarts": chain.restarts,
        "max_restarts": chain.max_restarts,
        "used_hours": chain.used_hours,
        "max_hours": chain.max_hours,
        "used_usd": chain.used_usd,
        "max_cost_usd": chain.max_cost_usd,
        "time": now,
    }


def describe_nothing(record: Mapping[str, Any] | None, now: float) -> dict[str, Any]:
    """Return the same where nothing is watched: there is no run, or none that is to be kept going."""
    run_id = None if record is None else record.get("run_id")
    return {"state": "none" if record is None else "not_watched", "run_id": run_id, "time": now}


def tell_loss(ground: Ground, watched: Watched, decision: GiveUp) -> None:
    """Tell whoever the setting `notify` names that nobody starts a lost training again.

    Best effort: two watchers on two machines may both tell it.
    """
    target = ground.settings.notify
    if target is None:
        return
    public = {name: value for name, value in watched.record.items() if name not in PRIVATE}
    failure = {"kind": "given_up", "title": decision.reason + ".", "lines": [], "advice": [decision.next_step]}
    record = {**public, "run_id": watched.run_id, "reason": "pod lost", "failure": failure}
    outcome = programs_here.notify(target, "failed", record, NOTIFY_LIMIT_S)
    ground.report.step(f"notify: {outcome}")
