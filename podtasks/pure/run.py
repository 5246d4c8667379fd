"""A training run: its id, the request that launches it on a pod, and the record it leaves."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from podtasks.pure.chain import Chain
from podtasks.pure.errors import RemoteCommandError
from podtasks.pure.pod import Pod
from podtasks.pure.run_ids import is_run_id
from podtasks.pure.secret import Secret
from podtasks.pure.shell import split_args


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint on the volume."""

    path: str
    step: int | None


@dataclass(frozen=True)
class Launch:
    """What is to be trained, and how: everything but the pod it runs on.

    Args:
        volume: where the volume is mounted on the pod.
        clone: the clone's folder there.
        output_dir: where training writes, absolute.
        logging_dir: where it writes its event files, absolute, where the configuration says so.
        checkpoint_dir: where checkpoints are looked for, absolute.
        words: the training command without its interpreter and without the resume flag.
        resume_args: shell words that tell the script to resume; `{checkpoint}` stands for the path.
        max_hours: how long the run may take before the pod is stopped.
        notify: the address or shell command that hears of the run's end, which may be secret.
        max_cost_usd: how much the run may cost at its pod's price, None for no limit.
        keep_failed_s: how long the pod is kept after a failure.
        stall_minutes: after how long without log and GPU use the run counts as stalled; 0 for never.
        on_stall: what follows then, `notify` or `stop`.
        secrets: variables for the training that are written to the container disk only.
        chain: what it knows of the runs before it, where it is to be kept going until it is done.
        after_run: the id of the run that must still be the newest on the volume; None: any may be.
        at_least: the checkpoint that an earlier run of the same training began from; an older one is not resumed from.
    """

    run_id: str
    config: str
    volume: str
    clone: str
    code: str
    branch: str
    commit: str
    repository: str | None
    output_dir: str
    checkpoint_dir: str
    checkpoint_pattern: str
    resume_args: str
    resume_from: str | None
    force_restart: bool
    python: str
    words: tuple[str, ...]
    requirements: str | None
    venv: str
    links: Mapping[str, str]
    env: Mapping[str, str] = field(repr=False)
    when_done: str
    max_hours: float
    stop_grace_s: float
    logging_dir: str | None = None
    notify: str | None = field(default=None, repr=False)
    max_cost_usd: float | None = None
    keep_failed_s: float = 0.0
    stall_minutes: float = 0.0
    on_stall: str = "notify"
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    chain: Chain | None = None
    after_run: str | None = None
    at_least: Checkpoint | None = None


def build_run_id(config: str, commit: str, now: datetime.datetime) -> str:
    """Return a run's name: configuration, UTC time, commit; safe in shells, paths and tmux."""
    stem = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(config).stem.lower()).strip("-")[:40] or "run"
    return f"{stem}-{now:%Y%m%d-%H%M%S}-{commit[:7]}"


def build_words(script: str, config_flag: str, config: str, args: str) -> tuple[str, ...]:
    """Return the training command: script, configuration, and the user's own arguments.

    A `config_flag` that ends in "=" is joined to the path; an empty one makes it positional.
    """
    flag = [config_flag] if config_flag and not config_flag.endswith("=") else []
    path = config_flag + config if config_flag.endswith("=") else config
    return (script, *flag, path, *split_args(args))


def fill_resume_args(resume_args: str, checkpoint: Checkpoint | None) -> tuple[str, ...]:
    """Return the words that tell the script to resume from `checkpoint`; none without one."""
    if checkpoint is None:
        return ()
    return tuple(word.replace("{checkpoint}", checkpoint.path) for word in split_args(resume_args))


