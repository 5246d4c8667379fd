"""Everything that can be checked before money is spent, and the plan that comes of it."""

from __future__ import annotations

import datetime
import functools
import os
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from podtasks.doors import local_git
from podtasks.doors.project_files import ProjectFiles
from podtasks.flows.cloud import Cloud
from podtasks.flows.findings import Findings
from podtasks.flows.place import Place, build_pod_plan, check_place
from podtasks.pure.budget import warn_budget
from podtasks.pure.errors import CodeError, ConfigError, UsageError
from podtasks.pure.plan import Plan
from podtasks.pure.pod_path import is_inside
from podtasks.pure.run import Launch, build_run_id, build_words
from podtasks.pure.secret import Secret
from podtasks.pure.setting_types import keep_s
from podtasks.pure.settings import Settings
from podtasks.pure.training_config import (
    TrainingConfig,
    available_configs,
    checkpoint_directory,
    parse_training_config,
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class TrainRequest:
    """What the user asked of one `inv train`, besides the settings."""

    config: str
    force_restart: bool = False
    resume_from: str | None = None
    branch: str | None = None


def make_plan(
    request: TrainRequest,
    settings: Settings,
    files: ProjectFiles,
    open_cloud: Callable[[], Cloud],
    now: datetime.datetime,
    *,
    cloud_is_free: bool,
    require_secrets: Callable[[], Mapping[str, Secret]] = dict,
) -> tuple[Plan, Cloud]:
    """Check what can be checked for nothing and return the plan, with the cloud it is for.

    `cloud_is_free` says that the cloud itself cannot be at fault, so that it need not be opened to report
    what else is wrong. `require_secrets` returns what the training alone may see, or raises SettingsError.
    Raises every problem found at once; nothing was created.
    """
    require_config_name(request.config, files)
    findings = Findings()
    config = findings.check(lambda: read_config(request.config, settings, files))
    revision = findings.check(lambda: find_revision(request, settings, files))
    findings.check(lambda: require_known_host(settings))
    secrets = findings.check(require_secrets)
    if revision:
        check_files(findings, revision, settings)
    if config and revision:
        findings.check(lambda: _require_in_commit(revision, config.path))
        # Built here for its problems; the launch itself waits for the cloud, which may know the mount path better.
        findings.check(lambda: build_launch(request, settings, config, revision, now))
    if cloud_is_free:
        findings.raise_any()
    cloud, place = check_place(findings, open_cloud, settings)
    findings.raise_any()
    assert config and revision and cloud and place
    if cloud.mount_path:
        settings = settings.model_copy(update={"mount_path": cloud.mount_path})
    launch = replace(build_launch(request, settings, config, revision, now), secrets=secrets or {})
    return _build_plan(settings, cloud, place, launch, revision), cloud


def require_config_name(name: str, files: ProjectFiles) -> None:
    """Raise UsageError, with the configurations there are, when none was named."""
    if not name:
        raise UsageError(
            "train needs a configuration.",
            next_step="inv train --config NAME, --config after the word train; "
            + available_configs(files.config_names()),
        )


def read_config(name: str, settings: Settings, files: ProjectFiles) -> TrainingConfig:
    """Read a training configuration. Raises ConfigError for a bad file."""
    path = files.root / name
    relative = _relative_to_root(path, files.root)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        raise ConfigError(f"{name} {reason}.", next_step=available_configs(files.config_names(), name)) from error
    return parse_training_config(
        text, relative, settings.output_dir, settings.logging_dir, mount_path=settings.mount_path
    )


def build_launch(
    request: TrainRequest,
    settings: Settings,
    config: TrainingConfig,
    revision: local_git.Revision,
    now: datetime.datetime,
) -> Launch:
    """Return what is to be trained and how."""
    return Launch(
        run_id=build_run_id(config.path, revision.commit, now),
        config=config.path,
        volume=settings.mount_path,
        clone=settings.clone_path,
        code=revision.code,
        branch=revision.branch,
        commit=revision.commit,
        repository=settings.repository,
        output_dir=str(Path(settings.clone_path) / config.output_dir),
        logging_dir=str(Path(settings.clone_path) / config.logging_dir) if config.logging_dir else None,
        checkpoint_dir=checkpoint_directory(settings, config, revision.branch),
        checkpoint_pattern=settings.checkpoint_pattern,
        resume_args=settings.resume_args,
        resume_from=request.resume_from,
        force_restart=request.force_restart,
        python=settings.python,
        words=build_words(settings.script, settings.config_flag, config.path, settings.args),
        requirements=settings.requirements,
        venv=settings.venv,
        links=settings.links,
        env=settings.pod_environment(),
        when_done=settings.when_done,
        max_hours=settings.max_hours,
        stop_grace_s=settings.stop_grace_s,
        notify=settings.notify,
        max_cost_usd=settings.max_cost_usd,
        keep_failed_s=keep_s(settings.on_failure),
        stall_minutes=settings.stall_minutes,
        on_stall=settings.on_stall,
    )


def _relative_to_root(path: Path, root: Path) -> str:
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except ValueError as error:
        raise ConfigError(
            f"{path} is outside this project.",
            means="The pod has only what is in the project's git repository.",
            next_step=f"move it below {root}",
        ) from error


def find_revision(request: TrainRequest, settings: Settings, files: ProjectFiles) -> local_git.Revision:
    """Return the exact code that would be trained. Raises CodeError where it is not what the user sees here."""
    root = local_git.find_root(files.root)
    if not root.samefile(files.root):
        raise CodeError(
            f"This project is in {files.root}, a folder inside the git repository {root}.",
            means="The pod's clone is the whole repository, so podtasks works only at its top. No pod was created.",
            next_step=f"move tasks.py, invoke.yaml and configs/ to {root}, or give this folder its own repository "
            "with git init",
        )
    return local_git.resolve_revision(
        root,
        settings.code_source,
        request.branch,
        settings.branch,
        settings.repository,
        data_folders=[os.path.normpath(path) for path in {**settings.links, **settings.data}],
    )


def require_known_host(settings: Settings) -> None:
    """Raise CodeError where the pod could not check the host key of the repository it fetches from."""
    if settings.code_source == "origin" and settings.repository:
        local_git.known_host_lines(settings.repository)


def check_files(findings: Findings, revision: local_git.Revision, settings: Settings) -> None:
    """Look for the files that the settings name, where the clone and no link from the volume holds them."""
    named = {"script": settings.script}
    if settings.requirements and settings.requirements != Settings.model_fields["requirements"].default:
        named["requirements"] = settings.requirements
    for setting, path in named.items():
        if not any(is_inside(path, link) for link in settings.links):
            findings.check(functools.partial(_require_in_commit, revision, path, setting))


def _require_in_commit(revision: local_git.Revision, path: str, setting: str = "") -> None:
    if local_git.path_exists_at(revision.root, revision.commit, path) is False:
        named = f" (the setting {setting})" if setting else ""
        correct = f", or correct podtasks.{setting} in invoke.yaml" if setting else ""
        raise CodeError(
            f"{path}{named} is not in commit {revision.commit[:10]}, which is what the pod gets.",
            means="No pod was created.",
            next_step=f"git add {shlex.quote(path)} && git commit, or take it along with --code snapshot{correct}",
        )


def _build_plan(settings: Settings, cloud: Cloud, place: Place, launch: Launch, revision: local_git.Revision) -> Plan:
    pod_plan = build_pod_plan(settings, cloud, place)
    return Plan(
        **vars(pod_plan),
        launch=launch,
        commit_subject=revision.message,
        forward_agent=settings.forward_agent,
        notes=(*revision.notes, *warn_budget(launch, pod_plan.prices)),
    )
