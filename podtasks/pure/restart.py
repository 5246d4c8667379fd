"""A launch again: what the newest run's record says of how it was launched, as the launch of the run that goes on."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from podtasks.pure.chain import Chain, parse_chain
from podtasks.pure.recovery import hours_left, usd_left
from podtasks.pure.run import Checkpoint, Launch, Run, build_run_id, fill_resume_args
from podtasks.pure.secret import Secret


def parse_launch(record: Mapping[str, Any]) -> Launch:
    """Return the launch that a run's record is of, without what no record has: `notify`, `secrets`, `repository`.

    Raises ValueError where the record cannot be read so.
    """
    try:
        return _parse(record)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def parse_stored_run(record: Mapping[str, Any]) -> Run:
    """Given a record as it lies on the volume, return the run. Raises ValueError as `parse_launch`."""
    try:
        names = ("run_id", "log", "when_done", "output_dir")
        run_id, log, when_done, output_dir = (_required(record, name) for name in names)
        run_dir = str(record.get("run_dir") or f"{record['volume']}/runs/{run_id}")
        checkpoint = _parse_checkpoint(record)
        path = None if checkpoint is None else checkpoint.path
        return Run(run_id, run_dir, log, int(record["log_start"]), when_done, output_dir, path)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def build_restart(
    record: Mapping[str, Any],
    chain: Chain,
    now: datetime.datetime,
    *,
    repository: str | None,
    notify: str | None,
    secrets: Mapping[str, Secret],
) -> Launch:
    """Return the launch that takes the training up again after the run of this record, within what `chain` leaves.

    It resumes from the newest whole checkpoint, and from no older one than the run itself. Raises ValueError.
    """
    launch = parse_launch(record)
    return replace(
        launch,
        run_id=build_run_id(launch.config, launch.commit, now),
        repository=repository,
        force_restart=False,
        resume_from=None,
        at_least=_parse_checkpoint(record),
        max_hours=hours_left(chain),
        max_cost_usd=usd_left(chain),
        chain=chain,
        after_run=launch.run_id,
        notify=notify,
        secrets=secrets,
    )


def _parse(record: Mapping[str, Any]) -> Launch:
    checkpoint = _parse_checkpoint(record)
    resume_args = _required(record, "resume_args")
    python, *words = (str(word) for word in record["command"])
    resume = fill_resume_args(resume_args, checkpoint)
    if resume and tuple(words[-len(resume) :]) == resume:
        words = words[: -len(resume)]
    return Launch(
        run_id=_required(record, "run_id"),
        config=_required(record, "config"),
        volume=_required(record, "volume"),
        clone=_required(record, "clone"),
        code=_required(record, "code"),
        branch=_required(record, "branch"),
        commit=_required(record, "commit"),
        repository=None,
        output_dir=_required(record, "output_dir"),
        logging_dir=_text(record.get("logging_dir")),
        checkpoint_dir=str(record.get("checkpoint_dir") or record["output_dir"]),
        checkpoint_pattern=_required(record, "checkpoint_pattern"),
        resume_args=resume_args,
        resume_from=_text(record.get("resume_from")),
        force_restart=bool(record["force_restart"]),
        python=python,
        words=tuple(words),
        requirements=_text(record.get("requirements")),
        venv=_required(record, "venv"),
        links={str(name): str(folder) for name, folder in record["links"].items()},
        env={str(name): str(value) for name, value in (record.get("script_env") or {}).items()},
        when_done=_required(record, "when_done"),
        max_hours=float(record["max_hours"]),
        stop_grace_s=float(record["stop_grace_s"]),
        max_cost_usd=None if record.get("max_cost_usd") is None else float(record["max_cost_usd"]),
        keep_failed_s=float(record.get("keep_failed_s") or 0.0),
        stall_minutes=float(record.get("stall_minutes") or 0.0),
        on_stall=str(record.get("on_stall") or "notify"),
        chain=parse_chain(record.get("chain")),
        after_run=_text(record.get("after_run")),
    )


def _parse_checkpoint(record: Mapping[str, Any]) -> Checkpoint | None:
    found = record.get("checkpoint")
    if not found:
        return None
    step = found.get("step")
    return Checkpoint(str(found["path"]), None if step is None else int(step))


def _required(record: Mapping[str, Any], name: str) -> str:
    value = record[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}")
    return value


def _text(value: object) -> str | None:
    return None if value is None else str(value)