def build_run_request(launch: Launch, pod: Pod, checkpoint: Checkpoint | None, token: str) -> dict[str, Any]:
    """Return the question to remote/launch.py (remote/README.md). `token` is the guard's leave to launch."""
    resume = fill_resume_args(launch.resume_args, checkpoint)
    return {
        "run_id": launch.run_id,
        "config": launch.config,
        "clone": launch.clone,
        "commit": launch.commit,
        "branch": launch.branch,
        "code": launch.code,
        "command": [launch.python, *launch.words, *resume],
        "script_env": dict(launch.env),
        "output_dir": launch.output_dir,
        "logging_dir": launch.logging_dir,
        "checkpoint_dir": launch.checkpoint_dir,
        "checkpoint_pattern": launch.checkpoint_pattern,
        "checkpoint": None if checkpoint is None else {"path": checkpoint.path, "step": checkpoint.step},
        "force_restart": launch.force_restart,
        "resume_from": launch.resume_from,
        "resume_args": launch.resume_args,
        "requirements": launch.requirements,
        "venv": launch.venv,
        "python": launch.python,
        "links": dict(launch.links),
        "pod": {"id": pod.id, "gpu": pod.gpu, "usd_per_hour": pod.usd_per_hour},
        "when_done": launch.when_done,
        "max_hours": launch.max_hours,
        "stop_grace_s": launch.stop_grace_s,
        "token": token,
        "notify": launch.notify,
        "volume": launch.volume,
        "max_cost_usd": launch.max_cost_usd,
        "keep_failed_s": launch.keep_failed_s,
        "stall_minutes": launch.stall_minutes,
        "on_stall": launch.on_stall,
        "secrets": {name: value.reveal() for name, value in launch.secrets.items()},
        "chain": None if launch.chain is None else launch.chain.to_json(),
        "after_run": launch.after_run,
    }


@dataclass(frozen=True)
class Run:
    """A run that was launched: enough to follow it, and to say what becomes of its pod and its outputs.

    Args:
        checkpoint: the path of the one it began from, None for a fresh start.
        keep_failed_s: how long its pod is kept for a look when it fails.
    """

    run_id: str
    run_dir: str
    log: str
    log_start: int
    when_done: str
    output_dir: str
    checkpoint: str | None = field(default=None, compare=False)
    keep_failed_s: float = field(default=0.0, compare=False)


def parse_run(answer: Mapping[str, Any]) -> Run:
    """Given a run record, or launch.py's answer with what was asked of it, return the run.

    Raises RemoteCommandError for a record that makes no sense: it comes from the volume, where anybody's code writes.
    """
    names = ("run_id", "run_dir", "log", "log_start", "when_done", "output_dir")
    try:
        run_id, run_dir, log, log_start, when_done, output_dir = (answer[name] for name in names)
        checkpoint = (answer.get("checkpoint") or {}).get("path")
        kept_s = float(answer.get("keep_failed_s") or 0)
        texts = (str(run_id), str(run_dir), str(log), int(log_start), str(when_done), str(output_dir))
        run = Run(*texts, checkpoint, kept_s)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _senseless_record(answer.get("run_id")) from error
    # It becomes the name of a folder here.
    if not is_run_id(run.run_id):
        raise _senseless_record(run.run_id)
    return run


def _senseless_record(run_id: object) -> RemoteCommandError:
    return RemoteCommandError(
        f"The record of run {str(run_id)[:60]!r} on the volume makes no sense.",
        means="Its training, if it still runs, goes on; the pod stops itself at its end.",
        next_step="inv status shows what runs; inv stop ends it",
    )


def find_differences(launch: Launch, record: Mapping[str, Any]) -> list[str]:
    """Return in what a recorded run is another training than `launch`; [] when it is the same."""
    found = record.get("checkpoint")
    resume = fill_resume_args(launch.resume_args, Checkpoint(found["path"], None) if found else None)
    checks = {
        "configuration": record.get("config") == launch.config,
        "commit": record.get("commit") == launch.commit,
        # Pipelines derive their output directory from the branch's name.
        "branch": record.get("branch") == launch.branch,
        "arguments": record.get("command") == [launch.python, *launch.words, *resume],
        "--force-restart": not launch.force_restart,
        "--resume-from": launch.resume_from is None,
    }
    return [name for name, same in checks.items() if not same]
