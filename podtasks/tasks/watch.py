"""`inv watch`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from invoke.context import Context
from invoke.exceptions import Exit

from podtasks.pure.errors import OutcomeUnknownError
from podtasks.tasks.entry import Project, open_project, task
from podtasks.tasks.keep import given_up, keep, make_ground, make_keeper, tell_finish
from podtasks.tasks.results import CLOUD_HELP, JSON_HELP, write_json, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from podtasks.flows.cloud import Cloud
    from podtasks.flows.keep_going import Keeper
    from podtasks.flows.watched import Watched

LEFT_ON_VOLUME = "What it wrote is on the volume; no pod of it is billed once it has stopped itself."


@task(
    help={
        **CLOUD_HELP,
        **JSON_HELP,
        "once": "look once, act if something is to be done, and end: for cron and timers",
        "adopt": "also keep a run going that was launched without --until-done",
    }
)
def watch(c: Context, once: bool = False, adopt: bool = False, json: bool = False, cloud: str = "") -> None:
    """Keep a training of inv train --until-done going, from any machine.

    A lost, preempted or failed run is started again from its newest checkpoint, within max_restarts, max_hours and
    max_cost_usd. Several watchers at once do no harm, and each may be killed at any time.
    """
    from podtasks.doors.runpod_sdk import import_in_background
    from podtasks.flows.watch import describe_nothing, find_newest

    project = open_project(c, {"cloud": cloud})
    account = _open(project)
    if account is None:
        _tell(json, describe_nothing(None, time.time()), "the local cloud does not run, so there is nothing to watch")
        return
    import_in_background()
    ground = make_ground(project, account)
    record = find_newest(ground)
    keeper, watched = _take(project, account, record, adopt=adopt)
    if watched is None:
        _tell(json, describe_nothing(record, time.time()), _tell_unwatched(record))
    elif once:
        _look_once(keeper, watched, json=json)
    else:
        _stay(project, account, keeper, watched, json=json)


def _tell_unwatched(record: Mapping[str, Any] | None) -> str:
    """Return why nothing is watched, in a line."""
    from podtasks.pure.reasons import describe_reason

    if record is None:
        return "there was no run yet"
    run = f"run {record.get('run_id')}"
    if record.get("ended_at") is not None and record.get("exit_code") == 0:
        return f"{run} is done ({describe_reason(record.get('reason')) or 'finished'}): there is nothing to watch"
    return f"{run} was not launched with --until-done: nothing is done; --adopt keeps it going"


def _open(project: Project) -> Cloud | None:
    """Return the cloud, None for a local one that does not run: that is not started only to be watched."""
    from podtasks.flows.cloud import is_local, local_was_started

    if is_local(project.settings, project.identity) and not local_was_started(project.files):
        return None
    return project.open_cloud()


def _take(project: Project, account: Cloud, record: Any, *, adopt: bool) -> tuple[Keeper, Watched | None]:  # noqa: ANN401
    """Return what keeps the newest run going, and that run; None for one that is not to be."""
    from podtasks.flows.watch import bounds_of
    from podtasks.flows.watched import from_record

    run_id = "" if record is None else str(record.get("run_id"))
    # A value that is missing here is an error now, not once a pod is lost.
    project.effective.require_secrets()
    bounds = bounds_of(project.settings, run_id) if adopt else None
    keeper = make_keeper(make_ground(project, account), bounds, lambda _: None)
    return keeper, None if record is None else from_record(record, bounds, None)


def _look_once(keeper: Keeper, watched: Watched, *, json: bool) -> None:
    from podtasks.flows.watch import describe
    from podtasks.pure.recovery import GiveUp, Relaunch, describe_use

    watched, decision = keeper.act_once(watched)
    document = describe(watched, decision, keeper.restarts, time.time())
    what = f"run {watched.run_id}: {document['state'].replace('_', ' ')}: {decision.reason}"
    if isinstance(decision, Relaunch):
        what = f"restarted as {watched.run_id}: {decision.reason}; {describe_use(decision.chain)}"
    _tell(json, document, what)
    if isinstance(decision, GiveUp):
        raise Exit(code=given_up(decision, means="").exit_code)


def _stay(project: Project, account: Cloud, keeper: Keeper, watched: Watched, *, json: bool) -> None:
    from podtasks.flows.watch import describe
    from podtasks.pure.recovery import GiveUp

    chain = watched.chain
    project.console.step(f"watching run {watched.run_id}, restart {chain.restarts} of at most {chain.max_restarts}")
    finish = keep(keeper, watched)
    _, outcome = tell_finish(project, account, finish)
    decision = finish.decision
    if json:
        write_json(describe(finish.watched, decision, keeper.restarts, time.time()))
    if isinstance(decision, GiveUp):
        raise given_up(decision, means=LEFT_ON_VOLUME)
    if outcome.exit_code != 0:
        raise Exit(code=OutcomeUnknownError.exit_code if outcome.exit_code is None else outcome.exit_code)


def _tell(json: bool, document: dict[str, Any], text: str) -> None:
    if json:
        write_json(document)
    else:
        write_text(text)
